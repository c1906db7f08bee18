"""Pre-activations or input currents come in; quantised activations or spikes go out."""

from .activation import QCFS, name_sites
from .functional import (
    MIN_THRESHOLD,
    check_masking_ratio,
    count_spikes,
    drop_spikes,
    if_run,
    if_run_,
    if_step,
    initial_membrane_potential,
    keep_mask,
    qcfs,
)
from .integrate_and_fire import IFNeuron
from .max_pool import MAX_POOLS, SpikingMaxPool
from .run_state import RunState, SiteCounts, current_run, running

__all__ = [
    "MAX_POOLS",
    "MIN_THRESHOLD",
    "QCFS",
    "IFNeuron",
    "RunState",
    "SiteCounts",
    "SpikingMaxPool",
    "check_masking_ratio",
    "count_spikes",
    "current_run",
    "drop_spikes",
    "if_run",
    "if_run_",
    "if_step",
    "initial_membrane_potential",
    "keep_mask",
    "name_sites",
    "qcfs",
    "running",
]
