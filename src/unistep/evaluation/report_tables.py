"""Tables of a report: for a terminal of any width, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from unistep.evaluation.report import SANITY

if TYPE_CHECKING:
    from rich.table import Table

    from unistep.evaluation.intervals import Estimate
    from unistep.evaluation.report import Figures, Report, Row

_WIDE_ENOUGH, _LONGEST_SAMPLER = 104, len("dpmpp2m 18")
MARGIN = "± is half of a 95 % interval (delete-half jackknife over samples; KID: one deviation over subsets)"
"""What the tables say of their intervals."""


def estimate(found: Estimate | None) -> str:
    """A ratio with its interval, to three digits."""
    return "" if found is None else f"{_short(found.value)} ±{_short(found.margin)}"


def _short(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def distance(found: Figures) -> str:
    """A distance with its interval, to three digits where it is small: scales differ from network to network."""
    fine = _decimals(found.frechet)
    text = f"{found.frechet:.{fine or 3}f}"
    if found.margin is None:
        return text
    return f"{text} ±{found.margin:.{fine}f}" if fine else f"{text} ±{_short(found.margin)}"


def _kernel_distance(found: Figures) -> str:
    kid, deviation = 1e3 * found.kid, 1e3 * found.kid_std
    fine = _decimals(max(abs(kid), deviation)) or 2
    return f"{kid:.{fine}f} ± {deviation:.{fine}f}"


def _decimals(value: float) -> int:
    """How many a figure has that is so small that the usual ones would leave out most of it; 0 where it is not."""
    return 2 - math.floor(math.log10(value)) if 1e-6 < value < 0.1 else 0


Column = tuple[str, Callable[["Figures"], str]]


def columns(report: Report, *, narrow: bool) -> list[Column]:
    """Headings and cells of what a network's table has of each row."""
    figures = [row.figures[0] for row in report.rows]
    found: list[Column] = [("Fréchet ↓", distance)]
    if any(f.over_test for f in figures):
        found.append(("/ held out", lambda f: estimate(f.over_test)))
    if any(f.over_teacher for f in figures):
        found.append(("/ teacher", lambda f: estimate(f.over_teacher)))
    if not narrow:
        found.append(("KID·10³ ↓", _kernel_distance))
    names = ("prec.", "recall") if narrow else ("precision ↑", "recall ↑")
    return [*found, (names[0], lambda f: f"{f.precision:.3f}"), (names[1], lambda f: f"{f.recall:.3f}")]


def _speed(row: Row) -> str:
    speed = row.images_per_second
    return "" if speed is None else f"{speed:,.1f}" if speed < 100 else f"{speed:,.0f}"


def _sampling(report: Report) -> tuple[list[str], list[tuple[Row, list[str]]]]:
    """Headings, rows and cells of what does not depend on a feature network."""
    apart = report.compared_metrics
    headings = [*(name for name in report.extra_metrics if name not in apart), f"{report.noun}/s ↑"]
    cells = [
        (row, [*(f"{row.extra_metrics[n]:.3f}" if n in row.extra_metrics else "" for n in headings[:-1]), _speed(row)])
        for row in report.rows
    ]
    return headings, [(row, found) for row, found in cells if any(found)]


def _compared(report: Report, name: str) -> tuple[list[str], list[tuple[Row, list[str]]]]:
    """Headings, rows and cells of a further metric that has intervals and ratios."""
    rows = [(row, row.extra_figures[name]) for row in report.rows if name in row.extra_figures]
    headings, held_out, teacher = [name], any(f.over_test for _, f in rows), any(f.over_teacher for _, f in rows)
    headings += ["/ held out"] * held_out + ["/ teacher"] * teacher
    cells = []
    for row, figure in rows:
        found = [f"{_three(row.extra_metrics[name])} ±{_three(figure.margin)}"]
        ratios = [estimate(figure.over_test)] * held_out + [estimate(figure.over_teacher)] * teacher
        cells.append((row, [*_calls(row), *found, *ratios]))
    return headings, cells


