"""Counted operations come in; energy per image, with its assumptions, goes out."""

from .algorithms import FP16, FP32, INT8, Algorithm, Precision, table_algorithms
from .cost_models import (
    AC,
    COST_MODELS,
    HOROWITZ_45NM_FP16,
    HOROWITZ_45NM_FP32,
    HOROWITZ_45NM_INT8,
    MAC,
    Cost,
    CostModel,
    Operations,
    cost_model_named,
    energy_unit,
    readable_energy,
    register_cost_model,
)
from .energy import (
    ANALOG,
    MAP_KINDS,
    EnergyEstimate,
    OperationCost,
    Part,
    SiteCost,
    check_can_be_priced,
    estimate_energy,
)
from .functions import FunctionCost
from .throughput import (
    measure_throughput,
)

__all__ = [
    "AC",
    "ANALOG",
    "COST_MODELS",
    "FP16",
    "FP32",
    "HOROWITZ_45NM_FP16",
    "HOROWITZ_45NM_FP32",
    "HOROWITZ_45NM_INT8",
    "INT8",
    "MAC",
    "MAP_KINDS",
    "Algorithm",
    "Cost",
    "CostModel",
    "EnergyEstimate",
    "FunctionCost",
    "OperationCost",
    "Operations",
    "Part",
    "Precision",
    "SiteCost",
    "check_can_be_priced",
    "cost_model_named",
    "energy_unit",
    "estimate_energy",
    "measure_throughput",
    "readable_energy",
    "register_cost_model",
    "table_algorithms",
]
