"""Counted operations come in; energy per image, with its assumptions, its baselines and a verdict, goes out."""

from .algorithms import FP16, FP32, INT8, Algorithm, Precision, neuron_algorithms, table_algorithms
from .alpha_watts import ALPHA_WATTS, AlphaWatts
from .baselines import Baseline
from .budget import AXES, Axis, BudgetRow, MaskSaving, budget_by, budget_by_step, mask_savings, price_rows
from .cost_model_files import read_cost_model
from .cost_models import COST_MODELS, CostModel, cost_model_named, register_cost_model
from .costs import Cost, Operations, Part, energy_unit, readable_energy
from .effective_macs import count_effective_macs
from .energy import EnergyEstimate, OperationCost, SiteCost, check_can_be_priced, estimate_energy
from .functions import FunctionCost
from .kinds import (
    AC,
    ACTIVATION_WRITE,
    BESIDE,
    CURRENT_ADDITION,
    INPUT_READ,
    MAC,
    MASK_DRAW,
    MEMBRANE_READ,
    MEMBRANE_WRITE,
    NEURON_UPDATE,
    SPIKE,
    THRESHOLD_COMPARISON,
)
from .memory import Memory, Sizes
from .neurobench import harness_model, neurobench_fields
from .published import (
    HOROWITZ_45NM_FP16,
    HOROWITZ_45NM_FP32,
    HOROWITZ_45NM_INT8,
    MEMORY_45NM,
    MOVEMENT_22NM_DENSE,
    MOVEMENT_22NM_SPARSE,
    SRAM_45NM,
    movement_22nm,
)
from .rows import ANALOG, MAP_KINDS, CountRow, count_rows, stage_of
from .throughput import measure_throughput
from .verdict import THRESHOLDS, Threshold, Verdict, break_even_mac, verdict_on

__all__ = [
    "AC",
    "ACTIVATION_WRITE",
    "ALPHA_WATTS",
    "ANALOG",
    "AXES",
    "BESIDE",
    "COST_MODELS",
    "CURRENT_ADDITION",
    "FP16",
    "FP32",
    "HOROWITZ_45NM_FP16",
    "HOROWITZ_45NM_FP32",
    "HOROWITZ_45NM_INT8",
    "INPUT_READ",
    "INT8",
    "MAC",
    "MAP_KINDS",
    "MASK_DRAW",
    "MEMBRANE_READ",
    "MEMBRANE_WRITE",
    "MEMORY_45NM",
    "MOVEMENT_22NM_DENSE",
    "MOVEMENT_22NM_SPARSE",
    "NEURON_UPDATE",
    "SPIKE",
    "SRAM_45NM",
    "THRESHOLDS",
    "THRESHOLD_COMPARISON",
    "Algorithm",
    "AlphaWatts",
    "Axis",
    "Baseline",
    "BudgetRow",
    "Cost",
    "CostModel",
    "CountRow",
    "EnergyEstimate",
    "FunctionCost",
    "MaskSaving",
    "Memory",
    "OperationCost",
    "Operations",
    "Part",
    "Precision",
    "SiteCost",
    "Sizes",
    "Threshold",
    "Verdict",
    "break_even_mac",
    "budget_by",
    "budget_by_step",
    "check_can_be_priced",
    "cost_model_named",
    "count_effective_macs",
    "count_rows",
    "energy_unit",
    "estimate_energy",
    "harness_model",
    "mask_savings",
    "measure_throughput",
    "movement_22nm",
    "neurobench_fields",
    "neuron_algorithms",
    "price_rows",
    "read_cost_model",
    "readable_energy",
    "register_cost_model",
    "stage_of",
    "table_algorithms",
    "verdict_on",
]
