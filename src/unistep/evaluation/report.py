"""What an evaluation found: as tables on the screen, Markdown for a card, and JSON for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unistep.evaluation.features import FeatureLabel
from unistep.evaluation.intervals import Estimate
from unistep.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

_FORMAT, _FIRST_FORMAT = "unistep-evaluation-2", "unistep-evaluation-1"
SANITY = "sanity"
"""The kind of a row that is of no model but gives the figures a scale."""
REFERENCE = "reference"
"""The name of such a row of the reference itself, in which only the extra metrics mean something."""


@final
@dataclass(frozen=True, kw_only=True)
class Figures:
    """How a row's samples compare with the reference on one feature network."""

    frechet: float
    """Fréchet distance to the reference; smaller is better."""
    margin: float | None = None
    """Half of its 95 % interval, by resampling; ``None`` in reports of earlier versions."""
    over_test: Estimate | None = None
    """The distance over that of held-out data; 1 is as good as a perfect model."""
    over_teacher: Estimate | None = None
    """The distance over the teacher's."""
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


@final
@dataclass(frozen=True, kw_only=True)
class ExtraFigure:
    """How sure a further metric is, and how it compares."""

    margin: float
    """Half of its 95 % interval, by resampling."""
    over_test: Estimate | None = None
    """The figure over that of held-out data."""
    over_teacher: Estimate | None = None
    """The figure over the teacher's."""


