"""Pre-activations or input currents come in; quantised activations or spikes go out."""

from .activation import QCFS
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
    sum_dtype,
)
from .integrate_and_fire import IFNeuron
from .masks import (
    MASK_RULES,
    ChannelMask,
    Layout,
    MaskRule,
    RandomMask,
    SpikeMask,
    TokenMask,
    channel_axes,
    make_mask,
    mask_from_dict,
)
from .max_pool import MAX_POOLS, SpikingMaxPool
from .powers import count_powers, largest_powers, nearest_power
from .precision import full_precision
from .run_state import BEFORE_FIRST_STEP, NotRunningError, RunState, SiteCounts, begin_run, current_run, running
from .schedule import (
    DEFAULT_SCHEDULE,
    SCHEDULES,
    FiringSchedule,
    ScheduleName,
    check_burst,
    halving_weights,
    named_schedule,
)
from .signed import count_signed_spikes, free_quanta, signed_if_step
from .signed_integrate_and_fire import SignedIFNeuron
from .sites import ALL_SITES, SITE_GROUPS, find_sites, limit_powers, mask_spikes, select_sites, set_levels
from .spiking import SpikingNeuron

__all__ = [
    "ALL_SITES",
    "BEFORE_FIRST_STEP",
    "DEFAULT_SCHEDULE",
    "MASK_RULES",
    "MAX_POOLS",
    "MIN_THRESHOLD",
    "QCFS",
    "SCHEDULES",
    "SITE_GROUPS",
    "ChannelMask",
    "FiringSchedule",
    "IFNeuron",
    "Layout",
    "MaskRule",
    "NotRunningError",
    "RandomMask",
    "RunState",
    "ScheduleName",
    "SignedIFNeuron",
    "SiteCounts",
    "SpikeMask",
    "SpikingMaxPool",
    "SpikingNeuron",
    "TokenMask",
    "begin_run",
    "channel_axes",
    "check_burst",
    "check_masking_ratio",
    "count_powers",
    "count_signed_spikes",
    "count_spikes",
    "current_run",
    "drop_spikes",
    "find_sites",
    "free_quanta",
    "full_precision",
    "halving_weights",
    "if_run",
    "if_run_",
    "if_step",
    "initial_membrane_potential",
    "keep_mask",
    "largest_powers",
    "limit_powers",
    "make_mask",
    "mask_from_dict",
    "mask_spikes",
    "named_schedule",
    "nearest_power",
    "qcfs",
    "running",
    "select_sites",
    "set_levels",
    "signed_if_step",
    "sum_dtype",
]
