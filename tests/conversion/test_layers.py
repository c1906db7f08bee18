"""Layers of a converted network: norms that fold, pools, maps that are used several times, attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from conftest import randomise
from mst.neurons import QCFS


def test_deleted_tensors_do_not_count_as_readers() -> None:
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


def test_convert_makes_max_pools_exact_and_notes_where_it_cannot() -> None:
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


def test_folding_skips_modules_in_several_places_and_norms_of_another_axis() -> None:
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


def test_calls_by_keyword_are_traced_and_counted() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.act, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(input=self.act(self.map(input=x)))

    x = torch.rand(5, 4)
    result = mst.simulate(mst.convert(mst.quantize(Keyword(), 4, [x])), x, 4)
    assert int(result.operations[1].acs_per_step.sum()) == 2 * result.spike_counts["act"]


def test_batch_norm_behind_a_linear_map_is_folded_into_it() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), QCFS(8, 1.0), nn.Linear(6, 3))
    randomise(net)
    net = net.double().eval()
    x = torch.rand(5, 4, dtype=torch.float64)
    snn = mst.convert(net, "rate", x[:1])
    assert not any(isinstance(module, nn.BatchNorm1d) for module in snn.modules())
    torch.testing.assert_close(mst.simulate(snn, x, 8).logits, net(x), rtol=0, atol=1e-12)  # T = L, constant input
