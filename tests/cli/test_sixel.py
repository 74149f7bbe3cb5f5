"""Pictures in pixels for a terminal, by their bytes: drawn again here, and what a terminal says of itself."""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import pytest

from unistep.cli.sixel import BEGIN, END, encoded, sixel
from unistep.cli.terminal_answers import QUESTIONS, ask, understood

_TOKEN = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([?-~])|(\$)|(-)", re.DOTALL)


def drawn(text: str) -> tuple[np.ndarray, np.ndarray]:
    """What a terminal makes of a picture: the colour of each pixel in hundredths, -1 where nothing is drawn."""
    assert text.startswith(BEGIN)
    assert text.endswith(END)
    body = text[len(BEGIN) : -len(END)]
    size = re.match(r'"1;1;(\d+);(\d+)', body)
    assert size is not None
    width, height = map(int, size.groups())
    pixels = np.full((-(-height // 6) * 6, width, 3), -1)
    palette: dict[int, tuple[int, ...]] = {}
    x = y = now = 0
    position = size.end()
    while position < len(body):
        token = _TOKEN.match(body, position)
        assert token is not None, body[position : position + 20]
        position = token.end()
        number, r, g, b, chosen, count, repeated, single, back, down = token.groups()
        if number is not None:
            palette[int(number)] = int(r), int(g), int(b)
        elif chosen is not None:
            now = int(chosen)
        elif back:
            x = 0
        elif down:
            x, y = 0, y + 6
        else:
            bits, times = ord(repeated or single) - 63, int(count or 1)
            for bit in range(6):
                if bits >> bit & 1:
                    assert (pixels[y + bit, x : x + times] == -1).all()
                    pixels[y + bit, x : x + times] = palette[now]
            x += times
            assert x <= width
    return pixels[:height], pixels[height:]


@pytest.mark.parametrize(("height", "width", "times"), [(6, 5, 1), (7, 4, 4), (1, 1, 1), (20, 33, 2), (3, 9, 7)])
def test_a_terminal_draws_what_was_encoded(height: int, width: int, times: int) -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(-1, 4, (height, width))
    indices[height // 2 :, : width // 2] = 2  # long runs
    palette = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 51], [10, 128, 200]], np.uint8)
    inside, below = drawn(encoded(indices, palette, times=times))
    hundredths = np.array([[0, 0, 0], [100, 100, 100], [100, 0, 20], [4, 50, 78]])
    wanted = np.where(indices[..., None] < 0, -1, hundredths[indices]).repeat(times, axis=0).repeat(times, axis=1)
    assert np.array_equal(inside, wanted)
    assert (below == -1).all()


def test_pictures_are_enlarged_by_whole_numbers_or_shrunk() -> None:
    picture = np.random.default_rng(0).integers(0, 4, (8, 10, 1)).repeat(3, axis=2).astype(np.uint8) * 80
    text, size = sixel(picture, 35, 100)
    assert size == (24, 30)
    inside, _ = drawn(text)
    assert np.abs(inside - (picture.repeat(3, axis=0).repeat(3, axis=1) / 2.55)).max() <= 0.5 + 1e-6
    text, size = sixel(picture, 5, 100)
    assert size == (4, 5)
    assert drawn(text)[0].shape == (4, 5, 3)


def test_a_terminal_says_whether_it_shows_pictures() -> None:
    both = understood(b"a\033[6;18;9t\033[4;600;800t\033[?62;1;4;22c\033[A", (24, 80))
    assert both.sixel
    assert both.character == (18, 9)
    assert both.typed == b"a\033[A"
    by_all = understood(b"\033[4;480;640t\033[?63;4c", (24, 80))
    assert by_all.character == (20, 8)
    none = understood(b"\033[?62;14;44c", (24, 80))
    assert not none.sixel
    assert none.character is None
    assert not understood(b"\033[?4c", (24, 80)).sixel  # a kind of terminal, and no attribute
    assert understood(b"qw", (0, 0)).typed == b"qw"


def test_a_terminal_that_says_nothing_is_not_waited_for() -> None:
    source, keys = os.pipe()
    seen, target = os.pipe()
    try:
        os.write(keys, b"d")
        silent = ask(source, target, (24, 80), timeout=0.05)
        assert (silent.sixel, silent.character, silent.typed) == (False, None, b"d")
        assert os.read(seen, 100).decode() == QUESTIONS
        later = threading.Timer(0.05, os.write, (keys, b"\033[6;20;10t\033[?1;4c"))
        later.start()
        assert ask(source, target, (24, 80), timeout=30).sixel
        later.join()
        os.close(keys)
        with pytest.raises(OSError, match="closed"):
            ask(source, target, (24, 80))
    finally:
        for each in (source, seen, target):
            os.close(each)
