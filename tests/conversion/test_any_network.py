"""Networks of timm and torchvision: converted within stated bounds, or refused with every obstacle named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import mst
from mst.neurons import IFNeuron, find_sites

pytestmark = pytest.mark.slow

LEVELS, SIZE = 8, 32

Build = Callable[[], nn.Module]


def by_timm(name: str, **options: Any) -> Build:
    return lambda: timm.create_model(name, num_classes=5, **options)


def by_torchvision(name: str, **options: Any) -> Build:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5, **options)


CONVERTED: dict[str, Build] = {
    "timm resnet18": by_timm("resnet18"),
    "timm resnet26d": by_timm("resnet26d"),
    "timm resnet18_small": by_timm("resnet18_small", width=8),
    "timm vgg16_small": by_timm("vgg16_small", width=8),
    "timm vgg11_bn": by_timm("vgg11_bn"),
    "timm densenet": by_timm("densenet121", growth_rate=8, block_config=(2, 3)),
    "timm regnetx_002": by_timm("regnetx_002"),
    "timm mobilenetv2_050": by_timm("mobilenetv2_050"),
    "timm repvgg_a0": by_timm("repvgg_a0"),
    "torchvision resnet18": by_torchvision("resnet18"),
    "torchvision densenet": lambda: torchvision.models.DenseNet(8, (2, 3), 16, num_classes=5),
    "torchvision mobilenet_v2": by_torchvision("mobilenet_v2"),
    "torchvision squeezenet1_1": by_torchvision("squeezenet1_1"),
    "torchvision shufflenet_v2_x0_5": by_torchvision("shufflenet_v2_x0_5"),
    "torchvision mnasnet0_5": by_torchvision("mnasnet0_5"),
    "torchvision regnet_x_400mf": by_torchvision("regnet_x_400mf"),
}


def settled(build: Build) -> tuple[nn.Module, Tensor]:
    """A network in float64 whose BatchNorm statistics are those of its images."""
    torch.manual_seed(0)
    model, images = build().double(), torch.randn(12, 3, SIZE, SIZE).double()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        for _ in range(2):
            model.train()(images)
    return model.eval(), images[:2]


def site_means(network: nn.Module, kind: type[nn.Module], run: Callable[[], object], steps: int) -> dict[str, Tensor]:
    """Mean output of every site over the passes that `run` makes."""
    sums: dict[str, Tensor] = {}
    names = {module: name.removeprefix("network.") for name, module in network.named_modules()}

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        folded = output.view(-1, 2, *output.shape[1:]).sum(dim=0) / steps
        name = names[module]
        sums[name] = sums.get(name, torch.zeros_like(folded)) + folded

    handles = [module.register_forward_hook(add) for module in network.modules() if isinstance(module, kind)]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return sums


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_first_site_is_exact_and_last_site_near(name: str) -> None:
    model, images = settled(CONVERTED[name])
    quantized = mst.quantize(model, LEVELS, [images]).eval()
    snn = mst.convert(quantized)
    assert len(snn.sites) == len(find_sites(quantized))
    assert not any(isinstance(m, nn.ReLU | mst.QCFS) for m in snn.modules())
    ann = site_means(quantized, mst.QCFS, lambda: quantized(images), 1)

    def run(steps: int) -> dict[str, Tensor]:
        return site_means(snn, IFNeuron, lambda: mst.simulate(snn, images, steps, record_operations=False), steps)

    at_levels, later = run(LEVELS), run(4 * LEVELS)
    first, last = next(iter(ann)), list(ann)[-1]
    torch.testing.assert_close(at_levels[first], ann[first], rtol=1e-9, atol=1e-9)
    threshold = find_sites(quantized)[last].threshold.item()
    errors = [(means[last] - ann[last]).abs().mean().item() / threshold for means in (at_levels, later)]
    assert errors[0] < 0.3
    assert errors[1] < min(0.27, errors[0] + 0.01)


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_lossless_settles_to_the_ann(name: str) -> None:
    model, images = settled(CONVERTED[name])
    quantized = mst.quantize(model, LEVELS, [images]).eval()
    snn = mst.convert(quantized, "lossless", images, burst=LEVELS, schedule="plain")
    result = mst.simulate(snn, images, snn.longest_settling)
    assert result.num_settled == len(images)
    with torch.no_grad():
        assert (result.logits - quantized(images)).abs().max().item() < 1e-9
    assert sum(result.spike_counts.values()) > 0
    assert mst.estimate_energy(result).snn.energy_pj > 0


def test_every_converted_network_is_counted_and_priced() -> None:
    for name in ("timm resnet26d", "torchvision densenet", "timm vgg16_small"):
        model, images = settled(CONVERTED[name])
        snn = mst.convert(mst.quantize(model, LEVELS, [images]))
        result = mst.simulate(snn, images, 4)
        energy = mst.estimate_energy(result)
        convolutions = [m for m in snn.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        counted = [op for op in energy.operations if op.kind in ("convolution", "linear")]
        assert len(counted) == len(convolutions)
        assert next(op.name for op in counted if not op.sources) == counted[0].name  # the first sees the image
        assert energy.snn.energy_pj > 0


def with_relu(model: nn.Module) -> nn.Module:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.GELU):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.ReLU())
    return model


REFUSED: dict[str, tuple[Build, list[str]]] = {
    "a Swin with ReLU": (
        lambda: with_relu(
            timm.create_model(
                "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(1, 2),
                num_heads=(1, 2), num_classes=5,
            )
        ),
        [
            r"layers.1.blocks.0.norm2: layer_norm before the neuron layers.1.blocks.0.mlp.act; put a BatchNorm",
            r"layers.1.downsample.norm: layer_norm before",
            r"layers.1.blocks.1.attn: matmul of two activations.*make a matrix product an mst.ActivationProduct",
        ],
    ),
    "squeeze-and-excitation": (
        by_timm("regnety_002"),
        ["s1.b1.se.gate: sigmoid has no.*leave out the gate", "s1.b1.se: mul of two activations", "s4.b7.se: mul"],
    ),
    "hard swish": (
        by_torchvision("mobilenet_v3_small"),
        [r"features.0.2: hardswish has no .*also=\(Hardswish,\)", "features.12.2: hardswish", "hardsigmoid"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_network_has_every_obstacle_named(name: str) -> None:
    build, expected = REFUSED[name]
    torch.manual_seed(0)
    model, images = build().eval(), torch.randn(2, 3, SIZE, SIZE)
    quantized = mst.quantize(model, LEVELS, [images])
    with pytest.raises(mst.ConversionError) as refused:
        mst.convert(quantized)
    for text in expected:
        assert refused.match(text), text


@pytest.mark.parametrize("name", ["a Swin with ReLU", "squeeze-and-excitation", "hard swish"])
def test_lossless_carries_networks_that_rate_coding_refuses(name: str) -> None:
    model, images = settled(REFUSED[name][0])
    quantized = mst.quantize(model, LEVELS, [images]).eval()
    snn = mst.convert(quantized, "lossless", images, burst=LEVELS, schedule="plain")
    result = mst.simulate(snn, images, snn.longest_settling, record_operations=False)
    assert result.num_settled == len(images)
    with torch.no_grad():
        assert (result.logits - quantized(images)).abs().max().item() < 1e-9
    assert snn.notes
    assert all("stays analog, and is exact" in line for line in snn.notes)


def test_tensors_that_come_and_go_do_not_count_as_readers() -> None:
    """The id of a deleted tensor may be given to a map's output, which then seemed to be read twice."""

    class Busy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm, self.site = nn.Linear(4, 4), nn.BatchNorm1d(4), mst.QCFS(4, 1.0)
            self.offset = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):  # each product is read together with the image, then deleted
                x = x + self.offset * 1.0
            y: Tensor = self.site(self.norm(self.fc(x)))
            return y

    for _ in range(20):
        snn = mst.convert(Busy().eval(), example=torch.rand(2, 4))
        assert snn.folded == ("norm",)


class GELUBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.act = nn.Linear(6, 6), mst.QCFS()
        self.norm = nn.LayerNorm(6)
        self.rnn = nn.LSTM(6, 6, batch_first=True)
        self.encoder = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.map(x))
        x = self.act(self.norm(x))
        x = torch.ops.aten.gelu(x)  # functions that are not modules
        x, _ = self.rnn(x)
        x, _ = self.encoder(x, x, x)
        x = 1.0 / (1.0 + x * x)
        return torch.where(x > 0.5, x, -x).mean(dim=1)


def test_convert_lists_all_places_at_once_also_those_in_c_functions() -> None:
    with pytest.raises(mst.ConversionError) as refused:
        mst.convert(GELUBlock(), example=torch.rand(2, 3, 6))
    said = {str(obstacle).partition(";")[0] for obstacle in refused.value.obstacles}
    assert said == {
        "norm: layer_norm before the neuron act",
        "act: used several times in one pass",
        "(the network itself): gelu in the forward of GELUBlock has no spiking counterpart",
        "rnn: lstm hides its activations in one function",
        "encoder: multi_head_attention_forward hides products of activations and a softmax in one function",
        "(the network itself): mul of two activations",
        "(the network itself): division by an activation",
        "(the network itself): gt in the forward of GELUBlock has no spiking counterpart",
        "(the network itself): where in the forward of GELUBlock has no spiking counterpart",
    }


