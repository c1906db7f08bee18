from __future__ import annotations

import pytest
import torch
from torch import nn

import mst
from counted_by_hand import Hand, HandProduct
from mst.errors import InputError
from mst.measure import count_effective_macs
from mst.neurons import QCFS
from mst.operations import Operation, trace_operations


def operations_of(model: nn.Module, images: torch.Tensor) -> tuple[Operation, ...]:
    return trace_operations(mst.convert(model, "lossless", images).network, images[:1], any_function=True).operations


def test_effective_macs_leave_out_zeros_of_activations() -> None:
    images = torch.tensor([[1.0, 0.5], [0.0, 0.1], [0.0, 0.0]])
    model = Hand().eval()
    counted = count_effective_macs(model, operations_of(model, images), images)
    # inputs: 2 + 1 + 0 reach 2 outputs; activations: 2 (0.5 is a level) + 0 (0.1 is rounded to 0) + 0 reach 3
    assert counted == {"first": pytest.approx(3 * 2 / 3), "last": pytest.approx(2 * 3 / 3)}


def test_effective_macs_of_a_product_need_both_operands() -> None:
    x = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]])
    model = HandProduct().eval()
    counted = count_effective_macs(model, operations_of(model, x), x)
    q, k = x[0, 0] != 0, x[0, 1] != 0
    by_hand = sum(int(q[i, d] and k[j, d]) for i in range(2) for j in range(2) for d in range(2))
    assert counted["product"] == by_hand == 3
    assert counted["last"] == 2  # the product has one column that is not 0, in two rows


def test_effective_macs_without_zeros_are_the_dense_count() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 2, stride=2, groups=2), QCFS(4, 1.0), nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        for each in (model[0], model[3]):
            each.weight.fill_(1.0)
            each.bias.zero_()
    images = torch.rand(3, 2, 4, 4) + 1
    operations = operations_of(model, images)
    counted = count_effective_macs(model, operations, images, batch_size=2)
    assert counted == {op.name: op.dense_macs for op in operations}


def test_effective_macs_of_masked_activations_are_left_out_alike_in_any_batch() -> None:
    images = torch.full((8, 2), 3.0)
    model = Hand(masking_ratio=0.5).eval()
    operations = operations_of(model, images)
    counts = [count_effective_macs(model, operations, images, batch_size=size)["last"] for size in (1, 8)]
    assert counts[0] == counts[1] < 6
    assert counts[0] > 0


def test_effective_macs_refuse_another_network_and_no_images() -> None:
    operations = operations_of(Hand().eval(), torch.rand(1, 2))
    with pytest.raises(InputError, match="no such module; give the ANN that was converted"):
        count_effective_macs(nn.Sequential(nn.Linear(2, 2)), operations, torch.rand(1, 2))
    with pytest.raises(InputError, match="no images"):
        count_effective_macs(Hand(), operations, torch.rand(0, 2))