@final
@dataclass(frozen=True, kw_only=True)
class ReportedNetwork:
    """A feature network of a report, with the scale of its figures."""

    label: FeatureLabel
    """Name, version, hash and width."""
    selects: bool = False
    """Whether models of such data are chosen by it, so that they look better on it than elsewhere."""
    own: float | None = None
    """Fréchet distance of held-out data to the reference, by which the others are divided."""
    own_count: int = 0
    """Number of held-out items."""
    halves: bool = False
    """Whether the data has no held-out part, so that :attr:`own` is of one half to the other."""
    note: str = ""
    """What a reader of its figures should know."""

    @property
    def title(self) -> str:
        """What stands over its figures."""
        role = "; models are selected on it, so do not report it" if self.selects else ""
        if self.own is None:
            return f"{self.label}{role}"
        what = "halves of the data" if self.halves else "held-out data"
        return f"{self.label}; {what}: {self.own:.3g} with {self.own_count:,}{role}"


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
    figures: tuple[Figures, ...]
    """Figures on each feature network, in the order of the report's."""
    extra_metrics: dict[str, float] = field(default_factory=dict)
    """What else was found, by its column's name, such as the share of notes at the right pitch."""
    extra_figures: dict[str, ExtraFigure] = field(default_factory=dict)
    """Intervals and ratios of those among them that have some."""
    seconds: float | None = None
    """Time that sampling took, without features and metrics."""

    @property
    def frechet(self) -> float:
        """Fréchet distance on the first feature network."""
        return self.figures[0].frechet

    @property
    def kid(self) -> float:
        """Kernel distance on the first feature network."""
        return self.figures[0].kid

    @property
    def precision(self) -> float:
        """Precision on the first feature network."""
        return self.figures[0].precision

    @property
    def recall(self) -> float:
        """Recall on the first feature network."""
        return self.figures[0].recall

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
    networks: tuple[ReportedNetwork, ...]
    """The feature networks, those that report first."""
    teacher: str | None = None
    """The row that ratios to the teacher are of, in words."""
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
    def features(self) -> FeatureLabel:
        """Label of the first feature network."""
        return self.networks[0].label

    @property
    def caption(self) -> str:
        """The label that every figure of the report goes under, beside that of its feature network."""
        given = "".join(f", {name} {value}," for name, value in self.condition.items())
        return (
            f"{self.num:,} samples{given} against {self.reference_count:,} {self.noun} of {self.data} "
            f"(fingerprint {self.fingerprint[:12]})"
        )

    @property
    def conditions(self) -> str:
        """How the times came about."""
        return f"{self.hardware}; PyTorch {self.torch}; batch {self.batch_size}; seed {self.seed}; {self.date}"

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """Names of the columns that only some reports have."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.extra_metrics))

    @property
    def compared_metrics(self) -> tuple[str, ...]:
        """Those of them that have intervals and ratios."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.extra_figures))

    def noise(self) -> Row | None:
        """The row of pure noise, where there is one."""
        return next((row for row in self.rows if row.kind == SANITY and row.name == "noise"), None)

    def on(self, name: str) -> Report:
        """The report on one feature network alone.

        Raises:
            ValueError: If it has no such network.
        """
        from dataclasses import replace

        names = [network.label.name for network in self.networks]
        if name not in names:
            raise ValueError(f"the report has no feature network {name!r}; it has {', '.join(names)}")
        i = names.index(name)
        rows = tuple(replace(row, figures=(row.figures[i],)) for row in self.rows)
        return replace(self, rows=rows, networks=(self.networks[i],))

    def tables(self, width: int = 120) -> list[Table]:
        """Tables for a terminal: one for each feature network, one of speed and extra metrics, and one of captions.

        Args:
            width: Columns of the terminal; a narrow one gets no KID.
        """
        from unistep.evaluation.report_tables import report_tables

        return report_tables(self, width)

    def markdown(self) -> str:
        """The same tables for a card, with their captions."""
        from unistep.evaluation.report_tables import markdown

        return markdown(self)

    def to_plain(self) -> dict[str, Any]:
        """Everything as plain values."""
        plain = asdict(self) | {"format": _FORMAT}
        plain["rows"] = [asdict(row) | {"images_per_second": row.images_per_second} for row in self.rows]
        plain["networks"] = [asdict(n) | {"label": n.label._asdict()} for n in self.networks]
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
        """The report that :meth:`to_plain` described, also of a version that had one feature network.

        Raises:
            ValueError: If it is not one.
        """
        if plain.get("format") not in (_FORMAT, _FIRST_FORMAT):
            raise ValueError(f"not an evaluation report: its format is {plain.get('format')!r}, expected {_FORMAT!r}")
        try:
            plain = _of_first_format(plain) if plain["format"] == _FIRST_FORMAT else plain
            rest = {k: v for k, v in plain.items() if k not in ("format", "rows", "networks", "notes")}
            rows: list[dict[str, Any]] = [
                {k: v for k, v in row.items() if k != "images_per_second"} for row in plain["rows"]
            ]
            return cls(
                rows=tuple(map(_row, rows)),
                networks=tuple(ReportedNetwork(**n | {"label": FeatureLabel(**n["label"])}) for n in plain["networks"]),
                notes=tuple(plain["notes"]),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an evaluation report: {error}") from error


def _row(plain: dict[str, Any]) -> Row:
    extra = {name: ExtraFigure(**_with_ratios(figure)) for name, figure in plain.get("extra_figures", {}).items()}
    figures = tuple(Figures(**_with_ratios(each)) for each in plain["figures"])
    return Row(**{**plain, "figures": figures, "extra_figures": extra})


def _with_ratios(plain: dict[str, Any]) -> dict[str, Any]:
    estimates: dict[str, Any] = {name: plain.get(name) for name in ("over_test", "over_teacher")}
    return {**plain, **{name: None if e is None else Estimate(**e) for name, e in estimates.items()}}


_FIRST_FIGURES = ("frechet", "kid", "kid_std", "precision", "recall", "density", "coverage")


def _of_first_format(plain: dict[str, Any]) -> dict[str, Any]:
    """A report of the version in which rows had the figures of one feature network."""
    rest = {k: v for k, v in plain.items() if k not in ("features", "rows")}
    rows = [
        {k: v for k, v in row.items() if k not in _FIRST_FIGURES} | {"figures": [{k: row[k] for k in _FIRST_FIGURES}]}
        for row in plain["rows"]
    ]
    return rest | {"rows": rows, "networks": [{"label": plain["features"]}]}
