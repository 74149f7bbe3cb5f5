"""What an evaluation found: as a table on the screen, Markdown for a card, and JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unistep.evaluation.features import FeatureLabel
from unistep.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

_FORMAT = "unistep-evaluation-1"
SANITY = "sanity"
"""The kind of a row that is of no model but gives the figures a scale."""
REFERENCE = "reference"
"""The name of such a row of the reference itself, in which only the extra metrics mean something."""
_HEADERS = (
    "model",
    "sampler",
    "calls",
    "Fréchet ↓",
    "relative to noise",
    "KID·10³ ↓",
    "precision ↑",
    "recall ↑",
    "images/s ↑",
)
_NARROW = ("model", "sampler", "calls", "Fréchet", "/ noise", "KID·10³", "prec.", "recall", "images/s")
_WIDE_ENOUGH, _LONGEST_SAMPLER = 112, len("dpmpp2m 18")


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one model with one sampler setting, or of a sanity check."""

    name: str
    """Name of the model, or of the check."""
    kind: str
    """``consistency``, ``denoiser`` or ``sanity``."""
    solver: str | None = None
    """ODE solver of a denoiser."""
    steps: int | None = None
    """Sampling steps."""
    guidance: float | None = None
    """Guidance weight, 1 for none; ``None`` for a model that takes no guidance."""
    calls: int | None = None
    """Network calls for each sample; each of a denoiser counts twice under guidance."""
    num: int
    """Number of samples compared."""
    frechet: float
    """Fréchet distance to the reference; smaller is better."""
    kid: float
    """Kernel distance to the reference; smaller is better."""
    kid_std: float
    """Its standard deviation over subsets."""
    precision: float
    """Share of samples inside the reference manifold."""
    recall: float
    """Share of the reference inside the samples' manifold."""
    density: float
    """Samples' mean number of reference neighbourhoods, relative."""
    coverage: float
    """Share of reference neighbourhoods that hold a sample."""
    extra_metrics: dict[str, float] = field(default_factory=dict)
    """What else was found, by its column's name, such as the share of notes at the right pitch."""
    seconds: float | None = None
    """Time that sampling took, without features and metrics."""

    @property
    def images_per_second(self) -> float | None:
        """Speed of sampling."""
        return self.num / self.seconds if self.seconds else None

    @property
    def sampler(self) -> str:
        """The sampler in words."""
        if self.steps is None:
            return ""
        text = f"{self.solver} {self.steps}" if self.solver else f"{self.steps} step{'s' if self.steps > 1 else ''}"
        return text if self.guidance is None or self.guidance == 1 else f"{text}, guidance={self.guidance:g}"


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows of an evaluation, with what is needed to know what the figures mean."""

    rows: tuple[Row, ...]
    """Models first, sanity checks last."""
    features: FeatureLabel
    """The feature network."""
    data: str
    """Name of the reference data."""
    fingerprint: str
    """Its fingerprint."""
    reference_count: int
    """Number of reference images."""
    num: int
    """Number of samples of each model."""
    seed: int
    """Seed of the first sample."""
    batch_size: int
    """Samples that went through a model together."""
    hardware: str
    """What the times were taken on."""
    torch: str
    """Version of PyTorch."""
    date: str
    """Day of the evaluation, in UTC."""
    notes: tuple[str, ...] = ()
    """What a reader should be warned of."""
    condition: dict[str, str] = field(default_factory=dict)
    """Fields that were the same for every sample; the models drew the others."""
    noun: str = "images"
    """What the samples are."""

    @property
    def caption(self) -> str:
        """The label that every figure of the report goes under."""
        given = "".join(f", {name} {value}," for name, value in self.condition.items())
        return (
            f"features {self.features}; {self.num:,} samples{given} against {self.reference_count:,} {self.noun} of "
            f"{self.data} (fingerprint {self.fingerprint[:12]})"
        )

    @property
    def conditions(self) -> str:
        """How the times came about."""
        return f"{self.hardware}; PyTorch {self.torch}; batch {self.batch_size}; seed {self.seed}; {self.date}"

    def noise(self) -> Row | None:
        """The row of pure noise, where there is one."""
        return next((row for row in self.rows if row.kind == SANITY and row.name == "noise"), None)

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """Names of the columns that only some reports have."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.extra_metrics))

    def _headers(self, *, narrow: bool = False) -> list[str]:
        *usual, speed = _NARROW if narrow else _HEADERS
        further = [name.removesuffix(" ↑").removesuffix(" ↓") if narrow else name for name in self.extra_metrics]
        return [*usual, *further, speed.replace("images", self.noun)]

    def _cells(self, row: Row) -> tuple[str, ...]:
        noise = self.noise()
        speed = row.images_per_second
        return (
            row.name,
            row.sampler,
            "" if row.calls is None else str(row.calls),
            f"{row.frechet:.3f}",
            f"{row.frechet / noise.frechet:.2%}" if noise and noise.frechet > 0 else "",
            f"{row.kid * 1e3:.2f} ± {row.kid_std * 1e3:.2f}",
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            *(f"{row.extra_metrics[name]:.3f}" if name in row.extra_metrics else "" for name in self.extra_metrics),
            "" if speed is None else f"{speed:,.1f}" if speed < 100 else f"{speed:,.0f}",
        )

    @property
    def _full_width(self) -> int:
        """Columns of the terminal that the whole table takes."""
        # A guided sampler has a longer name, which is not to cost the model's its room.
        samplers = max((len(row.sampler) for row in self.rows), default=0) - _LONGEST_SAMPLER
        return _WIDE_ENOUGH + samplers + sum(len(name) + 2 for name in self.extra_metrics)

    def tables(self, width: int = 120) -> list[Table]:
        """What :meth:`table` shows, in as many tables as a terminal of that width needs."""
        if not self.extra_metrics or width >= self._full_width:
            return [self.table(width)]
        usual = replace(self, rows=tuple(replace(row, extra_metrics={}) for row in self.rows))
        return [self._table_of_further(), usual.table(width)]

    def _table_of_further(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i, header in enumerate(("model", "sampler", *self.extra_metrics)):
            table.add_column(header, justify="left" if i < 2 else "right", no_wrap=i < 2, overflow="fold")
        for row in self.rows:
            if row.extra_metrics:
                found = (
                    f"{row.extra_metrics[name]:.3f}" if name in row.extra_metrics else "" for name in self.extra_metrics
                )
                table.add_row(row.name, row.sampler, *found, style="dim" if row.kind == SANITY else "")
        return table

    def table(self, width: int = 120) -> Table:
        """A table for the terminal.

        Args:
            width: Columns of the terminal; a narrow one gets shorter headings and no spread of KID.
        """
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        narrow = width < self._full_width
        caption = "\n".join([_upper(self.caption), self.conditions, *(f"Note: {note}" for note in self.notes)])
        padding = (0, 0) if narrow else (0, 1)
        table = Table(caption=caption, box=SIMPLE_HEAD, caption_justify="left", pad_edge=False, padding=padding)
        for i, header in enumerate(self._headers(narrow=narrow)):
            table.add_column(header, justify="left" if i < 2 else "right", no_wrap=i > 1, overflow="fold")
        for i, row in enumerate(self.rows):
            cells = [cell.split(" ± ")[0] if narrow else cell for cell in self._cells(row)]
            if i and self.rows[i - 1].name == row.name:
                cells[0] = ""
            following = self.rows[i + 1] if i + 1 < len(self.rows) else None
            last = following is None or (following.name != row.name and row.kind != SANITY)
            table.add_row(*cells, style="dim" if row.kind == SANITY else "", end_section=last)
        return table

    def markdown(self) -> str:
        """The same table for a card, with its caption."""
        headers = self._headers()
        lines = ["| " + " | ".join(headers) + " |", "|---|---|" + "---:|" * (len(headers) - 2)]
        lines += ["| " + " | ".join(self._cells(row)) + " |" for row in self.rows]
        notes = [f"Note: {note}." for note in self.notes]
        return "\n".join([*lines, "", f"{_upper(self.caption)}. {self.conditions}.", *notes, ""])

    def to_plain(self) -> dict[str, Any]:
        """Everything as plain values."""
        plain = asdict(self) | {"format": _FORMAT, "features": self.features._asdict()}
        plain["rows"] = [asdict(row) | {"images_per_second": row.images_per_second} for row in self.rows]
        return plain

    def save_json(self, path: str | Path) -> None:
        """Write everything as JSON, at once or not at all.

        Raises:
            ValueError: If the file cannot be written.
        """
        text = json.dumps(self.to_plain(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        write_text(Path(path), text)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Report:
        """The report that :meth:`to_plain` described.

        Raises:
            ValueError: If it is not one.
        """
        if plain.get("format") != _FORMAT:
            raise ValueError(f"not an evaluation report: its format is {plain.get('format')!r}, expected {_FORMAT!r}")
        rest = {key: value for key, value in plain.items() if key not in ("format", "rows", "features", "notes")}
        rows = [{k: v for k, v in row.items() if k != "images_per_second"} for row in plain["rows"]]
        try:
            return cls(
                rows=tuple(Row(**row) for row in rows),
                features=FeatureLabel(**plain["features"]),
                notes=tuple(plain["notes"]),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an evaluation report: {error}") from error
