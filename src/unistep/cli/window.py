"""A window to play in, by tkinter: its keys say when they are let go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from unistep.generation.keys import Keys
from unistep.generation.play import Screen

SIDE = 640
"""Longest side of the picture, about, in pixels."""

_SLICE = 0.002  # seconds between two looks at what is pressed
_REPEATS = 0.03  # seconds in which a key that X11 repeats by letting it go comes down again


class WindowScreen(Screen):
    """A window with a picture and a line.

    Args:
        keys: What is held.
        title: Of the window.

    Raises:
        ValueError: If there is no display, or no tkinter.
    """

    def __init__(self, keys: Keys, title: str) -> None:
        super().__init__(keys)
        keys.releases = True
        instead = "play in the terminal without --window, or to a file with --script and -o"
        try:
            import tkinter
        except ImportError as error:
            raise ValueError(f"a window needs tkinter ({error}): {instead}") from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise ValueError(f"no window can be opened ({error}): {instead}") from None
        self._image: Any = tkinter.PhotoImage
        self._root.title(title)
        self._picture = tkinter.Label(self._root)
        self._picture.pack()
        self._line = tkinter.Label(self._root, anchor="w", font="TkFixedFont")
        self._line.pack(fill="x")
        self._root.bind("<KeyPress>", lambda event: keys.press(_key(event)))
        self._root.bind("<KeyRelease>", lambda event: keys.release(_key(event), after=_REPEATS))
        self._root.bind("<FocusOut>", lambda event: keys.release_all())  # what is let go elsewhere is never heard of
        self._root.protocol("WM_DELETE_WINDOW", lambda: keys.press("escape"))

    def wait(self, seconds: float) -> None:
        """Let the window react."""
        end = time.perf_counter() + seconds
        self._root.update()
        while (left := end - time.perf_counter()) > 0:
            time.sleep(min(left, _SLICE))
            self._root.update()

    def show(self, picture: np.ndarray, line: str) -> None:
        """Show a picture, enlarged without smoothing."""
        scale = max(1, SIDE // max(picture.shape[:2]))
        large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
        header = f"P6 {large.shape[1]} {large.shape[0]} 255\n".encode()
        self._shown = self._image(data=header + large.tobytes(), format="PPM")  # kept: Tk does not
        self._picture.configure(image=self._shown)
        self._line.configure(text=line)
        self._root.update_idletasks()

    def close(self) -> None:
        """Close the window."""
        self._root.destroy()


@contextmanager
def window_screen(keys: Keys, title: str) -> Iterator[WindowScreen]:
    """A window that is open for the block."""
    screen = WindowScreen(keys, title)
    try:
        yield screen
    finally:
        screen.close()


def _key(event: Any) -> str:
    """The name of a key of Tk's."""
    name = str(event.keysym).lower()
    return " " if name == "space" else name
