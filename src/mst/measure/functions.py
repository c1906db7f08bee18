"""Functions between the sites, priced by their elementary operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mst.operations import Function, FunctionCount
from mst.simulation import SimulationResult

from .cost_models import CostModel
from .costs import Cost, Operations
from .memory import Sizes

FUNCTION_ASSUMPTIONS = (
    "A function (GELU, softmax, LayerNorm, a gate, a product of two activations element by element) is its elementary "
    "operations: exp, reciprocals, roots, multiplications, additions, comparisons. What is linear in the activations "
    "(sums, means, products with constants) is not counted, nor what only selects (where, masks).",
    "Under rate coding every function is computed at every step. Under lossless coding it is computed again only for "
    "the elements whose input has changed; where a row shares a statistic (softmax, norms), for the rows in which "
    "anything has; a divisor that has changed costs one reciprocal, however many elements it divides. It is not "
    "computed before a site that reads it may fire.",
)
"""Assumptions behind the rows of functions."""


@dataclass(frozen=True)
class FunctionCost:
    """One row: a function between the sites, and its cost per image in the SNN and in the ANN."""

    name: str
    """Module path and function, see `mst.operations.Function`."""

    function: str
    """Function of torch."""

    snn: Cost
    """In the SNN, over all steps that an image took."""

    ann: Cost
    """In the ANN, which computes it once."""

    evaluations: float
    """Times that the SNN computes an element of it, mean over images and elements. At every step it would be the
    number of steps that an image took."""

    kind: str = "function"
    """Tells the rows of functions from those of operations."""

    operation: str = ""
    """Operation in whose row it has a price too, 3 MACs per element: a softmax or LayerNorm that is a module."""


def function_rows(
    result: SimulationResult, cost_model: CostModel, operations: Mapping[str, tuple[Cost, Cost]]
) -> tuple[FunctionCost, ...]:
    """A row for each function.

    Args:
        result: of the simulation.
        cost_model: energy of the elementary operations. Where it lacks one that a softmax or LayerNorm needs which has
            a row among the operations, that row's price stands for it.
        operations: operation -> its cost in the SNN and in the ANN.

    Raises:
        InputError: the cost model has no energy for an operation of another function.
    """
    return tuple(_row(count, result, cost_model, operations) for count in result.functions)


def has_only_the_price_of_its_operation(function: Function, cost_model: CostModel) -> bool:
    """True if the model lacks an elementary operation of a softmax or LayerNorm that has a row among the operations."""
    kinds = function.elementary(function.elements, function.shared)
    return bool(function.operation) and not all(map(cost_model.knows, kinds))


def check_functions(functions: Sequence[Function], cost_model: CostModel) -> None:
    """Check that a cost model can price these functions.

    Raises:
        InputError: it has no energy for an elementary operation of one.
    """
    for function in functions:
        if not has_only_the_price_of_its_operation(function, cost_model):
            cost_model.price(Operations(function.elementary(function.elements, function.shared)))


def _row(
    count: FunctionCount, result: SimulationResult, cost_model: CostModel, operations: Mapping[str, tuple[Cost, Cost]]
) -> FunctionCost:
    function, images = count.function, result.num_images
    elements, shared = function.elements * result.mean_steps, function.shared * result.mean_steps
    if count.elements_per_step is not None and count.shared_per_step is not None:
        elements, shared = int(count.elements_per_step.sum()) / images, int(count.shared_per_step.sum()) / images
    once = function.elementary(function.elements, function.shared)
    if has_only_the_price_of_its_operation(function, cost_model):
        snn, ann = operations[function.operation]
    else:
        snn = cost_model.price(Operations(function.elementary(elements, shared)))
        ann = cost_model.price(Operations(once))
    evaluations = elements / function.elements if function.elements else 0.0
    return FunctionCost(function.name, function.key[1], snn, ann, evaluations, operation=function.operation)


def energy_by_step(
    per_step: Mapping[str, Tensor], num_images: int, cost_model: CostModel, sizes: Sizes | None = None
) -> Tensor:
    """float64 [T]: energy in pJ per image of each step.

    Args:
        per_step: kind of operation -> float64 [T], their number in each step, summed over images. A kind that does not
            occur needs no price.
        num_images: N.
        cost_model: prices.
        sizes: words in the memories that are used.

    Raises:
        InputError: the model has no energy for a kind that occurs.
    """
    occurring = {kind: numbers for kind, numbers in per_step.items() if bool(numbers.any())}
    priced = [numbers * (cost_model.energy_of(kind, sizes) / num_images) for kind, numbers in occurring.items()]
    return sum(priced, torch.zeros(len(next(iter(per_step.values()))), dtype=torch.float64))


def function_by_step(
    count: FunctionCount, result: SimulationResult, cost_model: CostModel, operations: Mapping[str, Tensor]
) -> Tensor:
    """float64 [T]: energy in pJ per image that the SNN spends on a function in each step.

    Args:
        count: of the function.
        result: of the simulation.
        cost_model: prices, see `function_rows`.
        operations: operation -> its own energy in each step, float64 [T].
    """
    function = count.function
    if has_only_the_price_of_its_operation(function, cost_model):
        return operations[function.operation]
    images = result.images_per_step.double()
    elements, shared = function.elements * images, function.shared * images
    if count.elements_per_step is not None and count.shared_per_step is not None:
        elements, shared = count.elements_per_step.double(), count.shared_per_step.double()
    per_step = dict.fromkeys(function.elementary(1, 1), torch.zeros_like(images))
    for numbers, per_one in ((elements, function.elementary(1, 0)), (shared, function.elementary(0, 1))):
        for kind, number in per_one.items():
            per_step[kind] = per_step[kind] + number * numbers
    return energy_by_step(per_step, result.num_images, cost_model)
