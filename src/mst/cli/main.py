"""The command `mst`: one verb, one function; errors in one line; exit codes.

0: done.  1: the request could not be carried out.  2: the command line is wrong.  130: interrupted.
143: ended by SIGTERM, with nothing lost.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. MST_DEBUG=1 in the environment shows tracebacks."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run() -> None:
        from .parser import run_verb
        from .verbs import VERBS

        run_verb(VERBS, arguments or ["--help"])

    return run_reporting_errors(run, "mst")


def run_reporting_errors(run: Callable[[], None], command: str) -> int:
    """Call `run`; what goes wrong becomes one line on standard error and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="mst: %(levelname)s: %(message)s")
    try:
        from mst.distributed import leave_processes
        from mst.training import TrainingStoppedError

        run()
        leave_processes()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted; files already written stay valid", file=sys.stderr)
        return 130
    except TrainingStoppedError as stop:
        print(f"{command}: {stop}", file=sys.stderr)
        return 128 + stop.signal
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("MST_DEBUG"):
            raise
        print(f"{command}: error: {_process()}{_one_line(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        if os.environ.get("MST_DEBUG"):
            raise
        print(
            f"{command}: error: {_process()}unexpected {type(error).__name__}: {_one_line(error)} "
            "(MST_DEBUG=1 shows where)",
            file=sys.stderr,
        )
        return 1
    return 0


def _process() -> str:
    """Which of several processes speaks."""
    return f"process {os.environ['RANK']}: " if int(os.environ.get("RANK", 0)) else ""


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.strerror}: {error.filename}"
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:  # of a process that prepares images
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