def test_simulate_looks_where_convert_had_no_image() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act = nn.Linear(4, 4), mst.QCFS()

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.act(self.map(x)))

    snn = mst.convert(Hidden())
    assert not snn.examined
    for record in (True, False):
        with pytest.raises(mst.ConversionError, match="tanh in the forward of Hidden has no spiking counterpart"):
            mst.simulate(snn, torch.rand(2, 4), 2, record_operations=record)


def test_what_comes_before_the_first_neuron_may_be_anything_constant() -> None:
    model = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), mst.QCFS(4, 1.0), nn.Linear(6, 2)).double()
    x = torch.rand(3, 6).double()
    result = mst.simulate(mst.convert(model, example=x), x, 4)
    torch.testing.assert_close(result.logits, model(x), rtol=1e-12, atol=1e-12)


def test_a_gate_that_depends_on_the_image_alone_is_a_weight() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.map, self.act, self.head = (
                nn.Linear(4, 4),
                nn.Linear(4, 4),
                mst.QCFS(4, 1.0),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.map(x)) * torch.sigmoid(self.gate(x)) / (1 + x.square()))

    model, x = Gated().double(), torch.rand(3, 4).double()
    result = mst.simulate(mst.convert(model, example=x), x, 4)
    torch.testing.assert_close(result.logits, model(x), rtol=1e-12, atol=1e-12)


def test_convert_folds_batch_norm_only_where_it_alone_reads_a_linear_map() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), mst.QCFS(4, 1.0)
            self.shared, self.one, self.act1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), mst.QCFS(4, 1.0)
            self.after, self.act2 = nn.BatchNorm2d(3), mst.QCFS(4, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm(self.conv(x)))
            both = self.shared(x)
            return (self.act1(self.one(both)) + self.act2(self.after(x)) + both).mean((2, 3))

    model = Net().double().eval()
    for norm in (model.norm, model.one, model.after):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    x = torch.rand(4, 2, 5, 5).double()
    snn = mst.convert(model, example=x)
    assert snn.folded == ("norm",)
    kept = mst.convert(model)
    assert kept.folded == ()
    results = [mst.simulate(each, x, 6) for each in (snn, kept)]
    torch.testing.assert_close(results[0].logits, results[1].logits, rtol=1e-12, atol=1e-12)
    kinds = [op.operation.kind for op in results[0].operations]
    assert kinds.count("batch_norm") == 2  # `after` reads spikes; the linear map of `one` has a second reader


