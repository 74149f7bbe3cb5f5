"""Worlds in real time: the newest action, frames on time and never queued, figures that add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cli.standins import save_stream, save_world
from unistep.core.action_fields import ActionField
from unistep.generation.generator import Generator
from unistep.generation.keys import Keys, key_bindings
from unistep.generation.pacing import Ticks
from unistep.generation.play import GAP, Beside, ModelWorld, RealTimePlay, Screen, frames_of
from unistep.hub import load

SPEC = ActionField(
    names=("steer", "gas", "brake"),
    low=(-1, 0, 0),
    high=(1, 1, 1),
    presets={"left": (-1, 0, 0), "right": (1, 0, 0), "gas": (0, 1, 0), "brake": (0, 0, 0.8), "horn": (0, 0, 0)},
)


class Clock:
    """Time that goes on when it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Counter:
    """A world of numbers: frame ``n`` is ``n`` everywhere; each takes a while."""

    def __init__(self, clock: Clock, takes: Callable[[int], float]) -> None:
        self.clock, self.takes, self.number, self.done = clock, takes, 0, list[tuple[int, list[float]]]()

    def reset(self) -> None:
        self.number = 0

    def step(self, action: Tensor) -> Tensor:
        self.clock.now += self.takes(self.number)
        self.done.append((self.number, action.tolist()))
        self.number += 1
        return torch.full((3, 1, 2, 2), self.number - 1.0)


class Script(Screen):
    """A screen on which keys go up and down at moments that are known."""

    def __init__(self, clock: Clock, events: list[tuple[float, str]], *, releases: bool = True) -> None:
        super().__init__(Keys(SPEC, hold=0.25, clock=clock))
        self.keys.releases = releases
        self.clock, self.events = clock, [(clock.now + at, event) for at, event in events]
        self.shown: list[tuple[float, int, str]] = []

    def wait(self, seconds: float) -> None:
        until = self.clock.now + seconds
        if self.events and self.events[0][0] <= until:
            at, event = self.events.pop(0)
            self.clock.now = max(at, self.clock.now)
            (self.keys.release if event.startswith("-") else self.keys.press)(event.removeprefix("-"))
        else:
            self.clock.now = until

    def show(self, picture: np.ndarray, line: str) -> None:
        self.shown.append((round(self.clock.now - 100, 3), int(picture[0, 0, 0]), line))


def played(clock: Clock, events: list[tuple[float, str]], takes: Callable[[int], float] = lambda number: 0.01):
    """A second or so in steps of a tenth, that ends with the letter q."""
    screen, world = Script(clock, events), Counter(clock, takes)
    play = RealTimePlay(
        world, screen, seconds=0.1, pictures=lambda clip: clip.numpy().transpose(1, 2, 3, 0), clock=clock
    )
    play.run()
    return play, screen, world


