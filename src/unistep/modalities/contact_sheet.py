"""Pictures laid out side by side on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFont

PAPER, INK = (255, 255, 255), (40, 40, 40)
"""Colours of the sheet and of its words."""
SIDE = 1024
"""Length up to which a sheet of tiny pictures is enlarged, in pixels."""
MOST = 8
"""Largest enlargement."""

_FONT_SIZE = 15
_TITLE_WIDTH = 260  # widest column of titles, in pixels


def draw_grid(
    images: Sequence[Image.Image], *, columns: int | None = None, labels: Sequence[str] | None = None
) -> Image.Image:
    """Pictures of one size in rows of ``columns``, nearly square by default, with words under each.

    Raises:
        ValueError: If ``columns`` is not positive, or there is not one label for each picture.
    """
    if columns is not None and columns < 1:
        raise ValueError(f"a grid needs at least one column, got {columns}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels cannot serve {len(images)} pictures")
    columns = min(len(images), columns or math.ceil(math.sqrt(len(images))))
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    words = None if labels is None else [labels[i : i + columns] for i in range(0, len(images), columns)]
    return _draw(rows, words, None)


def draw_rows(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """One row of pictures for each title, which stands to the left of it.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    return _draw([images for _, images in rows], None, [title for title, _ in rows])


def _draw(
    rows: Sequence[Sequence[Image.Image]], words: Sequence[Sequence[str]] | None, titles: Sequence[str] | None
) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    pictures = [picture for row in rows for picture in row]
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    columns = max(len(row) for row in rows)
    scale = max(1, min(MOST, SIDE // max(columns * width, len(rows) * height)))
    gap = max(2, scale)
    cell = (width * scale, height * scale)
    font = ImageFont.load_default(_FONT_SIZE)
    line = _FONT_SIZE + 4
    below = line if words else 0
    wrapped = [_wrap(title, font, _TITLE_WIDTH) for title in titles or ()]
    left = gap + math.ceil(max((font.getlength(text) for lines in wrapped for text in lines), default=0))
    left += 3 * gap if titles else 0
    row_heights = [max(cell[1] + below, line * len(lines)) for lines in wrapped or [[]] * len(rows)]
    grey = not titles and not words and all(p.mode == "L" for p in pictures)
    sheet = Image.new("RGB", (left + columns * (cell[0] + gap), gap + sum(h + gap for h in row_heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = gap
    for number, row in enumerate(rows):
        if titles:
            start = top + (row_heights[number] - line * len(wrapped[number])) / 2
            for i, text in enumerate(wrapped[number]):
                draw.text((gap, start + i * line), text, INK, font)
        for column, picture in enumerate(row):
            at = (left + column * (cell[0] + gap), top)
            size = (picture.width * scale, picture.height * scale)
            sheet.paste(picture.resize(size, Image.Resampling.NEAREST), at)
            if words:
                text = _shorten(words[number][column], font, cell[0])
                draw.text((at[0] + cell[0] / 2, at[1] + cell[1] + 1), text, INK, font, anchor="ma")
        top += row_heights[number] + gap
    return sheet.convert("L") if grey else sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of whole words that are at most ``width`` pixels long."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return [_shorten(line, font, width) for line in lines]


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut with an ellipsis where it is longer than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
