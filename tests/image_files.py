"""A folder with every kind of picture that a person may have, and what should become of each."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noisy(width: int, height: int, seed: int = 0) -> Image.Image:
    """A colourful picture that no codec can shrink to nothing."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def huge_png(side: int) -> bytes:
    """A valid header of a ``side`` by ``side`` picture with a few bytes of data: a decompression bomb."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def make_good(folder: Path) -> dict[str, str]:
    """Odd but usable pictures; maps each name to a part of its note, empty for none."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = noisy(40, 30)
    picture.save(folder / "plain.png")
    picture.save(folder / "plain.webp")
    picture.save(folder / "plain.bmp")
    picture.save(folder / "UPPER.JPG")
    picture.save(folder / "no_suffix", "PNG")
    picture.save(folder / "lying.txt", "JPEG")
    picture.save(folder / "ünïcødé [red] 名.png")
    picture.convert("P").save(folder / "palette.gif")
    picture.convert("1").save(folder / "bits.tif")
    noisy(1, 1).save(folder / "one_pixel.png")
    noisy(3000, 1).save(folder / "thread.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "animated.gif", save_all=True, append_images=[noisy(40, 30, 1), noisy(40, 30, 2)])
    picture.save(folder / "animated.webp", save_all=True, append_images=[noisy(40, 30, 1)])
    deep = np.random.default_rng(0).integers(0, 65536, (30, 40), np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray(deep.astype(np.float32) / 65535).save(folder / "float.tif")
    clear = picture.convert("RGBA")
    clear.putalpha(noisy(40, 30).convert("L"))
    clear.save(folder / "transparent.png")
    clear.convert("LA").save(folder / "transparent_grey.png")
    picture.convert("P").save(folder / "transparent_palette.png", transparency=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "rotated.jpg", exif=exif)
    notes = dict.fromkeys((entry.name for entry in folder.iterdir()), "")
    notes["one_pixel.png"] = notes["thread.png"] = "enlarged"
    notes["cmyk.jpg"] = "CMYK"
    notes["animated.gif"] = notes["animated.webp"] = "animated"
    notes["deep.png"] = notes["deep.tif"] = notes["float.tif"] = "8 bits"
    notes["rotated.jpg"] = "upright"
    for name in ("transparent.png", "transparent_grey.png", "transparent_palette.png"):
        notes[name] = "transparent"
    return notes


def make_bad(folder: Path) -> dict[str, str]:
    """Unusable files; maps each name to a part of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.tmp"
    reasons = {}
    for suffix, kind in (
        ("jpg", "JPEG"),
        ("png", "PNG"),
        ("gif", "GIF"),
        ("webp", "WEBP"),
        ("tif", "TIFF"),
        ("bmp", "BMP"),
    ):
        noisy(60, 50).save(whole, kind)
        content = whole.read_bytes()
        (folder / f"truncated.{suffix}").write_bytes(content[: len(content) // 2])
        reasons[f"truncated.{suffix}"] = ""
    reasons["truncated.jpg"] = reasons["truncated.png"] = "truncated"
    whole.unlink()
    (folder / "empty.png").touch()
    reasons["empty.png"] = "empty"
    (folder / "words.jpg").write_text("this is no picture")
    reasons["words.jpg"] = "not a picture"
    (folder / "page.png").write_text("<html><body>404 Not Found</body></html>")
    reasons["page.png"] = "not a picture"
    (folder / "bomb.png").write_bytes(huge_png(60_000))
    reasons["bomb.png"] = "pixels"
    (folder / "large.png").write_bytes(huge_png(10_000))
    reasons["large.png"] = "10000 x 10000"
    os.symlink(folder / "gone.png", folder / "dangling.png")
    reasons["dangling.png"] = "broken link"
    os.mkfifo(folder / "pipe.png")
    reasons["pipe.png"] = "not a regular file"
    odd = np.full((20, 20), np.nan, np.float32)
    Image.fromarray(odd).save(folder / "nan.tif")
    reasons["nan.tif"] = "floating-point"
    return reasons


def make_others(folder: Path) -> set[str]:
    """Files that are no pictures and do not claim to be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("P5 is how a grey picture begins, but this is a text")
    (folder / "data.json").write_text("{}")
    (folder / "blank.txt").touch()
    return {"notes.txt", "data.json", "blank.txt"}
