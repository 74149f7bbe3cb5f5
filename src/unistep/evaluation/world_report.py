"""What an evaluation of a world found: curves over the frames, as tables, Markdown, a plot, and JSON for a program."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from unistep.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

_FORMAT = "unistep-world-1"
MARKS = (1, 10, 100, 1_000, 10_000)
"""Frames at which the columns of a table end."""
Role = Literal["world", "floor", "real"]


@final
@dataclass(frozen=True, kw_only=True)
class ActionFigures:
    """How well actions are recognised by the frames that they led to."""

    accuracy: float
    """Share of frames whose class is right, the mean over controls."""
    balanced: float
    """The same with every class of a control counting alike, so that guessing gives 1/2 or 1/3."""
    controls: dict[str, float]
    """The latter of each control."""
    blocks: tuple[float, ...]
    """The accuracy in each block of frames."""


@final
@dataclass(frozen=True, kw_only=True)
class RolloutFigures:
    """What was found of one rollout; each curve has a value for every frame, the mean over the recordings."""

    name: str
    """What made the frames."""
    role: Role
    """The world, a floor that it has to beat, or the recordings themselves."""
    psnr: tuple[float, ...] = ()
    """PSNR to the true frame, in decibels; empty for the recordings themselves, as are the next two."""
    ssim: tuple[float, ...] = ()
    """SSIM to the true frame."""
    distance: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Distance of features to those of the true frame by network, as a share of that of unrelated real frames."""
    frechet: dict[str, tuple[float, ...]]
    """Fréchet distance of the frames of each block to real ones, by network."""
    actions: ActionFigures
    """Whether the actions are recognised."""

    def drift(self, network: str) -> float:
        """The Fréchet distance of the last block over that of the first."""
        first, last = self.frechet[network][0], self.frechet[network][-1]
        return last / first if first > 0 else math.inf if last > 0 else 1.0


@final
@dataclass(frozen=True, kw_only=True)
class WorldReport:
    """All rollouts of an evaluation, with what is needed to know what the figures mean."""

    model: str
    """Name of the world."""
    sampler: str
    """How each frame was made, such as ``1 step``."""
    rows: tuple[RolloutFigures, ...]
    """The world first, then the floors, the recordings last."""
    data: str
    """Where the recordings are from."""
    fingerprint: str
    """Fingerprint of that data."""
    learned: str
    """Play that the inverse-dynamics network has learned from, and that Fréchet distances are to."""
    streams: int
    """Number of recordings."""
    length: int
    """Frames of each rollout."""
    before: int
    """True frames that each begins with."""
    frame: str
    """Size, colours and rate of the frames in words."""
    blocks: tuple[tuple[int, int], ...]
    """First and last frame of each block, from 1."""
    networks: dict[str, str]
    """Feature networks by name, with version, width and hash."""
    guess: float
    """Accuracy of always naming the commonest class of each control."""
    seed: int
    """Seed of the first stream."""
    hardware: str
    """What it was computed on."""
    torch: str
    """Version of PyTorch."""
    date: str
    """Day of the evaluation, in UTC."""
    notes: tuple[str, ...] = ()
    """What a reader should be warned of."""

    def row(self, name: str) -> RolloutFigures:
        """The figures of one rollout.

        Raises:
            ValueError: If there is none of that name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f"the report has no rollout {name!r}; it has {', '.join(row.name for row in self.rows)}")

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and last frame, from 1, that a column of a table is the mean over."""
        ends = [mark for mark in MARKS if mark < self.length] + [self.length]
        return tuple(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))

    def means(self, curve: Sequence[float]) -> list[float]:
        """The means of a curve over the :attr:`spans`."""
        return [sum(curve[first - 1 : last]) / (last - first + 1) for first, last in self.spans]

    def actions_over_real(self, row: RolloutFigures) -> float:
        """How well actions are recognised, every class alike, as a share of how well they are in the recordings."""
        own = next(each for each in self.rows if each.role == "real").actions.balanced
        return row.actions.balanced / own if own > 0 else math.nan

    @property
    def caption(self) -> str:
        """What all figures are of."""
        return (
            f"{self.model} ({self.sampler}): {self.streams} recordings of {self.data} (fingerprint "
            f"{self.fingerprint[:12]}), {self.length:,} frames after the first {self.before}; {self.frame}"
        )

    @property
    def conditions(self) -> str:
        """How the figures came about."""
        return f"{self.hardware}; PyTorch {self.torch}; seed {self.seed}; {self.date}"

    def tables(self) -> list[Table]:
        """Tables for a terminal."""
        from unistep.evaluation.world_tables import world_tables

        return world_tables(self)

    def markdown(self) -> str:
        """The same tables for a card, with their captions."""
        from unistep.evaluation.world_tables import markdown

        return markdown(self)

    def to_plain(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self) | {"format": _FORMAT}

    def save_json(self, path: str | Path) -> None:
        """Write everything as JSON, at once or not at all.

        Raises:
            ValueError: If the file cannot be written.
        """
        write_text(Path(path), json.dumps(self.to_plain(), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
