"""Errors of several processes: one of them prints, and torchrun's report ends with the same line."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

REPORT = "TORCHELASTIC_ERROR_FILE"
"""Variable of torchrun and accelerate launch: the file from which their report takes the reason of a process."""

WAIT = 1.0
"""Seconds. torchrun looks after its processes every 0.1 seconds, and ends all of them when one has failed."""


def print_error(line: str) -> None:
    """Print the line of an error on standard error, and hand it to the launcher that has started this process, if any.

    One of several processes prints: each waits, process 0 for a shorter time. The launcher meanwhile ends those that
    met the same error, and those that failed because another process had left them.
    """
    report, failed_at = os.environ.get(REPORT), int(time.time())
    if report:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            time.sleep(WAIT if int(os.environ.get("RANK", 0)) == 0 else 2 * WAIT)
        reason = {"message": {"message": line, "extraInfo": {"timestamp": str(failed_at)}}}
        with suppress(OSError):
            Path(report).write_text(json.dumps(reason), encoding="utf-8")
    print(line, file=sys.stderr)
