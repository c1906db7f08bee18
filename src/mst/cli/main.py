"""The command `mst`: one verb, one function; errors in one line; exit codes.

0: done.  1: the request could not be carried out.  2: the command line is wrong.  130: interrupted.
143: ended by SIGTERM, with nothing lost.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from .launcher import print_error
from .verbs import VERBS

DESCRIPTION = """\
Train a Transformer with quantised activations, mask its spikes, convert it to a spiking neural network, simulate it
over time steps and measure what it costs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. MST_DEBUG=1 in the environment shows tracebacks."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0

    if arguments[0] == "--version":
        from mst import __version__

        print(f"mst {__version__}")
        return 0

    def run() -> None:
        from .parser import run_verb

        run_verb(arguments)

    return run_reporting_errors(run, "mst")


def overview() -> str:
    """The text of `mst --help`."""
    verbs = "\n".join(f"  {name:<12}{verb.summary}" for name, verb in VERBS.items())
    return (
        f"usage: mst VERB [options]\n\n{DESCRIPTION}\n\nverbs:\n{verbs}\n\n"
        "`mst VERB --help` explains a verb and its options. `mst --version` prints the version. "
        "MST_DEBUG=1 in the environment shows tracebacks."
    )


def run_reporting_errors(run: Callable[[], None], command: str) -> int:
    """Call `run`; an error becomes one line on standard error and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="mst: %(levelname)s: %(message)s")
    try:
        from mst.heap import keep_freed_memory

        from .display import show_notes

        keep_freed_memory()
        show_notes()
        run()
        _leave_processes()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted; files already written stay valid", file=sys.stderr)
        return 130
    except Exception as error:
        if hasattr(error, "signal"):  # a training that was stopped, and has written its state
            print(f"{command}: {error}", file=sys.stderr)
            return 128 + int(error.signal)
        if os.environ.get("MST_DEBUG"):
            raise
        print_error(f"{command}: error: {_process()}{_in_one_line(error)}")
        return 1
    return 0


def _leave_processes() -> None:
    if "mst.distributed" in sys.modules:
        sys.modules["mst.distributed"].leave_processes()


def _process() -> str:
    """Number of the process that the error is from, if there are several."""
    return f"process {os.environ['RANK']}: " if int(os.environ.get("RANK", 0)) else ""


def _in_one_line(error: Exception) -> str:
    from mst.text import one_line

    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, ValueError | OSError | RuntimeError | MemoryError):
        return one_line(error)
    return f"unexpected {type(error).__name__}: {one_line(error)} (MST_DEBUG=1 shows where)"


if __name__ == "__main__":
    sys.exit(main())
