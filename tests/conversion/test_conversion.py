from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import mst
from conftest import randomise, tiny_config
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, IFNeuron, find_sites


def test_convert_accounts_for_every_site_and_leaves_the_ann_as_it_was(tiny_model: MaskedSpikingTransformer) -> None:
    before = copy.deepcopy(tiny_model.state_dict())
    snn = mst.convert(tiny_model)
    sites = find_sites(tiny_model)
    assert [line.site for line in snn.sites] == list(sites)
    for line in snn.sites:
        assert (line.was, line.became, line.num_levels) == ("QCFS", "IFNeuron", 4)
        assert line.threshold == sites[line.site].threshold.item()
    assert not any(isinstance(module, QCFS) for module in snn.modules())
    assert {m.site for m in snn.modules() if isinstance(m, IFNeuron)} == set(sites)
    torch.testing.assert_close(tiny_model.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        next(iter(snn.network.parameters())).add_(1.0)
    torch.testing.assert_close(tiny_model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mlp_batch_norm": False},
        {"absolute_position_embedding": True},
        {"depths": (1,), "num_heads": (2,)},
        {"masking_ratio": 0.5, "mask_sites": ("query", "key", "attention", "mlp")},
        {"drop_path_rate": 0.3},
    ],
    ids=str,
)
def test_convert_leaves_no_activation_behind_in_any_form(options: dict[str, object]) -> None:
    model = MaskedSpikingTransformer(tiny_config(**options))
    randomise(model)
    snn = mst.convert(model)
    assert len(snn.sites) == len(find_sites(model))
    result = mst.simulate(snn, torch.rand(2, 1, 8, 8), 3)
    assert set(result.spike_counts) == set(find_sites(model))


def test_convert_keeps_masking_by_site() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5, mask_sites=("mlp",)))
    ratios = {line.site: line.masking_ratio for line in mst.convert(model).sites}
    assert {site for site, ratio in ratios.items() if ratio == 0.5} == {s for s in ratios if "shortcut2_if" in s}


def test_convert_nothing_to_convert_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has no QCFS activation"):
        mst.convert(nn.Linear(2, 2))


def test_convert_lists_all_activations_other_than_qcfs() -> None:
    model = nn.Sequential(nn.Linear(2, 2), QCFS(), nn.GELU(), nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match=r"(?s)2 places.*- 2: GELU has no.*- 3.0: ReLU has no.*replace it by QCFS"):
        mst.convert(model)


def test_convert_a_site_under_two_names_or_of_another_class_is_not_left_behind() -> None:
    shared = QCFS()
    model = nn.ModuleDict({"a": shared, "b": shared})
    assert [line.site for line in mst.convert(model).sites] == ["a", "b"]

    class Own(QCFS):
        pass

    with pytest.raises(ValueError, match=r"were not converted; use QCFS itself: 1 \(Own\)"):
        mst.convert(nn.Sequential(QCFS(), Own()))


def test_convert_account_states_the_threshold_that_acts() -> None:
    site = QCFS()
    with torch.no_grad():
        site.threshold.fill_(-1.0)
    assert mst.convert(nn.Sequential(site)).sites[0].threshold == pytest.approx(1e-4)


def test_convert_unknown_coding_is_refused(tiny_model: MaskedSpikingTransformer) -> None:
    with pytest.raises(ValueError, match=r"unknown coding 'phase'; did you mean rate\? Choose from rate, lossless$"):
        mst.convert(tiny_model, coding="phase")  # type: ignore[arg-type]


def test_convert_a_bare_site() -> None:
    snn = mst.convert(QCFS(num_levels=4, threshold=1.0))
    result = mst.simulate(snn, torch.tensor([[0.25, 0.75]]), 4, record_operations=False)
    assert result.logits.tolist() == [[0.25, 0.75]]


def test_spiking_network_cannot_be_put_into_training_mode(tiny_model: MaskedSpikingTransformer) -> None:
    snn = mst.convert(tiny_model)
    assert not any(module.training for module in snn.modules())
    with pytest.raises(RuntimeError, match="train the ANN and convert it again"):
        snn.train()
    snn.eval()


def test_spiking_network_called_directly_names_the_remedy(tiny_model: MaskedSpikingTransformer) -> None:
    with pytest.raises(RuntimeError, match="call mst.simulate"):
        mst.convert(tiny_model)(torch.rand(1, 1, 8, 8, dtype=torch.float64))


def test_spiking_network_state_dict_holds_no_run_state(tiny_model: MaskedSpikingTransformer) -> None:
    snn = mst.convert(tiny_model)
    before = set(snn.state_dict())
    mst.simulate(snn, torch.rand(2, 1, 8, 8), 3)
    assert set(snn.state_dict()) == before
    assert not any(hook for module in snn.modules() for hook in module._forward_pre_hooks)
    assert not any(hook for module in snn.modules() for hook in module._forward_hooks)
