"""MACs that an ANN spends if it skips those in which an activation is 0.

Letters: B images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mst.data import ImageData, batches_of
from mst.distributed import gather_values
from mst.errors import InputError
from mst.models import ActivationProduct, NetworkInput
from mst.neurons import begin_run, running
from mst.operations import Operation, outputs_reached

COUNTED = ("linear", "convolution", "product")
"""Kinds of operations whose zeros can be skipped."""


def count_effective_macs(
    ann: nn.Module,
    operations: Iterable[Operation],
    data: ImageData,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """MACs per image in which no activation is 0; a MAC of a product is left out if either of its operands is.

    Args:
        ann: the network that was converted.
        operations: those of the SNN, `[count.operation for count in result.operations]`.
        data: the images, as for `mst.evaluate`; labels are not used.
        batch_size, num_workers: as for `mst.evaluate`.
        seed: of the masks; a masked activation is 0.

    Returns:
        Linear map, convolution or product -> MACs per image, mean over the images.

    Raises:
        InputError: no images, or a network without a module of an operation.
    """
    wanted = {(op.module, op.call_number): op for op in operations if op.kind in COUNTED}
    reading = batches_of(data, batch_size, num_workers)
    totals, seen, intake, was_training = Counter[str](), 0, NetworkInput(ann), ann.training
    ann.eval()
    try:
        with torch.no_grad():
            for images, _ in reading.batches:
                if not len(images):
                    continue
                first = reading.first_image + seen
                shown = intake.take(images, first)
                run = begin_run(ann, seed=seed, batch_size=len(images), first_image=first)
                with _counting(ann, wanted, totals), running(run), intake.shown(shown):
                    ann(shown)
                seen += len(images)
    finally:
        ann.train(was_training)
    parts = gather_values((totals, seen)) if reading.is_share else [(totals, seen)]
    number = sum(each for _, each in parts)
    if not number:
        raise InputError("there are no images to count")
    return {op.name: sum(part[op.name] for part, _ in parts) / number for op in wanted.values()}


@contextmanager
def _counting(ann: nn.Module, wanted: Mapping[tuple[str, int], Operation], totals: Counter[str]) -> Iterator[None]:
    """Hooks on the maps and products of a network, for one pass."""
    calls: Counter[str] = Counter()

    def hook_of(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[path] += 1
            op = wanted.get((path, calls[path]))
            if op is not None:
                totals[op.name] += effective_macs(op, module, [x for x in (*args, *kwargs.values()) if _is_tensor(x)])

        return hook

    with ExitStack() as stack:
        for path in dict.fromkeys(path for path, _ in wanted):
            try:
                module = ann.get_submodule(path)
            except AttributeError as error:
                remedy = "give the ANN that was converted"
                raise InputError("the network has no such module", where=path, remedy=remedy) from error
            stack.callback(module.register_forward_pre_hook(hook_of(path), with_kwargs=True).remove)
        yield


def _is_tensor(x: object) -> bool:
    return isinstance(x, Tensor)


def effective_macs(op: Operation, module: nn.Module, inputs: list[Tensor]) -> int:
    """MACs of one call without those in which an activation is 0.

    Args:
        op: the operation.
        module: its module.
        inputs: tensors of the call, [B, ...].
    """
    nonzero = (inputs[0] != 0).double()
    if isinstance(module, ActivationProduct):
        right = (inputs[1] != 0).double().sum(dim=-2 if module.transpose_right else -1)
        return int((nonzero.sum(dim=-2) * right).sum())
    if op.mean_fan_out is not None:
        return round(float(nonzero.sum() * op.mean_fan_out))
    reached = outputs_reached(module, 0, inputs, op.output_places, op.padding)
    if isinstance(reached, int):
        return int(nonzero.sum()) * reached
    return int((nonzero * reached.to(nonzero)).sum())
