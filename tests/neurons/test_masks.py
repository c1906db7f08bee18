"""Properties of every mask rule: elements that are dropped together, their share, and independence of all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mst
from conftest import randomise, tiny_config
from mst.errors import InputError
from mst.models import MaskedSpikingTransformer
from mst.neurons import (
    MASK_RULES,
    QCFS,
    ChannelMask,
    IFNeuron,
    Layout,
    RandomMask,
    RunState,
    SignedIFNeuron,
    SpikeMask,
    TokenMask,
    begin_run,
    channel_axes,
    find_sites,
    keep_mask,
    make_mask,
    mask_from_dict,
    running,
)

pytestmark = pytest.mark.slow

RULES = ("random", "channel", "token")
SHAPES: dict[Layout, tuple[int, ...]] = {
    "channels_first": (6, 5, 3, 4), "channels_last": (4, 6, 5), "heads": (8, 2, 4, 5),
}  # fmt: skip
"""Layout -> k, and one image's rows with k first."""


def ones(layout: Layout, num_images: int, windows: int = 2) -> Tensor:
    """Spikes everywhere: [B*k, ...] of `layout`."""
    return torch.ones(num_images * windows, *SHAPES[layout][1:])


def kept(mask: SpikeMask, like: Tensor, images: Tensor, layout: Layout | None, step: int = 0) -> Tensor:
    return mask.keep(like, images, seed=1, site="s", step=step, layout=layout).expand(like.shape)


# --------------------------------------------------------------------------- elements that are dropped together


def test_random_mask_is_the_hash_of_seed_site_step_and_image() -> None:
    like, images = torch.ones(6, 5, 4), torch.tensor([3, 7, 8])
    keep = RandomMask(0.5).keep(like, images, seed=2, site="s", step=4)
    assert torch.equal(keep, keep_mask(images, 40, 0.5, seed=2, site="s", step=4).view(6, 5, 4))


def test_random_mask_in_training_is_the_bernoulli_draw_of_its_shape() -> None:
    x = torch.full((3, 4), 2.0)
    torch.manual_seed(5)
    keep = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - 0.75)
    torch.manual_seed(5)
    assert torch.equal(QCFS(masking_ratio=0.75)(x), x * keep)


@pytest.mark.parametrize(
    ("layout", "channels_first_BkCP"),
    [
        ("channels_first", lambda x: x.flatten(3)),  # [B, k, C, H, W]
        ("channels_last", lambda x: x.transpose(2, 3)),  # [B, k, N, C]
        ("heads", lambda x: x.transpose(3, 4).flatten(2, 3)),  # [B, k, H, N, D] -> channels H*D
    ],
)
def test_channel_and_token_masks_drop_whole_channels_and_whole_tokens(layout: Layout, channels_first_BkCP: Any) -> None:
    like = ones(layout, 40)
    for mask in (ChannelMask(0.5), TokenMask(0.5)):
        keep = kept(mask, like, torch.arange(40), layout).unflatten(0, (40, 2))
        keep_BkCP = channels_first_BkCP(keep)
        one_BkCP = keep_BkCP[:, :1, :, :1] if isinstance(mask, ChannelMask) else keep_BkCP[:, :, :1]
        assert torch.equal(keep_BkCP, one_BkCP.expand_as(keep_BkCP))
        draws = one_BkCP.flatten(1).float()
        assert 0.4 < float(draws.mean()) < 0.6
        assert len(draws.unique(dim=0)) > 15  # each image has its own mask
        assert len(draws.unique(dim=1).T) == draws.shape[1]  # each channel or token has its own draw


def test_token_of_attention_scores_is_the_row_of_the_query() -> None:
    scores_BHNN = torch.ones(30, 2, 4, 4)
    keep = kept(TokenMask(0.5), scores_BHNN, torch.arange(30), "heads")
    assert torch.equal(keep, keep[:, :1, :, :1].expand_as(keep))
    assert bool((keep[:, 0, :, 0] != keep[:, 0, :1, 0]).any())


