"""Pre-activations or input currents come in; quantised activations or spikes go out."""

from .activation import QCFS, name_sites
from .functional import (
    MIN_THRESHOLD,
    check_masking_ratio,
    count_signed_spikes,
    count_spikes,
    drop_spikes,
    if_run,
    if_run_,
    if_step,
    initial_membrane_potential,
    keep_mask,
    qcfs,
    signed_if_step,
)
from .integrate_and_fire import IFNeuron
from .max_pool import MAX_POOLS, SpikingMaxPool
from .precision import full_precision
from .run_state import RunState, SiteCounts, current_run, running
from .schedule import (
    DEFAULT_SCHEDULE,
    SCHEDULES,
    FiringSchedule,
    ScheduleName,
    check_burst,
    halving_weights,
    named_schedule,
)
from .signed_integrate_and_fire import SignedIFNeuron
from .spiking import SpikingNeuron

__all__ = [
    "DEFAULT_SCHEDULE",
    "MAX_POOLS",
    "MIN_THRESHOLD",
    "QCFS",
    "SCHEDULES",
    "FiringSchedule",
    "IFNeuron",
    "RunState",
    "ScheduleName",
    "SignedIFNeuron",
    "SiteCounts",
    "SpikingMaxPool",
    "SpikingNeuron",
    "check_burst",
    "check_masking_ratio",
    "count_signed_spikes",
    "count_spikes",
    "current_run",
    "drop_spikes",
    "full_precision",
    "halving_weights",
    "if_run",
    "if_run_",
    "if_step",
    "initial_membrane_potential",
    "keep_mask",
    "name_sites",
    "named_schedule",
    "qcfs",
    "running",
    "signed_if_step",
]
