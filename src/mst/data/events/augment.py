"""Options of the random changes of a recording."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mst.errors import InputError

_TONIC = ("horizontal_flip", "polarity_flip", "time_reversal", "event_drop", "time_jitter_us", "noise_events")


@dataclass(frozen=True)
class EventAugmentConfig:
    """Random changes of training recordings.

    All but shift, time_window and spatial_jitter are carried out by tonic and need the extra `events`.

    Raises:
        InputError: a value out of range or of another type.
    """

    shift: int = 0
    """Move the picture by up to this many pixels each way; events that leave the sensor are lost."""

    time_window: float = 1.0
    """Smallest share of a recording's duration that is shown, in (0, 1]; the share is drawn log-uniformly and the
    counts are scaled by its inverse. A network that will see slices over time (mst simulate --slices) needs it, for
    example 0.03, because otherwise it is never trained on less than a whole recording. 1 shows all."""

    horizontal_flip: bool = False
    """Mirror each recording with probability 1/2."""

    polarity_flip: float = 0.0
    """Probability of exchanging brighter and darker, in [0, 1]."""

    time_reversal: float = 0.0
    """Probability of playing a recording backwards with polarities exchanged, in [0, 1]."""

    event_drop: bool = False
    """Leave out random events, or those of a random box or time, or none (EventDrop; Gu et al., IJCAI 2021)."""

    spatial_jitter: float = 0.0
    """Variance in px² of each event's position, rounded to whole pixels."""

    time_jitter_us: float = 0.0
    """Standard deviation of each event's time, in µs."""

    noise_events: int = 0
    """Events added at random positions and times."""

    def __post_init__(self) -> None:
        for name, kinds in (("shift", int), ("noise_events", int), ("horizontal_flip", bool), ("event_drop", bool)):
            if not isinstance(getattr(self, name), kinds):
                raise InputError(f"{name} must be of type {kinds.__name__}, got {getattr(self, name)!r}")
        if not 0.0 < self.time_window <= 1.0:
            raise InputError(f"time_window must be in (0, 1], got {self.time_window}")
        for name in ("polarity_flip", "time_reversal"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("shift", "spatial_jitter", "time_jitter_us", "noise_events"):
            if not 0 <= getattr(self, name) <= 10_000_000:
                raise InputError(f"{name} must be from 0 to 10,000,000, got {getattr(self, name)}")

    @property
    def changes_anything(self) -> bool:
        """True if any option is on."""
        return any(getattr(self, field.name) != field.default for field in fields(self))

    @property
    def needs_tonic(self) -> tuple[str, ...]:
        """The options in use that tonic carries out."""
        return tuple(name for name in _TONIC if getattr(self, name))