@pytest.mark.parametrize(
    ("num_axes", "layout", "axes"),
    [
        (1, None, ()), (2, None, (1,)), (3, None, (2,)), (4, None, (1,)), (5, None, (1,)), (3, "channels_first", (1,)),
        (4, "channels_last", (3,)), (2, "channels_last", (1,)), (4, "heads", (1, 3)),
    ],
)  # fmt: skip
def test_channel_axes_by_layout_and_by_number_of_axes(
    num_axes: int, layout: Layout | None, axes: tuple[int, ...]
) -> None:
    assert channel_axes(num_axes, layout) == axes


def test_channel_axes_heads_of_other_than_four_axes_are_refused() -> None:
    with pytest.raises(InputError, match=r"'heads' is for tensors \[B\*k, heads, tokens, channels\], got 3 axes"):
        channel_axes(3, "heads")


def test_mask_layout_of_its_own_overrides_that_of_the_site() -> None:
    like = torch.ones(20, 6, 5)
    by_site = kept(ChannelMask(0.5), like, torch.arange(20), "channels_last")
    by_mask = kept(ChannelMask(0.5, layout="channels_first"), like, torch.arange(20), "channels_last")
    assert torch.equal(by_site, by_site[:, :1].expand_as(like))
    assert torch.equal(by_mask, by_mask[:, :, :1].expand_as(like))


# ---------------------------------------------------------------------------------------- all rules


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("rule", RULES)
def test_mask_drops_the_given_share_over_many_images(rule: str, ratio: float) -> None:
    mask = make_mask(ratio, rule)
    assert mask is not None
    like = torch.ones(4000, 6, 5)
    inside = kept(mask, like, torch.arange(4000), "channels_last")
    fresh = mask.keep_fresh(like, layout="channels_last").expand_as(like)
    for keep in (inside, fresh):
        assert 1 - float(keep.float().mean()) == pytest.approx(ratio, abs=0.02)


