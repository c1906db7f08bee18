"""A simulation's record comes in; operations and energy per image, with their assumptions, go out."""

from .energy import (
    ANALOG,
    HOROWITZ_45NM_FP32,
    Cost,
    EnergyConstants,
    EnergyEstimate,
    OperationCost,
    SiteCost,
    check_can_be_priced,
    estimate_energy,
)
from .throughput import measure_throughput

__all__ = [
    "ANALOG",
    "HOROWITZ_45NM_FP32",
    "Cost",
    "EnergyConstants",
    "EnergyEstimate",
    "OperationCost",
    "SiteCost",
    "check_can_be_priced",
    "estimate_energy",
    "measure_throughput",
]
