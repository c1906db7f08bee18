"""A simulation's record comes in; operations and energy per image, with their assumptions, go out."""

from .energy import (
    ANALOG,
    ASSUMPTIONS,
    HOROWITZ_45NM_FP32,
    Cost,
    EnergyConstants,
    EnergyEstimate,
    OperationCost,
    SiteCost,
    estimate_energy,
)

__all__ = [
    "ANALOG",
    "ASSUMPTIONS",
    "HOROWITZ_45NM_FP32",
    "Cost",
    "EnergyConstants",
    "EnergyEstimate",
    "OperationCost",
    "SiteCost",
    "estimate_energy",
]
