from __future__ import annotations

import pytest
import torch
from torch import nn

import mst
from mst.errors import InputError
from mst.neurons import QCFS, begin_run, running


def test_qcfs_module_has_the_released_defaults() -> None:
    site = QCFS()
    assert (site.num_levels, site.threshold.tolist(), site.masking_ratio) == (16, [2.0], 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be at least 1"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"masking_ratio": 1.0}, "masking_ratio is the fraction dropped"),
        ({"masking_ratio": 75.0}, "for 75 % write 0.75"),
        ({"layout": "NCHW"}, "unknown layout 'NCHW'; choose from channels_first, channels_last, heads, or None"),
        ({"rows_per_image": 0}, "rows_per_image must be at least 1, got 0"),
    ],
)
def test_qcfs_module_value_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QCFS(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_qcfs_module_masks_in_training_and_in_evaluation_without_rescaling(training: bool) -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.75).train(training)
    y = site(torch.full((100, 100), 0.5))
    assert set(y.unique().tolist()) == {0.0, 0.5}
    assert (y > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_qcfs_module_masks_repeat_inside_a_run_and_differ_between_calls_outside() -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.5)
    x = torch.full((4, 50), 0.5)
    with running(begin_run(site, seed=1, batch_size=4)):
        first, second = site(x), site(x)
    assert torch.equal(first, second)
    assert not torch.equal(site(x), site(x))


def test_qcfs_module_masked_elements_get_no_gradient() -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.5)
    x = torch.full((200,), 0.5, requires_grad=True)
    y = site(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, y != 0)


def test_site_with_levels_below_zero_is_carried_by_signed_neurons_alone() -> None:
    site = QCFS(8, 1.0, min_level=-3)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[None]
    assert float(site.double()(x).detach().min()) == -3 / 8
    assert "min_level=-3" in repr(site)
    model = nn.Sequential(nn.Identity(), site)
    with pytest.raises(
        mst.ConversionError, match="1: levels down to -3, which rate coding does not carry; choose lossless"
    ):
        mst.convert(model, "rate", x)
    snn = mst.convert(model, "lossless", x, burst=2)
    result = mst.simulate(snn, x, 40)
    assert result.num_settled == 1
    assert torch.equal(result.logits, site(x).detach())
    with pytest.raises(InputError, match="min_level must be"):
        QCFS(8, min_level=1)
