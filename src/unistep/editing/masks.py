"""Places of a signal by name: rectangles, ellipses, spans of time, frames, drawn shapes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import torch
from torch import Tensor

from unistep.modalities.layout import Layout

SIDES = ("left", "right", "top", "bottom", "center")
"""Halves of a picture, and its middle quarter."""
PLACES = "left, right, top, bottom, center, LEFT,TOP,RIGHT,BOTTOM in pixels, ellipse:LEFT,TOP,RIGHT,BOTTOM"
"""What names a place in a picture."""
MOMENTS = "a span such as 0.2s:0.5s, or 3:6 for positions from 0"
"""What names a part of what lasts in time."""


def parse_mask(
    text: str, shape: tuple[int, ...], layout: Layout, read: Callable[[str], Tensor] | None = None
) -> Tensor:
    """The part of signals that a text names.

    Args:
        text: One or more of: ``left``, ``right``, ``top``, ``bottom``, ``center``; a rectangle
            ``LEFT,TOP,RIGHT,BOTTOM`` in pixels; ``ellipse:`` with such numbers; a span ``FROM:TO`` along time, in
            seconds with an ``s`` and in positions without; ``random:SHARE`` of all places; a file that is white where
            the mask is to be. With ``+`` between them, all of them.
        shape: Shape of one signal, channels first.
        layout: What its axes mean.
        read: Reads a file as truth values that broadcast against a batch of signals.

    Returns:
        Truth values ``[1, 1, *shape[1:]]``.

    Raises:
        ValueError: If the text names no part of such signals.
    """
    found = torch.zeros(1, 1, *shape[1:], dtype=torch.bool)
    # A file may have a + in its name.
    parts = [text] if read is not None and os.path.isfile(os.path.expanduser(text)) else text.split("+")
    for part in parts:
        found = found | _one(part.strip(), shape, layout, read)
    return found


def _one(text: str, shape: tuple[int, ...], layout: Layout, read: Callable[[str], Tensor] | None) -> Tensor:
    kind, _, rest = text.partition(":")
    if kind == "random":
        share = _number(rest, text)
        if not 0 < share < 1:
            raise ValueError(f"random:SHARE needs a share between 0 and 1, got {text!r}")
        drawn = torch.rand(1, 1, *shape[1:], generator=torch.Generator().manual_seed(0))
        return drawn < share
    if text in SIDES or kind == "ellipse" or (text.count(",") == 3 and ":" not in text):
        return _place(text, shape, layout)
    if "." in text and read is not None and not _is_span(text):
        return read(text)
    if _is_span(text):
        return _span(text, shape, layout)
    known = " or ".join(([PLACES] if layout.space else []) + ([MOMENTS] if layout.time is not None else []))
    raise ValueError(f"unknown mask {text!r}; give {known or 'a tensor'}, random:SHARE, or a file")


def _place(text: str, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """A rectangle or an ellipse."""
    if not layout.space:
        how = f"; give {MOMENTS}" if layout.time is not None else ""
        raise ValueError(f"these signals have no places such as {text!r}{how}")
    rows, columns = layout.space
    height, width = shape[rows - 1], shape[columns - 1]
    named = {
        "left": (0, 0, width // 2, height),
        "right": (width // 2, 0, width, height),
        "top": (0, 0, width, height // 2),
        "bottom": (0, height // 2, width, height),
        "center": (width // 4, height // 4, width - width // 4, height - height // 4),
    }
    kind, _, rest = text.rpartition(":")
    box = named.get(text) or [_number(word, text) for word in rest.split(",")]
    if len(box) != 4:
        raise ValueError(f"{text!r} needs four numbers, LEFT,TOP,RIGHT,BOTTOM")
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"the mask {text!r} must lie within {width} x {height} pixels, and hold some")
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    inside = (y > top) & (y < bottom) & (x > left) & (x < right)
    if kind == "ellipse":
        centre = ((x - (left + right) / 2) / ((right - left) / 2)).square()
        inside = centre + ((y - (top + bottom) / 2) / ((bottom - top) / 2)).square() <= 1
    if not inside.any():
        raise ValueError(f"the mask {text!r} holds the middle of no pixel; give a larger one")
    sizes = [1] * (len(shape) + 1)
    sizes[rows], sizes[columns] = height, width
    return inside.view(sizes)


def _is_span(text: str) -> bool:
    first, colon, last = text.partition(":")
    return bool(colon) and all(_is_number(word.removesuffix("s")) for word in (first, last))


def _span(text: str, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """From one moment to another."""
    if layout.time is None:
        how = f"; give {PLACES}" if layout.space else ""
        raise ValueError(f"these signals do not last in time, so that there is no {text!r}{how}")
    first, _, last = text.partition(":")
    length = shape[layout.time - 1]
    ends = [_moment(word, layout.rate, text) for word in (first, last)]
    if not 0 <= ends[0] < ends[1] <= length:
        raise ValueError(
            f"the span {text!r} must lie within {length / layout.rate:.4g}s, which is {length} positions, and hold some"
        )
    inside = (torch.arange(length) >= ends[0]) & (torch.arange(length) < ends[1])
    sizes = [1] * (len(shape) + 1)
    sizes[layout.time] = length
    return inside.view(sizes)


def _moment(word: str, rate: float, text: str) -> int:
    if word.endswith("s"):
        return round(_number(word[:-1], text) * rate)
    value = _number(word, text)
    if value != int(value):
        raise ValueError(f"{word} in {text!r} is no position; for seconds write {word}s")
    return int(value)


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _number(word: str, text: str) -> float:
    if not _is_number(word):
        raise ValueError(f"{word!r} in the mask {text!r} is no number")
    return float(word)


def as_mask(mask: Tensor, num: int, shape: tuple[int, ...]) -> Tensor:
    """A mask that a person gives as a tensor, checked, as truth values ``[1 or num, *]`` with all axes of a batch.

    Args:
        mask: True or positive where it is, of shape ``shape`` (or what broadcasts against it, such as ``[h, w]``), or
            with ``num`` of them in front.
        num: Items of the batch.
        shape: Shape of one signal.

    Raises:
        ValueError: If it has another shape.
    """
    if mask.is_complex() or (mask.is_floating_point() and mask.isnan().any()):
        raise ValueError("a mask must be truth values or real numbers, and this one has some that are none")
    mask = mask > 0
    whole = (num, *shape)
    axes = len(whole)
    lifted = mask.view(*([1] * max(0, axes - mask.dim())), *mask.shape) if mask.dim() <= axes else mask
    fits = lifted.dim() - axes == 0 and all(a in (1, b) for a, b in zip(lifted.shape, whole, strict=True))
    if not fits:
        raise ValueError(
            f"a mask of shape {list(mask.shape)} does not fit signals of shape {list(shape)}; give one of that shape, "
            f"or of {list(shape[1:])}"
        )
    return lifted
