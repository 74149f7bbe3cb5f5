"""A terminal to play in: pictures of half blocks or of pixels, keys as they are pressed, all as it was in the end."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Literal

import numpy as np

from unistep.cli.half_blocks import Colours, cells_of, drawn, fitted
from unistep.cli.sixel import sixel
from unistep.cli.terminal_answers import ask
from unistep.generation.keys import Keys
from unistep.generation.play import Screen

Picture = Literal["auto", "sixel", "blocks"]
"""How pictures are shown in a terminal."""
ENTER = "\033[?1049h\033[?25l\033[2J\033[>11u\033[?u"
"""A screen of its own, no cursor, and key-up events (the kitty keyboard protocol) where the terminal has them."""
LEAVE = "\033\\\033[<u\033[0m\033[?25h\033[?1049l"
"""The opposite, after the end of a picture that was broken off."""

_SEQUENCE = re.compile(r"\033\[([<=>?]?)([\d;:]*)([A-Za-z~])|\033O([A-D])")
_BEGUN = re.compile(r"\033(\[[<=>?]?[\d;:]*|O)?\Z")
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_NAMES = {27: "escape", 32: " "}
_INSTEAD = "play in a window with --window, or to a file with --script and -o"
_USUAL = 20, 10  # pixels of a character, where a terminal does not say
_ALONE = 0.05  # seconds after which an escape that nothing follows is the key of that name


def check_terminal() -> None:
    """Check that this program reads from a terminal and writes to one.

    Raises:
        ValueError: If not; says what to do instead.
    """
    terminals = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if not terminals or find_spec("termios") is None:
        raise ValueError(f"there is no terminal to play in: {_INSTEAD}")


def find_colours(environment: Mapping[str, str] = os.environ) -> Colours:
    """How many colours the terminal has that this program reads from and writes to.

    Args:
        environment: Variables that describe it.

    Raises:
        ValueError: If there is no terminal, or one without enough colours; says what to do instead.
    """
    check_terminal()
    kind = environment.get("TERM", "")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or kind.endswith("-direct"):
        return "true"
    if "256color" in kind or kind in ("xterm-kitty", "alacritty", "foot", "xterm-ghostty", "wezterm"):
        return "256"
    raise ValueError(f"the terminal (TERM={kind or 'nothing'}) has too few colours for pictures: {_INSTEAD}")


def check_picture(picture: Picture) -> None:
    """Check, before anything is loaded, that there is a terminal that may show pictures in this way.

    Raises:
        ValueError: If not; says what to do instead.
    """
    check_terminal() if picture != "blocks" else find_colours()


@contextmanager
def taken(source: int, target: int) -> Iterator[None]:
    """A terminal whose keys come at once and unseen, on a screen of its own; as it was when the block ends.

    Keys that would stop or kill the program behind the screen's back do nothing meanwhile; Ctrl-C works.

    Args:
        source: File descriptor of its keys.
        target: File descriptor of its screen.
    """
    import termios

    before = termios.tcgetattr(source)
    raw = termios.tcgetattr(source)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    raw[6], nothing = list(raw[6]), bytes([os.fpathconf(source, "PC_VDISABLE") & 255])
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    for name in ("VSUSP", "VDSUSP", "VQUIT"):
        if hasattr(termios, name):
            raw[6][getattr(termios, name)] = nothing
    try:
        termios.tcsetattr(source, termios.TCSANOW, raw)
        write(target, ENTER)
        yield
    finally:
        with _undisturbed():
            with suppress(OSError):  # a terminal that is gone needs nothing
                write(target, LEAVE)
            with suppress(termios.error):
                termios.tcflush(source, termios.TCIFLUSH)  # keys of the game are nothing to type into the shell
                termios.tcsetattr(source, termios.TCSANOW, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No further signal to end comes through in the block."""
    polite = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    held = signal.pthread_sigmask(signal.SIG_BLOCK, polite)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def write(target: int, text: str) -> None:
    """Write all of a text."""
    left = memoryview(text.encode())
    while left:
        try:
            left = left[os.write(target, left) :]
        except BlockingIOError:  # a shell may have left it so
            select.select([], [target], [])