def _three(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def _notes(report: Report) -> list[str]:
    ratio = [f"/ teacher: {report.teacher}"] if report.teacher else []
    learned = [f"{network.label.name}: {network.note}" for network in report.networks if network.note]
    return [*ratio, MARGIN, *learned, *report.notes]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def report_tables(report: Report, width: int) -> list[Table]:
    """A table for each feature network, and one of speed and extra metrics, for a terminal of that width."""
    # A guided sampler has a longer name, which is not to cost the model's its room.
    longest = max((len(row.sampler) for row in report.rows), default=0)
    narrow = width < _WIDE_ENOUGH + max(0, longest - _LONGEST_SAMPLER)
    tables = []
    for i, network in enumerate(report.networks):
        alone = report.on(network.label.name) if len(report.networks) > 1 else report
        made = columns(alone, narrow=narrow)
        table = _table(["model", "sampler", "calls", *(name for name, _ in made)], narrow, network.title)
        _fill(table, [(row, _calls(row), [cell(row.figures[i]) for _, cell in made]) for row in report.rows])
        tables.append(table)
    for name in report.compared_metrics:
        headings, cells = _compared(report, name)
        table = _table(["model", "sampler", "calls", *headings], narrow, _upper(name.rstrip(" ↓↑")))
        _fill(table, [(row, [], found) for row, found in cells])
        tables.append(table)
    headings, cells = _sampling(report)
    table = _table(["model", "sampler", *headings], narrow, "Sampling", fold_names=False)
    _fill(table, [(row, [], found) for row, found in cells])
    return [*tables, table, _text([_upper(report.caption), report.conditions, *(f"Note: {n}" for n in _notes(report))])]


def _text(paragraphs: Sequence[str]) -> Table:
    """Text below tables, over the whole width, which captions would have no more of than their tables."""
    from rich.table import Table

    grid = Table.grid()
    grid.add_column(overflow="fold", style="italic")
    for paragraph in paragraphs:
        grid.add_row(paragraph)
    return grid


def _calls(row: Row) -> list[str]:
    return ["" if row.calls is None else str(row.calls)]


def _table(headings: Sequence[str], narrow: bool, title: str, *, fold_names: bool = True) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    padding = (0, 0) if narrow else (0, 1)
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=padding,
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < 2 else "right", no_wrap=(i > 1) == fold_names, overflow="fold")
    return table


def _fill(table: Table, rows: Sequence[tuple[Row, list[str], list[str]]]) -> None:
    for i, (row, calls, cells) in enumerate(rows):
        name = "" if i and rows[i - 1][0].name == row.name else row.name
        following = rows[i + 1][0] if i + 1 < len(rows) else None
        last = following is None or (following.name != row.name and row.kind != SANITY)
        style = "dim" if row.kind == SANITY else ""
        table.add_row(name, row.sampler, *calls, *cells, style=style, end_section=last)


def markdown(report: Report) -> str:
    """A table for each feature network and one of speed, with captions."""
    parts = []
    for i, network in enumerate(report.networks):
        alone = report.on(network.label.name) if len(report.networks) > 1 else report
        made = columns(alone, narrow=False)
        cells = [[row.name, row.sampler, *_calls(row), *(c(row.figures[i]) for _, c in made)] for row in report.rows]
        table = _lines(["model", "sampler", "calls", *(name for name, _ in made)], cells)
        parts.append("\n".join([f"**{network.title}**", "", *table]))
    for name in report.compared_metrics:
        headings, found = _compared(report, name)
        table = _lines(
            ["model", "sampler", "calls", *headings], [[row.name, row.sampler, *cells] for row, cells in found]
        )
        parts.append("\n".join([f"**{_upper(name.rstrip(' ↓↑'))}**", "", *table]))
    headings, found = _sampling(report)
    if found:
        table = _lines(["model", "sampler", *headings], [[row.name, row.sampler, *cells] for row, cells in found])
        parts.append("\n".join(table))
    notes = [f"Note: {note}." for note in _notes(report)]
    return "\n\n".join([*parts, "\n".join([f"{_upper(report.caption)}. {report.conditions}.", *notes])]) + "\n"


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|---|---|" + "---:|" * (len(headings) - 2)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
