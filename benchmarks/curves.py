"""Curves of distance against processor seconds, shared by the comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each number of steps; runs from fresh weights (``NAME/scratch``) are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = {key for result in results for row in result["curve"] for key in row if key.startswith("fd_")}
    panels = sorted(measured, key=lambda key: int(key.removeprefix("fd_")))
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 5), layout="constrained", squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for i, result in enumerate(results):
            rows = [row for row in result["curve"] if panel in row]
            if not rows:
                continue
            kept = [row for row in rows if row["weights"] == rows[-1]["weights"]]
            axis.plot(
                [row["seconds"] for row in kept],
                [row[panel] for row in kept],
                "--" if result["variant"].endswith("/scratch") else "-",
                color=plt.get_cmap("tab20")(i % 20),
                marker="os^v"[i // 20 % 4],
                label=result["variant"],
            )
        steps = int(panel.removeprefix("fd_"))
        axis.set(title=f"{steps} step{'s' if steps > 1 else ''}", xlabel="processor seconds", yscale="log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        axis.grid(alpha=0.3, which="both")
    axes[0][0].set_ylabel("Fréchet distance (features fashion v1)")
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=110)
