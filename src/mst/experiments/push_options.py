"""Options of `mst push`. Nothing here imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mst.errors import InputError


@dataclass(frozen=True)
class PushOptions:
    """What is published on the Hugging Face hub, and where."""

    checkpoint: Path
    """The checkpoint: a .safetensors file of this library, or zoo:NAME."""

    repository: str
    """USER/NAME on the hub; created if it does not exist."""

    runs: tuple[Path, ...] = ()
    """Output folders of mst evaluate, simulate or measure with this checkpoint: their figures go into the card. The
    record of the training is found beside the checkpoint."""

    license: str | None = None
    """Name of a licence as the hub writes it, for example apache-2.0. By default the card states none, and nobody may
    use the weights until you add one."""

    private: bool = False
    """Create the repository as a private one."""

    replace: bool = False
    """Add a commit to a repository that holds weights or a card already; its history keeps the older ones."""

    card: Path | None = None
    """A Markdown file to publish as the card. By default it is written from the checkpoint and the runs."""

    dry_run: bool = False
    """Print the card and publish nothing."""

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            raise InputError(f"a licence is written like apache-2.0 or mit on the hub, got {self.license!r}")
        if self.card is not None and (self.runs or self.license):
            raise InputError("runs and license go into a card that is written here", remedy="leave them or card out")
