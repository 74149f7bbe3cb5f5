"""The game of the racing data, who drives in it, and the drives as a source."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unistep.data import data_config, prepare
from unistep.data.preparing import cache_key
from unistep.data.sources import racing_game
from unistep.data.sources.racing import DRIVES, LENGTH, Racing, seed_of
from unistep.data.sources.racing_drivers import KEYS, MixedDriver, RandomDriver, ScriptedDriver, pressed
from unistep.data.sources.racing_drives import Drive
from unistep.data.sources.racing_game import RacingGame
from unistep.data.sources.racing_sight import drive_by_sight, read_instruments
from unistep.data.sources.shrinking import shrink

INSTALLED = all(importlib.util.find_spec(name) for name in ("gymnasium", "Box2D", "pygame"))
needs_game = pytest.mark.skipif(not INSTALLED, reason="the game needs Gymnasium: pip install 'unistep[racing]'")


def drive(**options) -> Drive:
    settings = {"driver": "scripted", "seed": seed_of("test", 0), "first": 0, "frames": 12, "size": 16, "held": 2}
    return Drive(**{**settings, **options})


@needs_game
def test_windows_are_parts_of_drives_with_the_actions_that_led_to_their_frames(tmp_path):
    config = data_config("racing:test", size=16, frames=4, limit=2)
    dataset = prepare(config, cache_dir=tmp_path, progress=False)
    assert dataset.modality.described == "4 frames of 16 x 16 pixels, RGB, 25 fps"
    values, conditions = dataset.batch([0, 1], [5, 6])
    per_drive = LENGTH - 4 + 1  # of 10 drives; the limit takes the first window of the first and of the sixth
    assert values.shape == (2, 3, 4, 16, 16)
    assert len(range(0, 10 * per_drive, 5 * per_drive)) == len(dataset) == 2
    actions = conditions["action"].tensors["vector"]
    for row, number in enumerate((0, 5)):
        frames, expected = drive(seed=seed_of("test", number), frames=4).record()
        assert torch.equal(values[row].transpose(0, 1), torch.from_numpy(frames))
        assert torch.equal(actions[row], torch.from_numpy(expected))
    assert "MIT" in dataset.licence


@needs_game
def test_a_clip_that_is_longer_than_a_drive_is_a_drive_that_goes_on():
    config = data_config("racing:test", frames=LENGTH + 200)
    found = Racing.named("test", config, Path()).open(config)
    assert found.count == DRIVES["test"]
    assert found.shape == (3, LENGTH + 200, 64, 64)


@needs_game
@pytest.mark.parametrize("driver", ["scripted", "mixed", "random"])
def test_the_actions_of_a_drive_lead_through_its_frames(driver):
    frames, actions = drive(driver=driver).record()
    assert not actions[0].any()
    assert np.isin(actions[:, 0], (-1, 0, 1)).all() or driver != "random"
    seed = seed_of("test", 0)
    game = RacingGame(seed, start=np.random.default_rng([seed, 1]).random(), size=16)
    again = [game.frame, *(game.step(action) for action in actions[1:])]
    assert (np.stack(again).transpose(0, 3, 1, 2) == frames).all()
    later, rest = drive(driver=driver, first=9, frames=3).record()
    assert (later == frames[9:]).all()
    assert (rest == actions[9:]).all()


@needs_game
def test_what_the_data_comes_in_is_taken_where_nothing_else_is_said(tmp_path):
    source = Racing(split="train")

    def key(**options) -> str:
        return cache_key(source, source.filled(data_config("racing", **options)))

    assert key() == key(size=64, fps=25.0, frames=16, stride=1)
    assert len({key(), key(size=32), key(fps=50.0), key(stride=16), key(fps=50.0, stride=16)}) == 5


def test_no_track_is_in_both_splits():
    seeds = {split: {seed_of(split, number) for number in range(count)} for split, count in DRIVES.items()}
    assert {split: len(found) for split, found in seeds.items()} == DRIVES
    assert {seed % 2 for seed in seeds["train"]} == {0}
    assert {seed % 2 for seed in seeds["test"]} == {1}


@needs_game
@pytest.mark.parametrize("keys", [False, True])
def test_the_scripted_driver_keeps_to_the_road(keys):
    for number in (0, 1):
        game, pressed_keys = RacingGame(seed_of("test", number)), set()
        driver = ScriptedDriver(np.random.default_rng(number), keys=keys)
        speeds = []
        for _ in range(300):
            action = driver.act(game)
            game.advance(action)
            assert game.on_road
            pressed_keys.add(action)
            speeds.append(game.speed)
        assert np.mean(speeds) > 15
        if keys:
            assert {action[0] for action in pressed_keys} == {-1.0, 0.0, 1.0}
            assert {action[1] for action in pressed_keys} == {0.0, 1.0}
            assert {action[2] for action in pressed_keys} <= {0.0, 0.8}


@needs_game
def test_a_mixed_driver_leaves_the_road_and_comes_back():
    on = []
    for number in range(3):
        game, driver = RacingGame(seed_of("train", number)), MixedDriver(np.random.default_rng(number))
        for _ in range(300):
            game.advance(driver.act(game))
            on.append(game.on_road)
    back = [now and not before for before, now in itertools.pairwise(on)]
    assert sum(back) >= 2
    assert 0.3 < np.mean(on) < 1


@needs_game
def test_a_random_driver_holds_keys_and_turns_back_in_the_end():
    game, driver = RacingGame(seed_of("train", 0)), RandomDriver(np.random.default_rng(0))
    actions = np.array([driver.act(game) for _ in range(400)])  # of a car that stands
    changes = np.flatnonzero((np.diff(actions, axis=0) != 0).any(1))
    assert np.diff(changes).min() >= 5
    assert len(np.unique(actions, axis=0)) >= 5
    heading_home = SimpleNamespace(track=game.track, position=(900.0, 900.0), heading=0.0, turning=0.0, speed=10.0)
    heading_home.on_road = False
    turned = [driver.act(heading_home)[0] for _ in range(20)]  # the road is behind it, to its left
    assert np.mean(turned) < -0.5


@needs_game
def test_a_driver_that_only_sees_keeps_to_the_road():
    game = RacingGame(seed_of("test", 1))
    frame, start, far = game.frame, np.array(game.position), 0.0
    for step in range(120):
        frame = game.step(drive_by_sight(frame))
        assert game.on_road
        far = max(far, float(np.hypot(*(game.position - start))))
        if step % 20 == 0:
            speed, turning = read_instruments(frame)
            assert speed == pytest.approx(abs(game.speed), abs=5)
            assert turning == pytest.approx(-game.turning, abs=0.3)
    assert far > 40
    steer, gas, brake = drive_by_sight(np.full((64, 64, 3), (102, 204, 102), np.uint8))  # lost in the grass
    assert -1 <= steer <= 1
    assert 0 <= gas <= 1
    assert 0 <= brake <= 1


@needs_game
def test_frames_are_those_of_the_game_though_less_is_drawn():
    game = RacingGame(seed_of("train", 3), start=0.4, size=96)
    for action in ((0, 1, 0), (1, 1, 0), (0, 0, 0)):
        for _ in range(8):
            game.advance(action)
        ours, plain = game.frame, game._game
        mine = {name: plain.__dict__.pop(name) for name in ("_render", "_render_road", "_draw_colored_polygon")}
        assert (plain.render() == ours).all()
        plain.__dict__.update(mine)


def test_pictures_shrink_to_means_of_areas():
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    fine = picture.repeat(2, 0).repeat(2, 1).astype(np.int64)
    sums = fine.reshape(64, 3, 64, 3, 3).sum((1, 3))
    assert (shrink(picture, 64) == (2 * sums + 9) // 18).all()
    assert (shrink(picture, 96) == picture).all()
    assert (shrink(np.full((96, 96, 3), 102, np.uint8), 41) == 102).all()


def test_keys_add_up():
    assert pressed("none") == (0, 0, 0)
    assert pressed("left+gas") == (-1, 1, 0)
    assert pressed("right+brake") == (1, 0, KEYS["brake"][2])


@needs_game
@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("racing:tset", {}, r"racing has train, test, scripted, mixed, random, got 'tset'; did you mean 'test'\?"),
        ("racing", {"fps": 30.0}, "racing has 50 steps a second, got fps 30; try 25"),
        ("racing", {"size": 128}, "racing has frames of at most 96 pixels, got size 128; try 64"),
        ("racing", {"frames": 10_001}, "racing has drives of at most 10,000 frames, got clips of 10001; try 16"),
        ("racing", {"split": "validation"}, "racing has the splits train and test, got 'validation'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path, name, options, line):
    with pytest.raises(ValueError, match=line) as raised:
        prepare(data_config(name, **options), cache_dir=tmp_path, progress=False)
    assert "\n" not in str(raised.value)


def test_a_missing_game_is_named_with_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "Box2D" else found(name))
    line = "racing needs Gymnasium with Box2D, which are not installed: pip install 'unistep[racing]'"
    with pytest.raises(ValueError, match=re.escape(line)):
        prepare(data_config("racing"), cache_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match=re.escape(line)):
        racing_game.game_version()


def test_names_say_which_drives():
    def named(text: str, split: str = "train") -> Racing:
        return Racing.named(text, data_config("racing", split=split), downloads=None)

    assert named("").name == "racing:train"
    assert named("", "test").name == "racing:test"
    assert named("mixed:test").name == named("test:mixed").name == "racing:mixed:test"
    shares = {driver: len(named(driver)._numbers()) for driver in ("scripted", "mixed", "random")}
    assert shares == {"scripted": 30, "mixed": 24, "random": 6}
    assert sum(shares.values()) == DRIVES["train"]
