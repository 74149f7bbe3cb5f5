"""A picture of an evaluation: quality against network calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.evaluation.report import REFERENCE, SANITY, Report, Row
from unistep.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _GRID = "#1f2430", "#7a8194", "#e4e7ee"
_STUDENT = ("#e4572e", "#f2a541", "#a4243b")
_TEACHER = ("#2e6f9e", "#4aa3a2", "#6a5d9b", "#8aa05b")
_MARKERS = {"heun": "s", "dpmpp2m": "^", "euler": "D"}
_HEIGHT, _LEGEND_ROW = 4.9, 0.19
"""Height of the picture and of a row of its legend, in inches."""
_LEGEND_WIDTH, _LEGEND_HANDLE = 92, 8
"""Room for the legend and for the line before each label, in letters."""
_SOLVERS = {"heun": "Heun", "dpmpp2m": "DPM-Solver++(2M)", "euler": "Euler"}


def save_plot(report: Report, path: str | Path) -> None:
    """Draw the Fréchet distance, precision and recall of a report against network calls.

    Args:
        report: What to draw.
        path: File to write; its ending chooses the format, a PNG without one.

    Raises:
        ValueError: If matplotlib is missing, the report has no model, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"a plot needs matplotlib ({error}); install unistep[eval]") from error
    curves = _curves(report)
    if not curves:
        raise ValueError("the report has no model, so there is nothing to plot")
    columns = _legend_columns([style["label"] for _, style in curves.values()])
    # The legend stands beside the title; from its third row on it needs more room above the axes.
    height = _HEIGHT + _LEGEND_ROW * max(0, math.ceil(len(curves) / columns) - 2)
    unit = _HEIGHT / height
    figure = Figure(figsize=(10.5, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)  # the figure belongs to no window and no global state
    left, upper, lower = (
        figure.add_axes((x, y * unit, wide, high * unit))
        for x, y, wide, high in ((0.075, 0.2, 0.52, 0.63), (0.665, 0.555, 0.32, 0.275), (0.665, 0.2, 0.32, 0.275))
    )
    calls = sorted({row.calls for rows, _ in curves.values() for row in rows if row.calls is not None})
    for axes in (left, upper, lower):
        _prepare(axes, calls)
    _draw(left, curves, lambda row: row.frechet)
    left.set_yscale("log")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    left.tick_params(which="minor", colors=_FAINT, labelsize=8.5, length=0)
    for rows, style in curves.values():
        for row in rows if rows[0].kind != "denoiser" else rows[-1:]:
            _number(left, row, style["color"])
    _sanity_lines(left, report, calls)
    _draw(upper, curves, lambda row: row.precision)
    _draw(lower, curves, lambda row: row.recall)
    upper.tick_params(labelbottom=False)
    for axes, name in ((upper, "precision"), (lower, "recall")):
        _bound(axes, report, name)
        axes.set_title(name, loc="left", fontsize=10, color=_INK, pad=4)
    left.set_title("Fréchet distance (lower is better)", loc="left", fontsize=10, color=_INK, pad=6)
    for axes in (left, lower):
        axes.set_xlabel(f"network calls per {report.noun.removesuffix('s')}", color=_INK, fontsize=9.5)
    figure.text(0.075, 1 - 0.055 * unit, "Quality against network calls", fontsize=14, color=_INK, weight="bold")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="upper right",
        bbox_to_anchor=(0.992, 1 - 0.005 * unit),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handlelength=2.2,
        columnspacing=1.6,
    )
    figure.text(0.075, 0.062 * unit, _sentence(report.caption), fontsize=7.8, color=_FAINT)
    figure.text(0.075, 0.027 * unit, _sentence(report.conditions), fontsize=7.8, color=_FAINT)
    target = Path(path)
    with replacing(target) as temporary:
        figure.savefig(temporary, format=target.suffix.lstrip(".") or "png")


def _legend_columns(labels: list[str]) -> int:
    """The most columns, up to three, that leave the title its room."""

    def width(columns: int) -> int:
        rows = math.ceil(len(labels) / columns)
        return sum(_LEGEND_HANDLE + max(map(len, labels[i : i + rows])) for i in range(0, len(labels), rows))

    return max((n for n in (1, 2, 3) if n <= len(labels) and width(n) <= _LEGEND_WIDTH), default=1)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