def test_each_frame_has_the_newest_action_and_comes_at_its_tick(clock):
    events = [(0.05, "up"), (0.15, "left"), (0.17, "-left"), (0.35, "-up"), (0.45, "q")]
    play, screen, world = played(clock, events)
    # One frame to warm up, which takes 0.01 s; the ticks begin there.
    assert [at for at, _, _ in screen.shown] == pytest.approx([0.02, 0.12, 0.22, 0.32, 0.42])
    assert [number for _, number, _ in screen.shown] == [0, 1, 2, 3, 4]
    actions = [action for _, action in world.done[1:]]
    assert actions == [[0, 0, 0], [0, 1, 0], [-1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [line.split()[0] for _, _, line in screen.shown] == ["none", "gas", "left+gas", "gas", "none"]
    assert (play.frames, play.missed) == (5, 0)
    assert play.took(0.5) == pytest.approx(0.01)
    # From each change to the frame after it: 0.05 -> 0.12, 0.17 -> 0.22, 0.35 -> 0.42.
    assert play.latency(0.0) == pytest.approx(0.05)
    assert play.latency(1.0) == pytest.approx(0.07)
    assert play.rate == pytest.approx(10)
    assert "5 frames, a frame in 10 ms (p95 10 ms, p99 10 ms), 0 deadlines missed; a key is seen after" in str(play)


def test_a_late_frame_is_a_missed_deadline_and_none_is_made_up_for(clock):
    play, screen, _ = played(clock, [(0.72, "q")], lambda number: 0.25 if number == 2 else 0.0)
    assert [at for at, _, _ in screen.shown] == pytest.approx([0.0, 0.1, 0.45, 0.45, 0.55, 0.65])
    assert [number for _, number, _ in screen.shown] == [0, 1, 2, 3, 4, 5]
    assert play.missed == 1


def test_a_world_that_is_too_slow_runs_as_fast_as_it_can(clock):
    play, screen, _ = played(clock, [(1.0, "q")], lambda number: 0.3)
    assert [at for at, _, _ in screen.shown] == pytest.approx([0.6, 0.9, 1.2])  # after one to warm up
    assert (play.frames, play.missed) == (3, 3)


def test_pause_restart_and_quit(clock):
    events = [(0.15, " "), (0.55, " "), (0.75, "r"), (0.95, "escape")]
    _, screen, _ = played(clock, events)
    assert [number for _, number, _ in screen.shown] == [0, 1, 1, 2, 3, 0, 1]
    assert screen.shown[2][2] == "paused; space goes on"


def test_a_device_without_key_up_events_holds_a_key_for_a_while(clock):
    keys = Keys(SPEC, hold=0.25, clock=clock)
    keys.press("w")
    assert keys.take().text == "gas"
    clock.now += 0.2
    keys.press("w")
    clock.now += 0.2
    assert keys.take().text == "gas"
    clock.now += 0.1
    assert keys.take().text == "none"


def test_of_opposite_keys_the_newest_counts_and_a_short_tap_is_not_lost(clock):
    keys = Keys(SPEC, clock=clock)
    keys.releases = True
    keys.press("left")
    assert keys.take().since == clock.now
    clock.now += 1
    keys.press("right")
    found = keys.take()
    assert (found.text, found.action.tolist()) == ("right", [1, 0, 0])
    keys.press("right")  # it repeats
    assert keys.take().since is None
    keys.release("right")
    assert keys.take().text == "left"
    keys.release("left")
    keys.press("up")
    keys.release("up")
    assert keys.take().text == "gas"
    assert keys.take().text == "none"


def test_a_key_that_repeats_by_going_up_and_down_stays_down(clock):
    keys = Keys(SPEC, clock=clock)
    keys.releases = True
    keys.press("up")
    keys.take()
    keys.release("up", after=0.03)
    clock.now += 0.01
    keys.press("up")
    clock.now += 1
    assert keys.take().text == "gas"
    keys.release("up", after=0.03)
    clock.now += 0.04
    assert keys.take().text == "none"


def test_keys_are_bound_by_the_names_of_presets():
    bound = key_bindings(SPEC)
    assert {key: bound[key] for key in ("left", "right", "up", "down")} == {
        **{"left": "left", "right": "right", "up": "gas", "down": "brake"}
    }
    assert (bound["a"], bound["d"], bound["w"], bound["s"], bound["1"]) == ("left", "right", "gas", "brake", "horn")
    table = ActionField(
        names=("steer", "gas"),
        low=(-1, 0),
        high=(1, 1),
        presets={"steer": (1, 0), "steer-back": (-1, 0), "gas": (0, 1)},
    )
    assert [key_bindings(table)[key] for key in ("left", "d", "up")] == ["steer-back", "steer", "gas"]
    with pytest.raises(ValueError, match="have no names that keys could stand for"):
        key_bindings(ActionField(names=("x",), low=(0,), high=(1,)))
    with pytest.raises(ValueError, match="hold must be a number of seconds above 0, got 0"):
        Keys(SPEC, hold=0)


def test_ticks_do_not_drift(clock):
    ticks, waited = Ticks(0.1, clock=clock), list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds / 2 if len(waited) == 1 else seconds + 0.002  # woken early once, else a little late

    ticks.wait(wait)
    starts = []
    for _ in range(20):
        clock.now += 0.03
        ticks.wait(wait)
        starts.append(clock.now - 100)
    assert starts[-1] == pytest.approx(2.002)


@pytest.fixture(scope="module")
def g(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load(save_world(tmp_path_factory.mktemp("world") / "world"))


def test_a_model_is_a_world_that_begins_again(g: Generator) -> None:
    _, spec = ModelWorld(g).field, ModelWorld(g).spec
    actions = [spec.action("action", text) for text in ("gas", "left+gas", "none")]
    world = ModelWorld(g, seed=3)
    once, again = (torch.cat(list(frames_of(world, actions)), dim=1) for _ in range(2))
    stream = g.stream(seed=3, action=["gas", "left+gas", "none"])
    assert torch.equal(once, torch.cat(list(stream), dim=1))
    assert torch.equal(once, again)
    past = torch.zeros(3, 1, 16, 16)
    found = next(frames_of(ModelWorld(g, past=past), actions))
    assert torch.equal(found, next(g.stream(past=past, action="gas")))


def test_a_model_that_cannot_be_played_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phrases takes no actions; it takes instrument, pitch"):
        ModelWorld(load(save_stream(tmp_path / "phrases")))


def test_a_game_and_its_model_side_by_side(g: Generator) -> None:
    class Bright:
        """A game that becomes brighter with each step."""

        level = 0.0

        def reset(self) -> Tensor:
            self.level = -1.0
            return torch.full((3, 1, 16, 16), self.level)

        def step(self, action: Tensor) -> Tensor:
            self.level += float(action[1])
            return torch.full((3, 1, 16, 16), self.level)

    world = Beside(Bright(), ModelWorld(g))  # type: ignore[arg-type]
    gas = torch.tensor([0.0, 0.5])
    frames = list(frames_of(world, [gas, gas]))
    assert all(frame.shape == (3, 1, 16, 32 + GAP) for frame in frames)
    assert [float(frame[0, 0, 0, 0]) for frame in frames] == [-0.5, 0.0]
    alone = g.stream(past=torch.full((3, 1, 16, 16), -1.0), action=[gas, gas])
    for frame, wanted in zip(frames, alone, strict=True):
        assert torch.equal(frame[..., -16:], wanted)
        assert (frame[..., 16:-16] == 1).all()


def test_a_key_is_held_until_the_last_that_stands_for_it_is_let_go(clock):
    keys = Keys(SPEC, clock=clock)
    keys.press("left")  # before it is known that the device says when keys are let go
    clock.now += 1
    assert [keys.take().text for _ in range(2)] == ["left", "none"]
    keys.releases = True
    keys.press("a")
    keys.release("a")
    clock.now += 0.1
    assert [keys.take().text for _ in range(2)] == ["left", "none"]
    keys.press("left")
    keys.press("a")
    keys.take()
    for event, wanted in (("a", "left"), ("left", "none")):
        clock.now += 0.1
        keys.release(event)
        clock.now += 0.1
        assert keys.take().text == wanted
    keys.press("up")
    keys.press("d")
    assert keys.take().text == "right+gas"
    clock.now += 0.1
    keys.release_all()  # as when a window is left
    clock.now += 0.1
    assert keys.take().text == "none"
