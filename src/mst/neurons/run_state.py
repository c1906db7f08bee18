"""The state of a network while it runs, held in one object that is born and dies with the run.

Layers hold no state. A neuron finds the run it belongs to through a context variable, so two runs of one
network, in one thread or in several, cannot touch each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mst.errors import ExplainedError, InputError

from .chunks import unsettled_images
from .image_rows import in_memory_as, put_rows, take_rows
from .masks import Layout, SpikeMask
from .precision import full_precision

BEFORE_FIRST_STEP = -1
"""The step of a pass that shows a network no image and lets no neuron fire: its values before any change."""

MASK_SLOT = "mask"
"""Slot of the spike mask that a site keeps for the whole run."""


_STEPS_AT_FIRST = 256
"""Steps that fit into the counts of a site before they are copied to a place of twice the size."""


class SiteCounts:
    """Spikes of one site in one batch.

    The counts of all steps lie in one tensor. A small tensor for each chunk would live until the end of the run, in the
    midst of the large buffers that come and go: the heap could not reuse what it cuts apart, and would grow with T.

    Args:
        num_neurons: neurons of the site, per image.
        threshold: λ in activation units, one value or one per channel; on its device, which is not waited for.
    """

    def __init__(self, num_neurons: int, threshold: Tensor) -> None:
        self.num_neurons = num_neurons
        self.threshold = threshold
        self._per_step = torch.empty(2, 0, dtype=torch.int64)
        self._steps = 0

    def add(self, sent: Tensor, dropped: Tensor) -> None:
        """Add the steps of a chunk; sent, dropped: int64 [T]."""
        steps, known = self._steps + len(sent), self._per_step[:, : self._steps]
        if steps > self._per_step.shape[1]:
            self._per_step = known.new_empty(2, max(_STEPS_AT_FIRST, 2 * steps), device=sent.device)
            self._per_step[:, : self._steps] = known
        self._per_step[0, self._steps : steps] = sent
        self._per_step[1, self._steps : steps] = dropped
        self._steps = steps

    @property
    def sent(self) -> Tensor:
        """int64 [T]: spikes that left the site in each step so far, after masking."""
        return self._per_step[0, : self._steps]

    @property
    def dropped(self) -> Tensor:
        """int64 [T]: spikes that the mask dropped in each step so far."""
        return self._per_step[1, : self._steps]

    def __repr__(self) -> str:
        return f"SiteCounts({self.num_neurons} neurons, {self._steps} steps)"


@dataclass(eq=False, repr=False)
class RunState:
    """The state of one batch under simulation, or of one ANN batch whose masks must be repeatable.

    Make one with `begin_run`, and compute inside `running`.
    """

    seed: int
    """Seed of the masks."""

    batch_size: int
    """Images now in the batch."""

    first_image: int = 0
    """Index in the data of the first image that the batch began with."""

    step: int = 0
    """First step of the chunk now computed; `BEFORE_FIRST_STEP` before any."""

    steps_in_chunk: int = 1
    """Steps folded into the batch axis."""

    names: Mapping[nn.Module, str] = field(default_factory=dict)
    """Module -> its path below the model of this run, which names its site."""

    state: MutableMapping[tuple[str, str], Tensor] = field(default_factory=dict)
    """(site, slot) -> a tensor [B*k, ...] that is kept from step to step. A neuron declares its slots."""

    counts: dict[str, SiteCounts] = field(default_factory=dict)
    """Site -> its spikes so far."""

    visited_sites: set[str] = field(default_factory=set)
    """Sites that the present pass through the network has reached."""

    is_review: bool = False
    """True while signed neurons only look at what they miss, and do not fire."""

    notes_changed: bool = False
    """True if signed neurons are to set `changed`."""

    spike_observers: dict[str, Callable[[Tensor, Tensor | None, Tensor | None], None]] = field(default_factory=dict)
    """Site -> a function that is given its spikes of each chunk, after masking: int64 [T], and by neuron [T, B*k, ...]
    (signed numbers of spikes under lossless coding; 0 or any other value under rate coding), or in place of these the
    numbers of each neuron [T, n], summed over images."""

    uneven_sites: frozenset[str] = frozenset()
    """Sites whose observer needs to know which neurons have fired."""

    unsettled: Tensor | None = None
    """bool [steps_in_chunk, B]: images in which a signed neuron has yet to fire after that step."""

    changed: Tensor | None = None
    """bool [steps_in_chunk, B]: images in which the output of the site reached last has changed in that step."""

    places: Tensor | None = None
    """int64 [B]: within `only`, places of the images in the whole batch; None: the batch is whole."""

    _images: Tensor | None = None
    _step_shapes: dict[str, tuple[int, torch.Size]] = field(default_factory=dict)

    def __repr__(self) -> str:
        steps = f"steps {self.step} to {self.step + self.steps_in_chunk - 1}"
        return f"RunState(seed={self.seed}, {self.batch_size} images, {steps}, {len(self.state)} tensors)"

    def begin_chunk(self, step: int, steps_in_chunk: int) -> None:
        """Declare which steps the next pass through the network computes."""
        self.step, self.steps_in_chunk = step, steps_in_chunk
        self.visited_sites.clear()
        self.unsettled = None

    def repeat_image(self, number: int) -> None:
        """Make a batch of its only image `number` times, each as it is now; masks are drawn again for each."""
        self.state = {
            (site, slot): in_memory_as(tensor.repeat(number, *[1] * (tensor.dim() - 1)), tensor)
            for (site, slot), tensor in self.state.items()
            if slot != MASK_SLOT
        }
        self.batch_size, self._images = number, None

    def keep_images(self, kept: Tensor) -> None:
        """Remove the other images from the batch: their state is deleted, that of the kept ones stays as it is.

        Args:
            kept: bool [B].

        Raises:
            InputError: a tensor of the state is not [B*k, ...].
        """
        images = self.image_indices(kept.device)[kept]
        for (site, slot), tensor in self.state.items():
            if tensor.dim() == 0 or tensor.shape[0] % self.batch_size:
                raise InputError(
                    f"slot {slot!r} has shape {tuple(tensor.shape)}, which does not divide by {self.batch_size} images",
                    where=f"site {site!r}",
                    remedy="keep state as [B*k, ...], images first",
                )
            rows = tensor.view(self.batch_size, -1, *tensor.shape[1:])[kept].flatten(0, 1)
            self.state[site, slot] = in_memory_as(rows, tensor)
        self._images, self.batch_size = images, len(images)
        self.unsettled = None

    @contextmanager
    def only(self, places: Tensor) -> Iterator[None]:
        """Within the block the batch consists of some of its images; what they leave in the state is kept.

        Args:
            places: int64 [n], their places in the batch, in order.
        """
        if len(places) == self.batch_size:
            yield
            return
        whole = self.batch_size, self._images, self.state
        self._images = self.image_indices(places.device)[places]
        part = _StateOfSome(self.state, places, self.batch_size)
        self.batch_size, self.state, self.places = len(places), part, places
        try:
            yield
            part.write_back()
        finally:
            self.batch_size, self._images, self.state = whole
            self.places = None

    def of_all(self, site: str, slot: str) -> Tensor:
        """A tensor of the state with the rows of the whole batch, also within `only`."""
        return self.state.whole[site, slot] if isinstance(self.state, _StateOfSome) else self.state[site, slot]

    def image_indices(self, device: torch.device) -> Tensor:
        """int64 [B]: index in the data of each image now in the batch."""
        if self._images is None:
            self._images = torch.arange(self.first_image, self.first_image + self.batch_size, device=device)
        return self._images.to(device)

    def note_unsettled(self, missing: Tensor) -> None:
        """Add the neurons of one site to `unsettled`.

        Args:
            missing: [T, B*k, ...], 0 where a neuron has nothing left to send.
        """
        self.note_unsettled_images(unsettled_images(missing, self.batch_size))

    def note_unsettled_images(self, images: Tensor) -> None:
        """Add images to `unsettled`; bool [T, B], those in which a neuron of one site has yet to fire."""
        self.unsettled = images if self.unsettled is None else self.unsettled | images

    def take_flags(self) -> tuple[Tensor, Tensor]:
        """`unsettled` and `changed` of the site reached last in one step, bool [B] each; the run forgets them."""
        assert self.unsettled is not None
        assert self.changed is not None
        flags = self.unsettled[0], self.changed[0]
        self.unsettled = self.changed = None
        return flags

    def name_of_use(self, path: str) -> str:
        """A name for this use of the module at `path` in this pass: `path`, then "path (2)", "path (3)", ..."""
        name, number = path, 1
        while name in self.visited_sites:
            number += 1
            name = f"{path} ({number})"
        return name

    def unfold(self, x: Tensor, site: str) -> Tensor:
        """[T*B*k, ...] -> [T, B*k, ...], where k is what the model folded into the batch (its windows).

        Raises:
            InputError: the first axis is not a multiple of T*B, a step differs in shape from the last chunk's, or this
                pass has reached the site before (a module used twice would mix two populations of neurons).
        """
        where = f"site {site!r}"
        if site in self.visited_sites:
            raise InputError(
                "used twice in one pass through the network",
                where=where,
                remedy="give each use a QCFS of its own",
            )
        rows = self.steps_in_chunk * self.batch_size
        if x.shape[0] % rows:
            raise InputError(
                f"the first axis of {tuple(x.shape)} must be a multiple of "
                f"{self.steps_in_chunk} steps x {self.batch_size} images = {rows}",
                where=where,
            )
        x_TB = x.reshape(self.steps_in_chunk, -1, *x.shape[1:])
        per_image = (x_TB.shape[1] // self.batch_size, x.shape[1:])
        known = self._step_shapes.setdefault(site, per_image)
        if known != per_image:
            began = (known[0] * self.batch_size, *known[1])
            raise InputError(
                f"a step has shape {tuple(x_TB.shape[1:])}, but this run began with {began}",
                where=where,
                remedy="begin a new run for images of another shape",
            )
        self.visited_sites.add(site)
        return x_TB

    def tensors_of(self, site: str, slots: tuple[str, ...], initial: Callable[[], dict[str, Tensor]]) -> list[Tensor]:
        """The tensors of a site in the order of its `slots`; at the site's first step those of `initial`.

        Raises:
            InputError: `initial` has other slots than those declared.
        """
        if any((site, slot) not in self.state for slot in slots):
            first = initial()
            if set(first) != set(slots):
                raise InputError(f"the slots {sorted(slots)} are declared, got {sorted(first)}", where=f"site {site!r}")
            self.state.update({(site, slot): tensor for slot, tensor in first.items()})
        return [self.state[site, slot] for slot in slots]

    def forget(self, site: str) -> None:
        """Delete all that this run knows of a site but its spike counts, as if it had not been reached."""
        self.visited_sites.discard(site)
        self._step_shapes.pop(site, None)
        for key in [key for key in self.state if key[0] == site]:
            del self.state[key]

    def name_of(self, module: nn.Module) -> str:
        """The site that `module` is.

        Raises:
            InputError: the run was begun without the model that `module` belongs to.
        """
        name = self.names.get(module)
        if name is None:
            raise InputError(
                f"this {type(module).__name__} has a mask but no name in this run",
                remedy="begin the run with begin_run(model, ...), where model is the whole network",
            )
        return name

    def keep_mask(self, like: Tensor, mask: SpikeMask, site: str, step: int, layout: Layout | None = None) -> Tensor:
        """bool, broadcastable to `like` [B*k, ...], the spikes of that step; False drops."""
        images = self.image_indices(like.device)
        return mask.keep(like, images, seed=self.seed, site=site, step=step, layout=layout)

    def held_mask(self, like: Tensor, mask: SpikeMask, site: str, layout: Layout | None = None) -> Tensor:
        """The mask that `site` keeps for the whole of the run: that of step 0, which the ANN has too."""
        keep = self.state.get((site, MASK_SLOT))
        if keep is None:
            keep = self.state[site, MASK_SLOT] = self.keep_mask(like, mask, site, 0, layout)
        return keep


class _StateOfSome(dict[tuple[str, str], Tensor]):
    """The state of some images of a batch, copied out of that of all as it is asked for.

    Args:
        whole: (site, slot) -> [B*k, ...].
        places: int64 [n], the images.
        batch_size: B.
    """

    def __init__(self, whole: MutableMapping[tuple[str, str], Tensor], places: Tensor, batch_size: int) -> None:
        super().__init__()
        self.whole, self._places, self._batch_size = whole, places, batch_size

    def __missing__(self, key: tuple[str, str]) -> Tensor:
        rows = take_rows(self.whole[key], self._batch_size, self._places)
        self[key] = rows
        return rows

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.whole

    def get(self, key: tuple[str, str], default: Tensor | None = None) -> Tensor | None:  # type: ignore[override]
        try:
            return self[key]
        except KeyError:
            return default

    def write_back(self) -> None:
        """Put what the block has left into the state of all."""
        for key, rows in self.items():
            put_rows(self.whole[key], self._batch_size, self._places, rows)


def begin_run(model: nn.Module, *, seed: int = 0, batch_size: int, first_image: int = 0) -> RunState:
    """A new run of `model`. Its sites have their module paths as names for as long as the run lives.

    Args:
        model: the whole network, ANN or SNN; the names of its sites are paths below it.
        seed: of the masks.
        batch_size: B, images in the batch.
        first_image: index in the data of the first image.
    """
    names = {module: name for name, module in model.named_modules()}
    return RunState(seed, batch_size, first_image, names=names)


class NotRunningError(ExplainedError, RuntimeError):
    """A spiking module was called outside a run, where it has no state."""


_CURRENT: ContextVar[RunState | None] = ContextVar("mst_run_state", default=None)


def current_run() -> RunState | None:
    """The run that the calling code is part of, if any."""
    return _CURRENT.get()


def require_run(site: str, what: str) -> RunState:
    """The current run.

    Raises:
        NotRunningError: there is none.
    """
    run = current_run()
    if run is None:
        raise NotRunningError(
            f"{what} only inside a run",
            where=f"site {site!r}",
            remedy="call mst.simulate(snn, images, num_steps=...) instead of snn(images)",
        )
    return run


@contextmanager
def running(run: RunState) -> Iterator[RunState]:
    """Make `run` the current run for the duration of the block, and compute convolutions in full precision."""
    token = _CURRENT.set(run)
    try:
        with full_precision():
            yield run
    finally:
        _CURRENT.reset(token)
