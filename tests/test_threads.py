from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch
from torch import nn

from conftest import tiny_config
from mst import threads
from mst.errors import InputError
from mst.models import MaskedSpikingTransformer
from mst.threads import MACS_PER_THREAD, choose_threads, count_macs, intra_op_threads


@pytest.fixture(autouse=True)
def _machine_of_eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_default_numbers", lambda: {8})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


def test_count_macs_of_hand_computed_layers() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5))
    assert count_macs(model, (2, 4, 4)) == 16 * 3 * 2 * 9 + 48 * 5


def test_count_macs_leaves_modes_and_random_numbers_alone() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).train()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert count_macs(model, (1, 8, 8)) > 10_000
    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == modes


def test_count_macs_of_a_model_that_cannot_be_run_is_its_number_of_parameters() -> None:
    assert count_macs(nn.Linear(4, 5), (3,)) == 25


@pytest.mark.parametrize(
    ("macs_per_image", "batch_size", "expected"),
    [
        (MACS_PER_THREAD // 100, 99, 1),
        (MACS_PER_THREAD // 100, 300, 3),
        (MACS_PER_THREAD, 7, 7),
        (MACS_PER_THREAD, 90, 8),
    ],
)
def test_choose_threads_follows_the_work_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, macs_per_image: int, batch_size: int, expected: int
) -> None:
    monkeypatch.setattr(threads, "count_macs", lambda model, shape: macs_per_image)
    assert choose_threads(nn.Linear(4, 5), (4,), batch_size) == expected


def test_choose_threads_reports_a_lower_number(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mst.notes"):
        assert choose_threads(nn.Linear(1000, 1000), (1000,), 64) == 1
    assert "computing on 1 of 8 threads: a batch has only 64 million multiplications" in caplog.text


def test_choose_threads_keeps_the_users_choice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = nn.Linear(4, 5)
    with caplog.at_level(logging.INFO, "mst.notes"):
        assert choose_threads(small, (4,), 1, requested=5) == 5
        with monkeypatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "8")
            assert choose_threads(small, (4,), 1) == 8
        with monkeypatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda: 6)  # the program has called torch.set_num_threads(6)
            assert choose_threads(small, (4,), 1) == 6
        assert choose_threads(nn.Linear(4, 5, device="meta"), (4,), 1) == 8  # not on a CPU
    assert not caplog.text
    with pytest.raises(InputError, match="threads must be at least 1, got 0"):
        choose_threads(small, (4,), 1, requested=0)


@pytest.mark.slow
def test_default_numbers_contain_the_number_that_pytorch_chooses() -> None:
    script = "import torch; from mst.threads import _default_numbers as d; print(torch.get_num_threads() in d())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_intra_op_threads_restores_the_former_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = torch.get_num_threads()
    with intra_op_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