class KeyReader:
    """Turns what a terminal sends into keys, whole or in parts.

    Args:
        keys: Gets them.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys, self._left, self._since = keys, "", 0.0

    @property
    def waits(self) -> bool:
        """Whether a sequence has begun and not ended."""
        return bool(self._left)

    def feed(self, sent: bytes) -> None:
        """Take what was sent."""
        text, self._left = self._left + sent.decode(errors="ignore"), ""
        while text:
            match = _SEQUENCE.match(text)
            if match is not None:
                text = text[match.end() :]
                self._sequence(match)
            elif _BEGUN.match(text):
                self._left, self._since = text, time.monotonic()
                return
            else:
                self._press("escape" if text[0] == "\033" else "ctrl-c" if text[0] == "\003" else text[0].lower())
                text = text[1:]

    def expire(self) -> None:
        """Take an escape that nothing has followed for the key."""
        if self._left and time.monotonic() - self._since >= _ALONE:
            self._left = ""
            self._press("escape")

    def _press(self, key: str) -> None:
        if key == "ctrl-c":
            raise KeyboardInterrupt
        self._keys.press(key)

    def _sequence(self, match: re.Match[str]) -> None:
        answer, numbers, final, plain = match.groups()
        if answer:
            says = answer == "?" and final == "u" and numbers.isdecimal() and int(numbers) & 2
            self._keys.releases = self._keys.releases or bool(says)
            return
        parts = [part.split(":") for part in (numbers or "").split(";")]
        code = int(parts[0][0] or 1)
        modifiers = int(parts[1][0] or 1) - 1 if len(parts) > 1 else 0
        event = parts[1][1] if len(parts) > 1 and len(parts[1]) > 1 else "1"
        key = _ARROWS.get(plain or final, "")
        if final == "u":
            key = _NAMES.get(code) or (chr(code).lower() if 32 < code < 127 else "")
            key = "ctrl-c" if key == "c" and modifiers & 4 else key
        if event == "3":
            self._keys.release(key)
        else:
            self._press(key)


class TerminalScreen(Screen):
    """A terminal that is :func:`taken`.

    Args:
        keys: What is held.
        colours: Its colours.
        source: File descriptor of its keys.
        target: File descriptor of its screen.
        character: Height and width of a character in pixels, of a terminal that shows pictures in pixels; ``None`` for
            pictures of half blocks.
        typed: Keys that came before.
    """

    def __init__(
        self,
        keys: Keys,
        colours: Colours,
        source: int,
        target: int,
        *,
        character: tuple[int, int] | None = None,
        typed: bytes = b"",
    ) -> None:
        super().__init__(keys)
        self._colours: Colours = colours
        self._source, self._target, self._character, self._typed = source, target, character, typed
        self._reader = KeyReader(keys)
        self._cells: np.ndarray | None = None
        self._size = (0, 0)

    def wait(self, seconds: float) -> None:
        """Read keys; returns at the first.

        Raises:
            OSError: If the terminal is gone.
        """
        if self._typed:
            typed, self._typed = self._typed, b""
            self._reader.feed(typed)
            return
        left = min(seconds, _ALONE) if self._reader.waits else seconds
        ready, _, _ = select.select([self._source], [], [], left)
        if ready:
            sent = os.read(self._source, 4096)
            if not sent:
                raise OSError("the terminal is closed")
            self._reader.feed(sent)
        self._reader.expire()

    def show(self, picture: np.ndarray, line: str) -> None:
        """Draw what changes, and the line below."""
        columns, rows = _size(self._target)
        parts = ["\033[?2026h"]  # shown at once, where the terminal can
        if (columns, rows) != self._size:
            self._size, self._cells = (columns, rows), None
            parts.append("\033[0m\033[2J")
        shown = self._blocks if self._character is None else self._pixels
        parts.append(shown(picture, columns, rows - 1))
        parts.append(f"\033[0m\033[{rows};1H{line[: columns - 1]}\033[K\033[?2026l")
        write(self._target, "".join(parts))

    def _blocks(self, picture: np.ndarray, columns: int, rows: int) -> str:
        small = fitted(picture, columns, rows)
        cells, before = cells_of(small, self._colours), self._cells
        self._cells = cells
        return drawn(cells, before, left=1 + (columns - small.shape[1]) // 2)

    def _pixels(self, picture: np.ndarray, columns: int, rows: int) -> str:
        assert self._character is not None
        height, width = self._character
        text, (_, wide) = sixel(picture, columns * width, rows * height)
        return f"\033[1;{1 + max(0, columns - -(-wide // width)) // 2}H{text}"


def _size(target: int) -> tuple[int, int]:
    """Columns and rows of a terminal."""
    columns, rows = os.get_terminal_size(target)
    return (columns, rows) if columns and rows else (80, 24)  # one that does not know


@contextmanager
def terminal_screen(keys: Keys, picture: Picture = "auto") -> Iterator[TerminalScreen]:
    """The terminal of this program for the block, in which it is :func:`taken`.

    Args:
        keys: What is held.
        picture: How pictures are shown: in pixels (``sixel``), in half blocks, or in pixels where the terminal says
            that it can.

    Raises:
        ValueError: If there is no terminal, or one that cannot show pictures; says what to do instead.
    """
    check_terminal()
    colours: Colours = find_colours() if picture == "blocks" else "true"
    sys.stdout.flush()
    source, target = sys.stdin.fileno(), sys.stdout.fileno()
    with taken(source, target):
        if picture == "blocks":
            yield TerminalScreen(keys, colours, source, target)
            return
        columns, rows = _size(target)
        answers = ask(source, target, (rows, columns))
        character = (answers.character or _USUAL) if picture == "sixel" or answers.sixel else None
        colours = find_colours() if character is None else "true"
        yield TerminalScreen(keys, colours, source, target, character=character, typed=answers.typed)
