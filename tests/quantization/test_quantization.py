"""Any network with ReLU-like activations: every use becomes a site, and nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune

import mst
from mst.neurons import QCFS, find_sites
from mst.quantization import calibrate, quantization_of, set_thresholds


class Functional(nn.Module):
    """ReLU in every spelling, one of them shared, one in place, with dropout that follows the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = self.act(self.again(x))
        x = self.act(self.again(x) + x)
        x = torch.relu(x - 0.1).relu()
        x = (x - 0.05).clamp(min=0)
        x = F.dropout(x, 0.5, self.training)
        return self.head(F.relu6(x.mean((2, 3))))


def images(n: int = 16, channels: int = 1, size: int = 6) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def fine(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy quantised so finely that it should equal the original."""
    return mst.quantize(model.eval(), 2**14, [x], threshold_from="max").eval()


def test_quantize_gives_every_use_of_a_relu_a_site_of_its_own() -> None:
    model = Functional()
    quantized = mst.quantize(model, 8)
    assert list(find_sites(quantized)) == ["act", "relu", "act_2", "relu_2", "relu_3", "relu_4", "relu_5"]
    assert isinstance(quantized, Functional)
    assert not find_sites(model)
    assert all(site.num_levels == 8 for site in find_sites(quantized).values())
    assert not any(isinstance(module, nn.ReLU) for module in quantized.modules())


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "functional": Functional,
    "timm": lambda: timm.create_model("resnet18_small", width=4, in_chans=1),
    "torchvision": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 1), torchvision.models.shufflenet_v2_x0_5(num_classes=3, weights=None)
    ),
    "densenet": lambda: torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_quantize_with_many_levels_changes_nothing_but_the_activations(name: str) -> None:
    model = NETWORKS[name]().double().eval()
    x = images(8, 3 if name == "densenet" else 1, 32 if name != "functional" else 6).double()
    quantized = fine(model, x)
    torch.testing.assert_close(quantized(x), model(x), rtol=2e-2, atol=2e-3)
    thresholds = {f"{site}.threshold" for site in find_sites(quantized)}
    assert set(quantized.state_dict()) == set(model.state_dict()) | thresholds
    copied = copy.deepcopy(quantized)
    assert torch.equal(copied(x), quantized(x))


def test_quantize_keeps_what_differs_between_training_and_evaluation() -> None:
    quantized = mst.quantize(Functional(), 8)
    x = images()
    assert torch.equal(quantized.eval()(x), quantized(x))
    torch.manual_seed(0)
    first = quantized.train()(x)
    torch.manual_seed(1)
    assert not torch.equal(first, quantized(x))  # dropout
    assert quantized.norm.num_batches_tracked == 2


def test_quantize_an_activation_in_place_changes_what_later_readers_see() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=True)
            self.map = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.map(x)
            y: Tensor = self.map(self.act(x))
            F.relu_(y)
            return x + y

    model = InPlace().double()
    x = torch.randn(32, 4).double()
    torch.testing.assert_close(fine(model, x)(x), model(x), rtol=1e-2, atol=1e-3)


def test_quantize_replaces_a_custom_activation_by_name_or_by_what_it_does() -> None:
    class Leaky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.maximum(x, 0.1 * x)

    class Clamped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(0, 2.0)

    model = nn.Sequential(nn.Linear(4, 4), Leaky(), nn.Linear(4, 4), Clamped(), nn.GELU())
    assert list(find_sites(mst.quantize(model))) == ["3.relu"]
    quantized = mst.quantize(model, also=(Leaky, nn.GELU))
    assert list(find_sites(quantized)) == ["1", "3.relu", "4"]
    noted = quantization_of(quantized)
    assert noted is not None
    assert noted.also == ("GELU", "Leaky")
    assert noted.caps == {"3.relu": 2.0}


def test_quantize_a_threshold_does_not_exceed_where_the_activation_saturates() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU6())
    x = 20 * torch.rand(64, 5)
    for how in ("max", "least_squares", "percentile"):
        quantized = mst.quantize(model, 8, [x], threshold_from=how)
        assert 5.0 < quantized[1].threshold.item() <= 6.001, how


def test_quantize_takes_thresholds_from_the_images_as_asked() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.randn(400, 3, 5, 5) * torch.tensor([1.0, 2.0, 8.0])[:, None, None]
    batches = [x[:100], x[100:]]
    largest = mst.quantize(model, 8, batches, threshold_from="max")
    assert largest[1].threshold.item() == float(x.max())
    most = mst.quantize(model, 8, batches, threshold_from="percentile", percentile=90.0)
    assert most[1].threshold.item() == pytest.approx(float(x[x > 0].quantile(0.9)), rel=1e-3)
    least = mst.quantize(model, 8, [(x, torch.zeros(400))])
    assert most[1].threshold.item() < least[1].threshold.item() < largest[1].threshold.item()
    each = mst.quantize(
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), 8, batches, threshold_from="max", per_channel=True
    )
    assert each[1].threshold.shape == (3, 1, 1)
    tokens = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    assert mst.quantize(tokens, 8, [x], per_channel=True)[1].threshold.shape == (7,)


def test_quantize_replaces_max_pools_where_asked() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    assert isinstance(mst.quantize(model)[2], nn.MaxPool2d)
    pool = mst.quantize(model, max_pool="average")[2]
    assert isinstance(pool, nn.AvgPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding, pool.count_include_pad) == (3, 2, 1, True)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(2, 2), {}, "Linear has no ReLU-like activation to replace"),
        (nn.Sequential(nn.GELU()), {}, "no ReLU-like activation.*also="),
        (nn.Sequential(nn.ReLU()), {"num_levels": 0}, "num_levels must be at least 1"),
        (nn.Sequential(nn.ReLU()), {"max_pool": "median"}, "max_pool must be one of keep, average, got 'median'"),
        (nn.Sequential(nn.ReLU()), {"max_pool": "average"}, "max_pool='average' has no effect: Sequential has no"),
        (nn.Sequential(nn.ReLU()), {"per_channel": True}, "set from images; give calibration"),
        (nn.Sequential(nn.Linear(1, 1), nn.ReLU()), {"calibration": []}, "no images to calibrate with"),
        (
            nn.Sequential(nn.Linear(1, 1), nn.ReLU()),
            {"calibration": [torch.ones(2, 1)], "threshold_from": "median"},
            "threshold_from must be one of least_squares, max, percentile, got 'median'",
        ),
        (
            nn.Sequential(nn.Linear(1, 1), nn.ReLU()),
            {"calibration": [torch.ones(2, 1)], "percentile": 0.0},
            r"percentile must be in \(0, 100\]",
        ),
        (
            nn.Sequential(nn.Linear(1, 1), nn.ReLU()),
            {"calibration": [torch.ones(2, 1)], "percentile": 90.0},
            "percentile 90.0 has no effect with threshold_from='least_squares'; give threshold_from='percentile' too",
        ),
        (nn.Sequential(QCFS()), {}, "has QCFS sites already"),
        (
            nn.Sequential(nn.Linear(1, 1)),
            {"placement": "none", "calibration": torch.ones(3, 1)},
            "calibration would have no effect with placement='none'",
        ),
    ],
)
def test_quantize_bad_input_is_refused(model: nn.Module, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.quantize(model, **options)  # type: ignore[arg-type]


def test_set_thresholds_reports_sites_that_keep_their_threshold(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.ModuleDict({"used": QCFS(), "unused": QCFS(), "map": nn.Linear(1, 1)})
    model.forward = lambda x: model["used"](x - 10)  # type: ignore[method-assign, assignment]
    set_thresholds(model, [torch.ones(2, 1)], {})
    assert "unused takes no part" in caplog.text
    assert "used receives no value above 0" in caplog.text
    assert model["used"].threshold.item() == 2.0


def test_quantize_follows_arguments_that_may_be_missing() -> None:
    class Shortcut(nn.Module):
        """As in DLA: one ReLU used twice, and a second argument that may be None."""

        def __init__(self) -> None:
            super().__init__()
            self.map, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor, shortcut: Tensor | None = None, scale: float = 1.0) -> Tensor:
            if shortcut is None:
                shortcut = x
            x = self.relu(self.map(x))
            return self.relu(self.map(x) + shortcut) * scale

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Shortcut(), Shortcut()

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x, shortcut=-x, scale=0.5) + self.b.map(x)

    model, x = Outer().double(), torch.randn(32, 4).double()
    quantized = fine(model, x)
    assert list(find_sites(quantized)) == ["a.relu", "a.relu_2", "b.relu", "b.relu_2"]
    torch.testing.assert_close(quantized(x), model(x), rtol=1e-2, atol=1e-3)


def test_quantize_keeps_buffers_counters_and_chance_alive() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))
            self.map = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.map(F.relu(x - self.mean.view(1, 3)))

    class Noisy(Centred):
        def forward(self, x: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return self.map(F.relu(x)) * (torch.rand(3) if self.training else 1.0)

    x = torch.rand(16, 3)
    quantized = mst.quantize(Centred(), 8, [x])
    quantized.mean.fill_(2.0)
    assert torch.equal(quantized(x), quantized.map.bias.expand(16, 3))
    quantized.double()(x.double())
    model = Noisy()
    quantized = mst.quantize(model)
    assert not hasattr(model, "calls")
    assert not hasattr(quantized, "calls")
    quantized(x)
    torch.manual_seed(0)
    assert not torch.equal(quantized(x), quantized(x))
    assert quantized.calls == 3
    quantized.eval()
    assert torch.equal(quantized(x), quantized(x))


def test_quantize_refuses_a_network_that_would_compute_something_else() -> None:
    class Outside(nn.Module):
        """An activation in place that changes what another name shows."""

        def __init__(self) -> None:
            super().__init__()
            self.act, self.map = nn.ReLU(inplace=True), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.map(self.act(x.view(-1, 2)).view(-1, 4))

    with pytest.raises(ValueError, match="computes something else; if an activation overwrites"):
        mst.quantize(nn.Sequential(nn.Linear(4, 4), Outside()), 8, torch.randn(8, 4))


def test_quantize_an_activation_in_place_at_the_begin_of_a_branch_changes_the_shortcut() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.branch(x)

    model, x = nn.Sequential(nn.Linear(4, 4), Residual()).double(), torch.randn(32, 4).double()
    torch.testing.assert_close(fine(model, x)(x), model(x), rtol=1e-2, atol=1e-3)


def test_quantize_shared_containers_nested_activations_and_parameters() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert list(find_sites(mst.quantize(nn.Sequential(block, block, nn.Linear(4, 2))))) == ["0.1"]

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.weight = nn.ReLU(), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * F.relu(self.weight)

    assert list(find_sites(mst.quantize(nn.Sequential(Gate()), also=[Gate]))) == ["0"]
    assert list(find_sites(mst.quantize(nn.Sequential(Gate())))) == ["0.inner"]


def test_quantize_refuses_a_pruned_network_with_a_remedy() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ValueError, match="make pruning or weight normalisation permanent first"):
        mst.quantize(model)
    prune.remove(model[0], "weight")
    assert len(find_sites(mst.quantize(model))) == 1


def test_quantize_leaves_every_modules_mode_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).eval(), nn.ReLU())
    quantized = mst.quantize(model, 8, (torch.rand(8, 4), torch.zeros(8)))
    assert [module.training for module in quantized.modules()] == [True, True, False, True]


def test_own_network_in_a_checkpoint_must_be_quantised_as_it_was(tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    mst.save_checkpoint(mst.quantize(net(), 16, torch.rand(8, 4)), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="saved with num_levels=16, and the model is quantised with 2"):
        mst.load_checkpoint(tmp_path / "x.safetensors", model=mst.quantize(net(), 2))
    with pytest.raises(ValueError, match="Sequential is not quantised"):
        mst.load_checkpoint(tmp_path / "x.safetensors", model=net())
    loaded = quantization_of(mst.load_checkpoint(tmp_path / "x.safetensors", model=mst.quantize(net(), 16)))
    assert loaded is not None
    assert (loaded.image_shape, loaded.num_classes) == ((4,), 4)


def test_calibrated_statistics_are_those_of_all_batches() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), QCFS(4, 1.0), nn.Linear(3, 2))
    batches = [torch.randn(8, 3), 5 + torch.randn(8, 3)]
    calibrate(net, batches)
    norm = net[0]
    assert isinstance(norm, nn.BatchNorm1d)
    torch.testing.assert_close(norm.running_mean, torch.cat(batches).mean(dim=0))
