from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from torch.utils.data._utils import signal_handling

from mst.data import in_order
from mst.signals import STOP_SIGNALS, SteadyLoader, StopRequest, stop_signals_held

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts worker processes without fork")


def signal_this_process() -> None:
    for number in STOP_SIGNALS:
        os.kill(os.getpid(), number)


@pytest.fixture
def _workers_are_signalled_at_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earliest moments at which a signal can reach a worker: after the fork, and after PyTorch's own handlers."""

    def then_signal(function: Callable[[], int | None]) -> Callable[[], int | None]:
        def changed() -> int | None:
            result = function()
            if os.getpid() != main_process:
                signal_this_process()
            return result

        return changed

    main_process = os.getpid()
    monkeypatch.setattr(os, "fork", then_signal(os.fork))
    name = "_set_worker_signal_handlers"
    monkeypatch.setattr(signal_handling, name, then_signal(getattr(signal_handling, name)))


def numbers(count: int) -> Dataset[tuple[torch.Tensor, ...]]:
    return TensorDataset(torch.arange(count))


def read(batches: Iterator[list[torch.Tensor]]) -> list[int]:
    return [int(number) for (batch,) in batches for number in batch]


@pytest.mark.usefixtures("_workers_are_signalled_at_birth")
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_survive_signals_from_their_first_moment(persistent: bool) -> None:
    loader = SteadyLoader(numbers(12), batch_size=2, num_workers=2, persistent_workers=persistent)
    for _ in range(2):  # the second iterator starts other workers, or uses the same ones again
        assert read(iter(loader)) == list(range(12))


@pytest.mark.usefixtures("_workers_are_signalled_at_birth")
def test_in_order_workers_survive_signals_from_their_first_moment() -> None:
    dataset = TensorDataset(torch.zeros(6, 1), torch.arange(6))
    batches = in_order(dataset, range(6), 2, num_workers=1)  # type: ignore[arg-type]
    assert [label for _, labels in batches for label in labels.tolist()] == list(range(6))


def test_workers_end_when_their_parent_asks() -> None:
    """PyTorch and Python do so with workers that do not answer, and then wait for them."""
    batches = iter(SteadyLoader(numbers(8), num_workers=1))
    (worker,) = batches._workers  # type: ignore[attr-defined]
    next(batches)  # it has been initialised
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


def test_a_signal_that_arrives_while_workers_start_is_delivered_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program has other threads, one of them may take it earlier."""
    fork = os.fork

    def fork_and_signal() -> int:
        if pid := fork():
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_signal)
    with StopRequest() as stop:
        batches = iter(SteadyLoader(numbers(4), num_workers=2))
        assert stop.signal == signal.SIGTERM
        assert read(batches) == list(range(4))


def test_stop_signals_held_restores_the_former_mask() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with stop_signals_held():
            assert set(STOP_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_stop_request_second_interrupt_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_program_that_fails_with_workers_running_ends(tmp_path: Path) -> None:
    """Its traceback keeps the iterator, and so the workers, alive until the interpreter ends."""
    script = tmp_path / "fails.py"
    script.write_text(
        "import torch\n"
        "from mst.signals import SteadyLoader\n"
        "loader = SteadyLoader(torch.arange(8), batch_size=2, num_workers=2, persistent_workers=True)\n"
        "batches = iter(loader)\n"
        "next(batches)\n"
        "raise ValueError('on purpose')\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ValueError: on purpose"


@pytest.mark.slow
def test_a_program_ends_although_a_worker_does_not_answer(tmp_path: Path) -> None:
    """Its iterator is gone and has waited in vain; on a busy machine a worker may just be slow."""
    script = tmp_path / "deaf.py"
    script.write_text(
        "import time, torch\n"
        "from torch.utils.data import Dataset, _utils\n"
        "from mst.signals import SteadyLoader\n"
        "class Slow(Dataset):\n"
        "    def __len__(self): return 8\n"
        "    def __getitem__(self, index): return time.sleep(3600 if index else 0) or index\n"
        "_utils.MP_STATUS_CHECK_INTERVAL = 0.2\n"
        "batches = iter(SteadyLoader(Slow(), batch_size=1, num_workers=1))\n"
        "next(batches)\n"
        "del batches\n"
        "print('done')\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n")
