"""Plots without a plotting library: curves over an axis, and grey values of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 192, 96
"""Size of a plot of curves, in pixels."""
_COLOURS = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
)
_PAPER, _AXIS = (255, 255, 255), (210, 210, 210)


def draw_curves(values: np.ndarray, low: float, high: float) -> Image.Image:
    """One curve for each row of ``values`` ``[channels, n]``, in colours that repeat after six.

    Args:
        values: Finite numbers.
        low: Value at the lower edge.
        high: Value at the upper edge.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    span = max(high - low, 1e-12)

    def y(value: float) -> float:
        return (HEIGHT - 5) - (value - low) / span * (HEIGHT - 9)

    if low < 0 < high:
        draw.line([(0, y(0.0)), (WIDTH, y(0.0))], _AXIS)
    x = np.linspace(4, WIDTH - 5, values.shape[1]) if values.shape[1] > 1 else np.array([WIDTH / 2])
    for number, row in enumerate(values):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(float(a), y(float(b))) for a, b in zip(x, row, strict=True)]
        if len(points) > 1:
            draw.line(points, colour, 1)
        else:
            draw.ellipse([(points[0][0] - 2, points[0][1] - 2), (points[0][0] + 2, points[0][1] + 2)], colour)
    return image


def draw_values(values: np.ndarray, low: float, high: float) -> Image.Image:
    """The numbers of a table ``[rows, columns]`` as grey values, ``low`` black and ``high`` white."""
    from PIL import Image

    grey = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))
