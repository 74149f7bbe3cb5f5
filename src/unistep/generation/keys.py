"""Keys that a player holds, as the action of a world."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from unistep.core.action_fields import ActionField

Command = Literal["quit", "pause", "restart"]
"""What a player may want besides an action."""
COMMANDS: dict[str, Command] = {"q": "quit", "escape": "quit", " ": "pause", "r": "restart"}
"""The keys of commands."""
HOLD = 0.25
"""Seconds for which a key counts as held after its last repeat, where nothing says that it was let go."""

_WANTED = {
    "left": ("left",),
    "right": ("right",),
    "up": ("up", "gas", "forward", "jump"),
    "down": ("down", "brake", "back", "backward", "duck"),
}  # presets that an arrow stands for, the first that there is
_LETTERS = {"a": "left", "d": "right", "w": "up", "s": "down"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """What a player wants now."""

    action: Float[Tensor, " size"]
    """The action."""
    text: str
    """The same in words, such as ``left+gas``."""
    since: float | None
    """When the newest key was pressed or let go, by the clock, that no input before this one has taken into account."""
    command: Command | None
    """The newest command since the last input."""


def key_bindings(spec: ActionField) -> dict[str, str]:
    """The preset that each key stands for: arrows and the letters w, a, s and d by name, digits for all others.

    Where no name says left and right, or up and down, a control that goes both ways does: ``NAME-back`` and ``NAME``.

    Args:
        spec: The actions.

    Raises:
        ValueError: If they have no names.
    """
    if not spec.presets:
        raise ValueError("the actions of this model have no names that keys could stand for; use --script or --actions")
    arrows = {
        key: found for key, names in _WANTED.items() if (found := next((n for n in names if n in spec.presets), None))
    }
    both = [name for name in spec.presets if f"{name}-back" in spec.presets]
    for back, forth in (("left", "right"), ("down", "up")):
        if both and not {back, forth} & arrows.keys():
            name = both.pop(0)
            arrows |= {back: f"{name}-back", forth: name}
    letters = {letter: arrows[key] for letter, key in _LETTERS.items() if key in arrows}
    others = [name for name in spec.presets if name not in arrows.values()]
    return {**arrows, **letters, **{str(i): name for i, name in enumerate(others[:9], start=1)}}


class Keys:
    """Which keys are held, of a device that may or may not say when one is let go.

    Of keys that stand for opposite actions, such as left and right, the one that was pressed last counts.

    Args:
        spec: The actions.
        hold: Seconds for which a key counts as held after its last repeat, until :attr:`releases` is set.
        clock: Seconds, from any beginning.
    """

    def __init__(
        self, spec: ActionField, *, hold: float = HOLD, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if not 0 < hold < math.inf:
            raise ValueError(f"hold must be a number of seconds above 0, got {hold:g}")
        self.releases = False
        """Whether the device says when a key is let go."""
        self._spec, self._hold, self._clock = spec, hold, clock
        self._bindings = key_bindings(spec)
        self._held: dict[str, float] = {}  # until when each preset is held, the one pressed last at the end
        self._down: set[str] = set()  # keys that are down, of a device that says when they are let go
        self._fresh: set[str] = set()  # pressed since the last input: a short tap is an action of one frame
        self._since: float | None = None
        self._command: Command | None = None

    def press(self, key: str) -> None:
        """Note that a key goes down, or repeats."""
        if key in COMMANDS:
            self._command = COMMANDS[key]
        preset, now = self._bindings.get(key), self._clock()
        if preset is None:
            return
        if self._held.get(preset, -math.inf) < now:  # it was not held
            self._held.pop(preset, None)
            self._since = now
            self._fresh.add(preset)
        self._held[preset] = math.inf if self.releases else now + self._hold
        if self.releases:
            self._down.add(key)

    def release(self, key: str, *, after: float = 0.0) -> None:
        """Note that a key goes up.

        Args:
            key: The key.
            after: Seconds in which it may go down again as if nothing had been: some systems repeat a key so.
        """
        preset, now = self._bindings.get(key), self._clock()
        self._down.discard(key)
        same = any(self._bindings[other] == preset for other in self._down)  # such as an arrow beside its letter
        if preset in self._held and not same:
            self._held[preset] = now + after
            self._since = now

    def release_all(self) -> None:
        """Note that whatever is held is let go, as when a window is left."""
        for key in tuple(self._down):
            self.release(key)

    def take(self) -> Input:
        """What is wanted now; the next call does not have the command again."""
        now = self._clock()
        held = {preset: until for preset, until in self._held.items() if until > now or preset in self._fresh}
        chosen: list[str] = []
        for preset in reversed(held):
            if not any(self._opposite(preset, other) for other in chosen):
                chosen.append(preset)
        text = "+".join(name for name in self._spec.presets if name in chosen) or "none"
        found = Input(action=self._spec.action("action", text), text=text, since=self._since, command=self._command)
        self._held, self._since, self._command = held, None, None
        self._fresh.clear()
        return found

    def _opposite(self, one: str, other: str) -> bool:
        pairs = zip(self._spec.presets[one], self._spec.presets[other], strict=True)
        return sum(a * b for a, b in pairs) < 0
