"""Convolutions in float32 on CUDA too, while a network runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CUDNN: Any = torch.backends.cudnn
_OWNER, _SETTING, _EXACT = (
    (_CUDNN.conv, "fp32_precision", "ieee") if hasattr(_CUDNN, "conv") else (_CUDNN, "allow_tf32", False)
)
_lock = threading.Lock()
_blocks = 0
_before: Any = None


@contextmanager
def full_precision() -> Iterator[None]:
    """Within the block cuDNN does not use TF32, its default for float32.

    TF32 rounds what a convolution multiplies to 11 bits. A settled network then differed from its ANN by as much as
    half a logit, for the two are computed in batches of different sizes, which cuDNN rounds differently.

    The setting is the process's own; it is put back when the last of the blocks ends, in whichever thread.
    """
    global _blocks, _before
    with _lock:
        if _blocks == 0:
            _before = getattr(_OWNER, _SETTING)
            setattr(_OWNER, _SETTING, _EXACT)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                setattr(_OWNER, _SETTING, _before)
