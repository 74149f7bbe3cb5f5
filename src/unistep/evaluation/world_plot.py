"""A plot of a world's evaluation: closeness to the game over the frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.evaluation.plot import quiet_axes
from unistep.evaluation.world_report import WorldReport
from unistep.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT = "#1f2430", "#7a8194"
_COLOURS = {"world": ("#e4572e", "#f2a541"), "floor": ("#4aa3a2", "#6a5d9b", "#8aa05b"), "real": (_INK,)}


def save_world_plot(report: WorldReport, path: str | Path) -> None:
    """Draw PSNR, SSIM, distance of features and Fréchet distance of a report over the frames.

    Args:
        report: What to draw.
        path: File to write; its ending chooses the format, a PNG without one.

    Raises:
        ValueError: If matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"a plot needs matplotlib ({error}); install unistep[eval]") from error
    network = next(iter(report.networks))
    figure = Figure(figsize=(10.5, 6.4), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)  # the figure belongs to no window and no global state
    places = ((0.07, 0.56), (0.56, 0.56), (0.07, 0.15), (0.56, 0.15))
    closeness, structure, distance, frechet = (figure.add_axes((x, y, 0.42, 0.29)) for x, y in places)
    styles = _styles(report)
    number = range(1, report.length + 1)
    middles = [(first + last) / 2 for first, last in report.blocks]
    for row in report.rows:
        style = styles[row.name]
        for axes, curve in ((closeness, row.psnr), (structure, row.ssim), (distance, row.distance.get(network, ()))):
            if curve:
                axes.plot(number, curve, **style)
        frechet.plot(middles, row.frechet[network], marker="o", markersize=3, **style)
    for axes, title in (
        (closeness, "PSNR to the true frame, dB (higher is better)"),
        (structure, "SSIM to the true frame (higher is better)"),
        (distance, f"Distance to the true frame on {network} (1: unrelated)"),
        (frechet, f"Fréchet distance to real frames on {network}, {report.blocks[0][1]} frames each"),
    ):
        _prepare(axes, title)
    for axes in (closeness, structure, distance):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if min(min(row.frechet[network]) for row in report.rows) > 0:
        frechet.set_yscale("log")
    for axes in (distance, frechet):
        axes.set_xlabel("frame", color=_INK, fontsize=9.5)
    figure.text(0.07, 0.945, "A world beside the game", fontsize=14, color=_INK, weight="bold")
    handles, labels = frechet.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.985, 0.985), ncols=3, frameon=False, fontsize=8.5
    )
    figure.text(0.07, 0.045, report.caption, fontsize=7.4, color=_FAINT)
    figure.text(0.07, 0.018, report.conditions, fontsize=7.4, color=_FAINT)
    target = Path(path)
    with replacing(target) as temporary:
        figure.savefig(temporary, format=target.suffix.lstrip(".") or "png")


def _styles(report: WorldReport) -> dict[str, dict[str, Any]]:
    styles: dict[str, dict[str, Any]] = {}
    used = dict.fromkeys(_COLOURS, 0)
    for row in report.rows:
        colours = _COLOURS[row.role]
        styles[row.name] = {
            "color": colours[used[row.role] % len(colours)],
            "label": row.name,
            "linewidth": 1.6 if row.role == "world" else 1.0,
            "zorder": 4 if row.role == "world" else 3,
        }
        used[row.role] += 1
    return styles


def _prepare(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=_INK, pad=5)
    quiet_axes(axes, 0.7)
