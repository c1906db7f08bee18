"""The order of the training images, and the random numbers of every image and step.

All of it is a function of (seed, epoch, step, process) or of (seed, epoch, image): nothing has to be stored to resume
in the middle of an epoch, and neither worker processes nor an interruption change how an image is augmented.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mst.data.rows import read_batch

_ORDER, _IMAGE, _STEP = range(3)
"""Purposes of random numbers; each has a stream of its own."""

_WORD = 0xFFFFFFFF
"""Bits of a 32-bit word."""

Words = np.ndarray[Any, np.dtype[np.uint32]]


def _words(seed: int, epoch: int, *place: int) -> tuple[int, int, int]:
    first, second, third = np.random.SeedSequence([seed, epoch, *place]).generate_state(3)
    return int(first), int(second), int(third)


def first_words(seed: int, epoch: int, purpose: int, places: Sequence[int]) -> list[int]:
    """The first word of `numpy.random.SeedSequence([seed, epoch, purpose, place])` for many places at once.

    Args:
        seed, epoch, purpose: whole numbers from 0.
        places: whole numbers from 0 to 2^32 - 1.

    Source: numpy.random.SeedSequence, whose hash NumPy keeps as it is; after M. O'Neill, randutils (2015).
    """
    numbers = [word for value in (seed, epoch, purpose) for word in _words_of(value)]
    words = [*(np.array([number], np.uint32) for number in numbers), np.asarray(places, np.uint32)]
    factor = 0x43B0D7E5

    def hashed(word: Words, multiplier: int = 0x931E8875) -> Words:
        nonlocal factor
        word = word ^ np.uint32(factor)
        factor = factor * multiplier & _WORD
        return _folded(word * np.uint32(factor))

    def mixed(one: Words, other: Words) -> Words:
        return _folded(one * np.uint32(0xCA01F9DD) - other * np.uint32(0x4973F715))

    pool = [hashed(word) for word in words[:4]]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in words[4:]:
        pool = [mixed(each, hashed(word)) for each in pool]
    factor = 0x8B51F9DD
    return [int(word) for word in hashed(pool[0], 0x58F38DED)]


def _folded(word: Words) -> Words:
    folded: Words = word ^ (word >> np.uint32(16))
    return folded


def _words_of(number: int) -> list[int]:
    """The 32-bit words of a whole number, the lowest first."""
    words = [number & _WORD]
    while number := number >> 32:
        words.append(number & _WORD)
    return words


def seed_step(seed: int, epoch: int, step: int, process: int = 0) -> None:
    """Seed every global generator for one step of one process: mixing, masks, stochastic depth."""
    for_torch, for_numpy, for_python = _words(seed, epoch, _STEP, step, process)
    torch.manual_seed(for_torch)
    np.random.seed(for_numpy)  # noqa: NPY002 (timm's mixup draws from numpy's global generator)
    random.seed(for_python)


class SeededImages(Dataset[tuple[Tensor, int]]):
    """A data set in which the random augmentation of an image is a function of (seed, epoch, image)."""

    def __init__(self, dataset: Dataset[tuple[Tensor, int]], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0
        self._is_in_memory = read_batch(dataset, [0], [0]) is not None
        self._seeds: tuple[int, list[int]] = (-1, [])  # an epoch, and the seeds of all its images

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        for_torch, for_numpy, for_python = _words(self.seed, self.epoch, _IMAGE, index)
        torch.default_generator.manual_seed(for_torch)  # torch.manual_seed would also look for accelerators
        np.random.seed(for_numpy)  # noqa: NPY002 (augmentations of timm draw from it)
        random.seed(for_python)
        return self.dataset[index]

    def read_batch(self, indices: Sequence[int], seeds: None = None) -> tuple[Tensor, Tensor] | None:
        """See `mst.data.rows.read_batch`; the seeds are those of this epoch."""
        if not self._is_in_memory:
            return None
        if self._seeds[0] != self.epoch:
            self._seeds = self.epoch, first_words(self.seed, self.epoch, _IMAGE, range(len(self)))
        return read_batch(self.dataset, indices, [self._seeds[1][index] for index in indices])


class EpochBatches(Sampler[list[int]]):
    """The batches of one process in one epoch, in an order that is a function of (seed, epoch).

    A step takes `accumulation_steps` batches of every process from one common order, so that W processes with batches
    of B images see the same images in each step as one process with batches of W·B. Images that do not fill a step are
    left out.

    Args:
        num_images: images in the training split.
        batch_size: images in a batch of one process.
        accumulation_steps: batches of each process per step.
        seed: seed of the order.
        num_processes: processes that share the images.
        process: index of this process.
    """

    def __init__(
        self, num_images: int, batch_size: int, accumulation_steps: int, seed: int, num_processes: int, process: int
    ) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.accumulation_steps = accumulation_steps
        self.seed = seed
        self.num_processes = num_processes
        self.process = process
        self.num_steps = num_images // self.images_per_step
        self.epoch = self.first_step = 0

    @property
    def images_per_step(self) -> int:
        """Images of all processes in one step."""
        return self.batch_size * self.accumulation_steps * self.num_processes

    def begin(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch and the first step of the next iteration."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(_words(self.seed, self.epoch, _ORDER)[0])
        order = torch.randperm(self.num_images, generator=generator)
        first = self.first_step * self.accumulation_steps
        for batch in range(first, self.num_steps * self.accumulation_steps):
            at = (batch * self.num_processes + self.process) * self.batch_size
            yield order[at : at + self.batch_size].tolist()
