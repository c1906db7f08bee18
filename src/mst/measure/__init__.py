"""A simulation's record comes in; operations and energy per image, with their assumptions, go out."""

from .energy import (
    ASSUMPTIONS,
    HOROWITZ_45NM_FP32,
    Cost,
    EnergyConstants,
    EnergyEstimate,
    OperationCost,
    estimate_energy,
)

__all__ = [
    "ASSUMPTIONS",
    "HOROWITZ_45NM_FP32",
    "Cost",
    "EnergyConstants",
    "EnergyEstimate",
    "OperationCost",
    "estimate_energy",
]
