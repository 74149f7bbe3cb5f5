"""Tables of a world's report: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from rich.table import Table

    from unistep.evaluation.world_report import RolloutFigures, WorldReport


@final
@dataclass(frozen=True, kw_only=True)
class Section:
    """One table in plain text."""

    title: str
    """What stands above it."""
    headings: tuple[str, ...]
    """Names of the columns; the first is that of the rollouts."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    worlds: tuple[bool, ...]
    """Which rows are those of the world."""


def sections(report: WorldReport) -> list[Section]:
    """The tables of a report."""
    spans = [str(first) if first == last else f"{first:,}-{last:,}" for first, last in report.spans]
    compared = [row for row in report.rows if row.psnr]
    found = [
        _section("PSNR to the true frame in dB ↑", spans, compared, lambda row: _cells(report.means(row.psnr), 2)),
        _section("SSIM to the true frame ↑", spans, compared, lambda row: _cells(report.means(row.ssim), 3)),
    ]
    for name, label in report.networks.items():
        title = f"Distance to the true frame on {label}, as a share of that of unrelated frames ↓"
        found.append(_section(title, spans, compared, lambda row, n=name: _cells(report.means(row.distance[n]), 3)))
    first, last = (f"{a:,}-{b:,}" for a, b in (report.blocks[0], report.blocks[-1]))
    for name, label in report.networks.items():

        def drift(row: RolloutFigures, name: str = name) -> list[str]:
            ends = [row.frechet[name][0], row.frechet[name][-1]]
            return [*(f"{value:.3g}" for value in ends), f"{row.drift(name):.2f}"]

        title = f"Fréchet distance of frames on {label} to those of {report.learned} ↓"
        found.append(_section(title, [first, last, "last / first"], report.rows, drift))
    controls = list(report.rows[0].actions.controls)
    title = (
        f"Actions recognised ↑ (share of frames, by the commonest class alone {report.guess:.3f}; the rest: "
        "every class of a control counts alike)"
    )

    def actions(row: RolloutFigures) -> list[str]:
        own = row.actions
        values = [own.accuracy, own.balanced, report.actions_over_real(row), *(own.controls[c] for c in controls)]
        return _cells(values, 3)

    found.append(_section(title, ["share", "balanced", "/ real", *controls], report.rows, actions))
    return found


def _section(
    title: str,
    columns: Sequence[str],
    rows: Sequence[RolloutFigures],
    cells: Callable[[RolloutFigures], list[str]],
) -> Section:
    made = tuple((row.name, *cells(row)) for row in rows)
    worlds = tuple(row.role == "world" for row in rows)
    return Section(title=title, headings=("frames", *columns), rows=made, worlds=worlds)


def _cells(values: Sequence[float], digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def _text(report: WorldReport) -> list[str]:
    return [f"{report.caption}", report.conditions, *(f"Note: {note}" for note in report.notes)]


def world_tables(report: WorldReport) -> list[Table]:
    """A table for each measure, and one of captions."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    tables = []
    for section in sections(report):
        table = Table(title=section.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for i, heading in enumerate(section.headings):
            table.add_column(heading, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
        for row, is_world in zip(section.rows, section.worlds, strict=True):
            table.add_row(*row, style="" if is_world else "dim")
        tables.append(table)
    grid = Table.grid()
    grid.add_column(overflow="fold", style="italic")
    for paragraph in _text(report):
        grid.add_row(paragraph)
    return [*tables, grid]


def markdown(report: WorldReport) -> str:
    """A table for each measure, with captions."""
    parts = []
    for section in sections(report):
        lines = [f"**{section.title}**", "", "| " + " | ".join(section.headings) + " |"]
        lines.append("|---|" + "---:|" * (len(section.headings) - 1))
        parts.append("\n".join([*lines, *("| " + " | ".join(row) + " |" for row in section.rows)]))
    return "\n\n".join([*parts, "\n".join(f"{line}." for line in _text(report))]) + "\n"