Curves = dict[tuple[str, str | None, float | None], tuple[list[Row], dict[str, Any]]]


def _curves(report: Report) -> Curves:
    """Rows by model, solver and guidance, in the order of their calls, each with how to draw it."""
    groups: dict[tuple[str, str | None, float | None], list[Row]] = {}
    for row in report.rows:
        if row.kind != SANITY and row.calls is not None:
            groups.setdefault((row.name, row.solver, row.guidance), []).append(row)
    curves: Curves = {}
    used = {"consistency": 0, "flow_map": 0, "denoiser": 0}
    for (name, solver, guidance), rows in groups.items():
        kind = rows[0].kind
        colours = _STUDENT if kind != "denoiser" else _TEACHER
        again, place = divmod(used.get(kind, 0), len(colours))
        colour, line = colours[place], ("-", "--", ":")[min(again, 2)]
        used[kind] = used.get(kind, 0) + 1
        label = [name, *([_SOLVERS.get(solver, solver)] if solver else [])]
        label += [] if guidance is None or guidance == 1 else [f"guidance {guidance:g}"]
        style = {
            "color": colour,
            "linestyle": line,
            "marker": _MARKERS.get(solver or "", "o"),
            "label": ", ".join(label),
            "linewidth": 2.4 if kind != "denoiser" else 1.7,
            "markersize": 7 if kind != "denoiser" else 5.5,
            "zorder": 4 if kind != "denoiser" else 3,
        }
        curves[name, solver, guidance] = (sorted(rows, key=lambda row: row.calls or 0), style)
    return curves


def _prepare(axes: Axes, calls: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(calls[0] / 1.35, calls[-1] * 1.35)
    # Neighbours closer than a quarter octave would print their numbers over each other.
    shown = [c for i, c in enumerate(calls) if i == 0 or c / calls[i - 1] > 1.19]
    axes.set_xticks(shown, [str(c) for c in shown])
    axes.set_xticks([], minor=True)
    quiet_axes(axes, 0.8)


def quiet_axes(axes: Axes, linewidth: float) -> None:
    """A grid of that width behind the curves, faint numbers, and no frame but the axes themselves."""
    axes.grid(color=_GRID, linewidth=linewidth)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=8.5, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)


def _draw(axes: Axes, curves: Curves, value: Callable[[Row], float]) -> None:
    for rows, style in curves.values():
        axes.plot(
            [row.calls or 0 for row in rows],
            [value(row) for row in rows],
            markeredgecolor="white",
            markeredgewidth=1.1,
            **style,
        )


def _number(axes: Axes, row: Row, colour: str) -> None:
    above = row.kind != "denoiser"  # a teacher's last point often has another curve just above it
    axes.annotate(
        f"{row.frechet:.3g}",
        (row.calls or 0, row.frechet),
        xytext=(0, 8 if above else -14),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=colour,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over the lines of what is real
    )


def _sanity_lines(axes: Axes, report: Report, calls: list[int]) -> None:
    best = min((row.frechet for row in report.rows if row.kind != SANITY), default=0.0)
    for row in report.rows:
        if row.kind == SANITY and row.name != REFERENCE and row.frechet > 0:
            below = row.frechet < best  # there the points and their numbers stand above the line
            axes.axhline(row.frechet, color=_FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
            axes.annotate(
                f"{row.name}  {row.frechet:.3g}",
                (calls[-1] * 1.3, row.frechet),
                xytext=(0, -3 if below else 3),
                textcoords="offset points",
                ha="right",
                va="top" if below else "bottom",
                fontsize=8.5,
                color=_FAINT,
            )
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.2, high * 1.3)


def _bound(axes: Axes, report: Report, name: str) -> None:
    """Mark what other real images score, and show no more of the scale than is needed."""
    values = [getattr(row, name) for row in report.rows if row.kind != SANITY]
    best = next((row for row in report.rows if row.kind == SANITY and row.name not in (REFERENCE, "noise")), None)
    if best is not None:
        values.append(getattr(best, name))
        axes.axhline(getattr(best, name), color=_FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    margin = max(0.03, 0.15 * (max(values) - min(values)))
    axes.set_ylim(max(min(values) - margin, -0.02), min(max(values) + margin, 1.02))