@given(
    rule=st.sampled_from(RULES),
    layout=st.sampled_from(list(SHAPES)),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_mask_of_an_image_does_not_depend_on_its_batch(rule: str, layout: Layout, sizes: list[int]) -> None:
    mask, total = make_mask(0.5, rule), sum(sizes)
    assert mask is not None
    whole = kept(mask, ones(layout, total), torch.arange(total), layout)
    parts = [
        kept(mask, ones(layout, len(images)), images, layout) for images in torch.arange(total).split(sizes)
    ]  # fmt: skip
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("rule", RULES)
def test_mask_differs_between_seeds_sites_and_steps(rule: str) -> None:
    mask, like, base = make_mask(0.5, rule), ones("channels_last", 20), {"seed": 0, "site": "s", "step": 0}
    assert mask is not None
    first = mask.keep(like, torch.arange(20), **base)  # type: ignore[arg-type]
    for change in ({"seed": 1}, {"site": "other"}, {"step": 1}):
        assert not torch.equal(first, mask.keep(like, torch.arange(20), **{**base, **change}))  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_qcfs_mask_only_removes_and_stops_the_gradient(rule: str, training: bool) -> None:
    site, free = QCFS(4, 1.0).train(training), QCFS(4, 1.0)
    site.mask = make_mask(0.5, rule)
    x = torch.full((50, 6, 5), 0.5, requires_grad=True)
    y = site(x)
    y.sum().backward()
    assert x.grad is not None
    assert 0.3 < float((y == 0).float().mean()) < 0.7
    assert torch.equal(y, free(x) * (y != 0))
    assert torch.equal(x.grad != 0, y != 0)
    assert not torch.equal(site(x) != 0, y != 0)  # drawn again at each call


def test_channel_mask_in_training_is_shared_by_the_windows_of_an_image() -> None:
    site = QCFS(4, 1.0, layout="channels_last", rows_per_image=2)
    site.mask = ChannelMask(0.5)
    y = site(torch.ones(20, 6, 30)).unflatten(0, (10, 2))
    assert torch.equal(y, y[:, :1, :1].expand_as(y))
    assert len((y[:, 0, 0] != 0).unique(dim=0)) == 10


# ------------------------------------------------------------------------------- neurons and networks


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", [IFNeuron, SignedIFNeuron])
def test_neuron_mask_only_removes_spikes(kind: type[IFNeuron] | type[SignedIFNeuron], rule: str) -> None:
    x = torch.rand(3 * 4, 6, 5)  # 3 steps, 4 images
    outputs, counts = [], []
    for mask in (make_mask(0.5, rule), None):
        neuron, run = kind(torch.tensor([1.0]), 4, "site", mask=mask), RunState(seed=0, batch_size=4, steps_in_chunk=3)
        with running(run):
            outputs.append(neuron(x))
        counts.append(run.counts["site"])
    masked, free = outputs
    assert torch.equal(masked, free * (masked != 0))
    assert bool((masked != free).any())
    fired = counts[0].sent + counts[0].dropped
    assert torch.equal(fired, counts[1].sent)
    assert int(counts[0].dropped.sum()) > 0


def masked_mst(rule: str) -> MaskedSpikingTransformer:
    model = MaskedSpikingTransformer(
        tiny_config(masking_ratio=0.5, mask_sites=("query", "key", "scores", "mlp"), mask_rule=rule)
    ).eval()
    randomise(model)
    return model.double()


@pytest.mark.parametrize("rule", RULES)
def test_masks_of_an_mst_do_not_depend_on_batch_or_chunk(rule: str) -> None:
    model, images = masked_mst(rule), torch.rand(5, 1, 8, 8, dtype=torch.float64)
    for coding in ("rate", "lossless"):
        snn = mst.convert(model, coding)  # type: ignore[arg-type]
        whole = mst.simulate(snn, images, 12, steps_per_chunk=12, record_operations=False)
        parts = mst.simulate(snn, iter(images.split([2, 3])), 12, steps_per_chunk=1, record_operations=False)
        assert (whole.logits - parts.logits).abs().max() < 1e-9
        assert whole.spike_counts == parts.spike_counts
        assert whole.dropped_counts == parts.dropped_counts


@pytest.mark.parametrize("rule", RULES)
def test_masked_mst_settles_to_its_ann(rule: str) -> None:
    model, images = masked_mst(rule), torch.rand(4, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad(), running(begin_run(model, seed=3, batch_size=4)):
        expected = model(images)
    result = mst.simulate(mst.convert(model, "lossless", burst=2), images, 80, seed=3, record_operations=False)
    assert result.num_settled == 4
    assert (result.logits - expected).abs().max() < 1e-9
    free = MaskedSpikingTransformer(tiny_config()).eval().double()
    free.load_state_dict(model.state_dict())
    assert (free(images) - expected).abs().max() > 1e-3  # the mask has an effect


@pytest.mark.parametrize("rule", RULES)
def test_gradients_under_masks_are_the_same_with_gradient_checkpointing(rule: str) -> None:
    images, gradients = torch.rand(3, 1, 8, 8, dtype=torch.float64), []
    for checkpointing in (False, True):
        model = masked_mst(rule).train()
        model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(4)
        model(images).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    plain, recomputed = gradients
    for name, gradient in plain.items():
        assert gradient is not None, name
        assert torch.equal(gradient, recomputed[name]), name


def test_sites_of_an_mst_know_their_layout_and_windows() -> None:
    """Checked on the tensors that pass: outside a run, a channel mask is the same in all windows of an image."""
    model, num_images = masked_mst("channel"), 3
    mst.mask_spikes(model, 0.5, "all", "channel")
    seen: dict[str, Tensor] = {}

    def look(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    sites = find_sites(model)
    for name, site in sites.items():
        site.register_forward_hook(look(name))
    model(torch.rand(num_images, 1, 8, 8, dtype=torch.float64))
    for name, site in sites.items():
        rows = num_images * site.rows_per_image
        y = site(torch.ones_like(seen[name])).unflatten(0, (num_images, -1))
        assert torch.equal(y, y[:, :1].expand_as(y)), name
        is_attention = site.role in ("query", "key", "value", "scores", "attention_output")
        assert seen[name].shape[0] == rows, name
        assert (seen[name].dim() == 4) == is_attention == (site.layout == "heads"), name
    assert {site.rows_per_image for site in sites.values()} == {1, 4}


# --------------------------------------------------------------------------------------------- registry


class HeadMask(SpikeMask):
    """Whole attention heads."""

    name = "head"

    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(axis for axis in range(1, num_axes) if axis != channels[0])


@pytest.fixture
def head_rule() -> Iterator[str]:
    MASK_RULES[HeadMask.name] = HeadMask
    yield HeadMask.name
    del MASK_RULES[HeadMask.name]


def test_mask_rule_from_outside_works_everywhere(head_rule: str) -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5, mask_sites=("query",), mask_rule=head_rule)).eval()
    randomise(model)
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    site = find_sites(model.double())["layers.0.blocks.0.attn.q_if"]
    seen: list[Tensor] = []
    handle = site.register_forward_hook(lambda module, inputs, output: seen.append(output.unflatten(0, (6, -1))))
    with torch.no_grad():
        site.threshold.fill_(1e-3)
        model(images)
    handle.remove()
    silent_BH = (seen[0] == 0).all(dim=4).all(dim=3).all(dim=1)
    assert 0 < int(silent_BH.sum()) < 12
    result = mst.simulate(mst.convert(model, "rate"), images, 4)
    assert result.dropped_counts["layers.0.blocks.0.attn.q_if"] > 0
    assert mask_from_dict(HeadMask(0.25).to_dict()) == HeadMask(0.25)
    assert str(mst.mask_spikes(nn.Sequential(QCFS()), 0.5, rule=HeadMask)[0].mask) == "head 0.5"


def test_mask_spikes_takes_a_name_a_class_or_a_mask() -> None:
    network = nn.Sequential(QCFS(), QCFS(), QCFS())
    mst.mask_spikes(network, 0.5, "0", "token")
    mst.mask_spikes(network, 0.5, "1", ChannelMask)
    mst.mask_spikes(network, {"2": 0.25}, rule=ChannelMask(0.5, layout="channels_first"))
    assert [site.mask for site in network] == [
        TokenMask(0.5), ChannelMask(0.5), ChannelMask(0.25, layout="channels_first"),
    ]  # fmt: skip
    mst.mask_spikes(network, 0.0, rule="channel")
    assert [site.mask for site in network] == [None, None, None]
    assert [site.masking_ratio for site in network] == [0.0, 0.0, 0.0]


def test_mask_as_plain_values_makes_the_same_mask_again() -> None:
    mask = TokenMask(0.75, layout="heads")
    assert mask.to_dict() == {"rule": "token", "masking_ratio": 0.75, "layout": "heads"}
    assert mask_from_dict(mask.to_dict()) == mask
    assert mask_from_dict({"rule": "random", "masking_ratio": 0.5}) == RandomMask(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_mask(0.5, "chanel"), "unknown mask rule 'chanel'; did you mean channel"),
        (lambda: make_mask(0.0, "chanel"), "unknown mask rule 'chanel'"),
        (lambda: make_mask(1.0, "channel"), r"fraction dropped, in \[0, 1\)"),
        (lambda: ChannelMask(75.0), "for 75 % write 0.75"),
        (lambda: ChannelMask(0.5, layout="NHWC"), "unknown layout 'NHWC'; choose from channels_first"),
        (lambda: mask_from_dict({"masking_ratio": 0.5}), "unknown mask rule None"),
        (lambda: mask_from_dict({"rule": "token", "size": 3}), "'token' does not take {'size': 3}"),
        (lambda: mst.mask_spikes(nn.Sequential(QCFS()), 0.5, rule="tokens"), "did you mean token"),
    ],
)
def test_mask_bad_input_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_mask_is_conveyed_by_conversion_with_its_layout() -> None:
    model = masked_mst("token")
    snn = mst.convert(model, "rate")
    neurons = {m.site: m for m in snn.modules() if isinstance(m, IFNeuron)}
    for name, site in find_sites(model).items():
        assert (neurons[name].mask, neurons[name].layout) == (site.mask, site.layout)
