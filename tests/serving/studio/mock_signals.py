"""Pictures and tones that belong to a text and a seed, so that a test can see which request an answer is of."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image, ImageDraw

RATE = 16000


def colour(text: str) -> tuple[int, int, int]:
    """The colour that belongs to a text."""
    value = zlib.crc32(text.encode())
    return value & 255, (value >> 8) & 255, (value >> 16) & 255


def png(image: Image.Image, form: str = "PNG") -> bytes:
    with io.BytesIO() as file:
        image.save(file, form)
        return file.getvalue()


def picture(text: str, seed: int, size: int, toward: tuple[int, float] | None = None) -> bytes:
    """A disc in the text's colour, whose place comes from the seed."""
    image = Image.new("RGB", (size, size), colour(text + " ground"))

    def place(of: int) -> np.ndarray:
        return np.random.default_rng(of).uniform(0.25, 0.75, 2) * size

    x, y = place(seed) if toward is None else (1 - toward[1]) * place(seed) + toward[1] * place(toward[0])
    radius = size / 5
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour(text))
    return png(image)


def edited(image: bytes, mask: bytes | None, task: str, seed: int, size: int) -> bytes:
    """The picture with the task's colour where the mask is white, or half of it everywhere."""
    before = Image.open(io.BytesIO(image)).convert("RGB").resize((size, size))
    flat = Image.new("RGB", before.size, colour(f"{task}{seed}"))
    if mask is None:
        return png(Image.blend(before, flat, 0.5))
    return png(Image.composite(flat, before, Image.open(io.BytesIO(mask)).convert("L").resize(before.size)))


def frame(text: str, seed: int, sequence: int) -> bytes:
    """A frame in the colour of what was pressed, with a bar that moves."""
    image = Image.new("RGB", (64, 64), colour(f"{text}{seed}"))
    ImageDraw.Draw(image).rectangle((sequence % 64, 0, sequence % 64 + 3, 63), fill=(255, 255, 255))
    return png(image, "JPEG")


def tone(text: str, seed: int, seconds: float = 1.0) -> bytes:
    """A decaying sine as 16-bit samples, whose frequency belongs to the text and the seed."""
    time = np.arange(int(seconds * RATE)) / RATE
    frequency = 220 + (zlib.crc32(text.encode()) + seed) % 660
    return (np.sin(2 * np.pi * frequency * time) * np.exp(-3 * time) * 12000).astype("<i2").tobytes()