def test_convert_makes_max_pools_exact_and_says_where_it_cannot() -> None:
    class Pooled(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(super().forward(x), 2).flatten(1)

    layers = [nn.MaxPool2d(2), nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(2, 2, 1)]
    nn.init.constant_(layers[1].bias, 0.2)  # type: ignore[arg-type]
    x = torch.rand(6, 1, 16, 16).double()
    quantized = mst.quantize(nn.Sequential(*layers, nn.Flatten()).double(), 4, [x]).eval()
    snn = mst.convert(quantized)
    assert not snn.notes
    for chunk in (1, 3, 4):
        result = mst.simulate(snn, x, 4, steps_per_chunk=chunk)
        torch.testing.assert_close(result.logits, quantized(x), rtol=1e-12, atol=1e-12)
    by_name = {op.operation.name: op.operation.sources for op in result.operations}
    assert by_name == {"1": (), "4": ("2",)}  # spikes stay spikes through the pool
    (remark,) = mst.convert(mst.quantize(Pooled(*layers).double(), 4, [x])).notes
    assert remark.startswith("(the network itself): a max-pool that is a function")
    with pytest.raises(ValueError, match="4: a max-pool that returns indices"):
        mst.convert(nn.Sequential(*layers[:2], mst.QCFS(), nn.Identity(), nn.MaxPool2d(2, return_indices=True)))
    with pytest.raises(RuntimeError, match="'3': pools over time only inside a run"):
        snn.network[3](x)


class Attention(nn.Module):
    """Custom attention built from our modules, with BatchNorm over tokens."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.embed, self.norm, self.embed_if = nn.Linear(3, dim), mst.TokenBatchNorm(dim), mst.QCFS(8, 1.0)
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_if, self.k_if, self.v_if = (mst.QCFS(8, 1.0, role=role) for role in ("query", "key", "value"))
        self.product, self.softmax = mst.ActivationProduct(transpose_right=True, scale=dim**-0.5), nn.Softmax(dim=-1)
        self.scores_if, self.mix = mst.QCFS(8, 1.0, role="scores"), mst.ActivationProduct()
        self.mix_if, self.head = mst.QCFS(8, 1.0), nn.Linear(dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed_if(self.norm(self.embed(x)))
        q, k, v = self.q_if(self.q(x)), self.k_if(self.k(x)), self.v_if(self.v(x))
        scores = self.softmax(self.scores_if(self.product(q[:, None], k[:, None])))
        mixed = self.mix_if(self.mix(scores, v[:, None]))[:, 0]
        return self.head((x + mixed).mean(dim=1))


def test_attention_out_of_our_parts_converts_and_can_be_masked_by_group() -> None:
    torch.manual_seed(1)
    model, x = Attention().double().eval(), torch.rand(5, 6, 3).double()
    mst.mask_spikes(model, 0.5, "attention")
    snn = mst.convert(model, example=x)
    assert {line.site for line in snn.sites if line.masking_ratio} == {"q_if", "k_if", "scores_if"}
    assert snn.folded == ("norm",)
    mst.mask_spikes(model, 0.0)
    result = mst.simulate(mst.convert(model, example=x), x, 512)
    assert (result.logits - model(x)).abs().max() < 0.1
    assert {op.operation.kind for op in result.operations} == {"linear", "product", "softmax"}


def exact(model: nn.Module, x: Tensor, steps: int = 8) -> float:
    """Distance between the SNN and its ANN after T = L steps; small if there is only one layer of neurons."""
    quantized = mst.quantize(model.double().eval(), steps, [x]).eval()
    result = mst.simulate(mst.convert(quantized), x, steps)
    return float((result.logits - quantized(x)).detach().abs().max())


def moved_statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model


def test_folding_leaves_alone_what_hangs_in_several_places_or_normalises_another_axis() -> None:
    class Aliased(nn.Module):
        def __init__(self, which: int) -> None:
            super().__init__()
            parts = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.alias = parts[which]
            self.features = nn.Sequential(*parts, nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.features(x).mean((2, 3))

    class ByToken(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.emb, self.norm, self.act = nn.Linear(6, width), nn.BatchNorm1d(8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.norm(self.emb(x))).mean(dim=1)

    tied = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.nn.utils.parametrizations.weight_norm(tied[0])
    torch.manual_seed(0)
    images = torch.rand(4, 3, 5, 5).double()
    for model, x in (
        (Aliased(0), images), (Aliased(1), images), (tied, images), (ByToken(8), torch.rand(4, 8, 6).double()),
        (ByToken(5), torch.rand(4, 8, 6).double()),
    ):  # fmt: skip
        assert exact(moved_statistics(model), x) < 1e-12


def test_batch_norm_without_running_statistics_is_refused() -> None:
    layers = [nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)]
    model = nn.Sequential(*layers, nn.Flatten())
    with pytest.raises(mst.ConversionError, match="3: BatchNorm without running statistics mixes images and steps"):
        mst.convert(mst.quantize(model, 4, [torch.rand(8, 1, 3, 3)]))


def test_a_pool_and_a_map_may_be_used_several_times_and_are_counted_each_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.act = nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()
            self.act2 = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(self.act(self.conv(x)))
            return self.pool(self.act2(self.conv(x))).mean((2, 3))

    torch.manual_seed(0)
    x = torch.rand(3, 2, 8, 8)
    snn = mst.convert(mst.quantize(Twice(), 4, [x]))
    whole, by_step = (mst.simulate(snn, x, 12, steps_per_chunk=chunk) for chunk in (12, 1))
    torch.testing.assert_close(whole.logits, by_step.logits)
    names = [count.operation.name for count in whole.operations]
    assert names == ["conv", "conv (2)"]
    first, second = whole.operations
    assert (first.operation.sources, second.operation.sources) == ((), ("act",))
    assert int(first.acs_per_step.sum()) == 0
    assert 0 < int(second.acs_per_step.sum()) <= whole.spike_counts["act"] * 18
    assert torch.equal(second.acs_per_step, by_step.operations[1].acs_per_step)


def test_spikes_through_a_max_pool_are_spikes_in_float32_too() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 1, 8, 8)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 1), nn.Flatten())
    snn = mst.convert(mst.quantize(model, 16, [x]))
    out: list[Tensor] = []
    snn.network[2].register_forward_hook(lambda module, inputs, y: out.append(y))
    results = [mst.simulate(snn, x, 64, steps_per_chunk=chunk) for chunk in (1, 7, 64)]
    threshold = snn.sites[0].threshold
    assert threshold is not None
    sent = torch.cat(out)
    assert bool(((sent == 0) | ((sent / threshold - 1).abs() < 1e-4)).all())
    assert len({int(result.operations[1].acs_per_step.sum()) for result in results}) == 1


def test_values_that_lose_their_way_are_refused_where_they_arrive() -> None:
    class Shifted(nn.Module):
        def __init__(self, in_view: bool) -> None:
            super().__init__()
            self.conv, self.act, self.head, self.in_view = nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), in_view

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.conv(x))
            out = torch.zeros_like(h)
            if self.in_view:
                out[:, 2:].copy_(h[:, :2])
            else:
                out[:, 2:] = h[:, :2]
            return self.head(out).mean((2, 3))

    x = torch.rand(3, 2, 4, 4)
    snn = mst.convert(mst.quantize(Shifted(in_view=False), 4, [x]))
    result = mst.simulate(snn, x, 4)
    assert result.operations[1].operation.sources == ("act",)
    with pytest.raises(mst.ConversionError, match="the output was made by code that torch does not show"):
        mst.convert(mst.quantize(Shifted(in_view=True), 4, [x]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_function_is_refused() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act, self.head = nn.Linear(4, 4), mst.QCFS(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(hidden(self.act(self.map(x))))

    def plain(x: Tensor) -> Tensor:
        return torch.exp(-x)

    hidden = torch.jit.script(plain)
    with pytest.raises(mst.ConversionError, match="code that torch does not show|no spiking counterpart"):
        mst.convert(Scripted(), example=torch.rand(2, 4))


def test_calls_by_keyword_are_watched_and_counted() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(input=self.act(self.map(input=x)))

    x = torch.rand(5, 4)
    result = mst.simulate(mst.convert(mst.quantize(Keyword(), 4, [x])), x, 4)
    assert int(result.operations[1].acs_per_step.sum()) == 2 * result.spike_counts["act"]
