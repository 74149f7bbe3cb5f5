"""The game of the doom data, who plays it, and the episodes as a source."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unistep.data import data_config, prepare
from unistep.data.preparing import cache_key
from unistep.data.sources.doom import EPISODES, LENGTH, Doom, seed_of
from unistep.data.sources.doom_episodes import PLAYERS, Episode
from unistep.data.sources.doom_game import SCENARIOS, TURN, DoomGame, Thing, game_version
from unistep.data.sources.doom_players import KEYS, MixedPlayer, RandomPlayer, ScriptedPlayer, pressed

INSTALLED = importlib.util.find_spec("vizdoom") is not None
needs_game = pytest.mark.skipif(not INSTALLED, reason="the game needs ViZDoom: pip install 'unistep[doom]'")
USUAL = "my_way_home"


def episode(**options) -> Episode:
    settings = {"scenario": USUAL, "player": "scripted", "first": 0, "frames": 12, "size": 16, "held": 2}
    return Episode(**{**settings, "seed": seed_of(USUAL, "test", 0), **options})


def turned(game: DoomGame, before: float) -> float:
    """Degrees to the left."""
    return (math.degrees(game.heading - before) + 180) % 360 - 180


@needs_game
def test_windows_are_parts_of_episodes_with_the_actions_that_led_to_their_frames(tmp_path):
    config = data_config("doom:test", size=16, frames=4, limit=2)
    dataset = prepare(config, cache_dir=tmp_path, progress=False)
    assert dataset.modality.described == "4 frames of 16 x 16 pixels, RGB, 17.5 fps"
    values, conditions = dataset.batch([0, 1], [5, 6])
    assert len(dataset) == 2  # the first window of the first and of the sixth episode
    actions = conditions["action"].tensors["vector"]
    for row, number in enumerate((0, 5)):
        frames, expected = episode(seed=seed_of(USUAL, "test", number), frames=4).record()
        assert torch.equal(values[row].transpose(0, 1), torch.from_numpy(frames))
        assert torch.equal(actions[row], torch.from_numpy(expected))
    assert "BSD-3-Clause" in dataset.licence
    assert "MIT" in dataset.licence


@needs_game
@pytest.mark.parametrize("player", list(PLAYERS))
def test_the_actions_of_an_episode_lead_through_its_frames(player):
    frames, actions = episode(player=player).record()
    assert not actions[0].any()
    assert np.abs(actions).sum() > 2
    game = DoomGame(seed_of(USUAL, "test", 0), size=16)
    again = [game.frame, *(game.step(action) for action in actions[1:])]
    assert (np.stack(again).transpose(0, 3, 1, 2) == frames).all()
    later, rest = episode(player=player, first=9, frames=3).record()
    assert (later == frames[9:]).all()
    assert (rest == actions[9:]).all()
    assert (np.stack([game.reset(), game.step(actions[1])]).transpose(0, 3, 1, 2) == frames[:2]).all()


@needs_game
def test_keys_do_what_their_names_say():
    game = DoomGame(12, scenario="deathmatch", size=60)
    for key, way in (("left", 1), ("right", -1)):
        before, heading = game.reset().astype(float), game.heading
        after = game.step(pressed(key)).astype(float)
        assert turned(game, heading) == pytest.approx(way * 2 * TURN, abs=0.1)
        # Looking to the left, what was seen is now farther to the right; the weapon, below, stays where it is.
        moved = [np.abs(np.roll(before, way * k, 1) - after)[:35, 15:-15].mean() for k in (4, 0, -4)]
        assert moved[0] < min(moved[1:])
    for key, aside in (("forward", 0), ("back", 180), ("strafe-left", 90), ("strafe-right", -90)):
        game.reset()
        start = game.position
        for _ in range(3):
            game.step(pressed(key))
        way = math.atan2(game.position[1] - start[1], game.position[0] - start[0])
        assert math.dist(start, game.position) > 5
        assert (math.degrees(way - game.heading) - aside + 180) % 360 - 180 == pytest.approx(0, abs=2)


@needs_game
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_scenario_goes_on_and_attacking_is_seen_where_there_are_weapons(scenario, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    game = DoomGame(3, scenario=scenario, size=32, held=10)
    assert not list(tmp_path.iterdir())
    assert Path(game._game.get_doom_game_path()).name == "freedoom2.wad"
    assert game.frame.shape == (32, 32, 3)
    assert game.frame.mean() > 10
    assert game.frame.std() > 5
    still = game.step(pressed("none"))
    game.reset()
    assert (game.step(pressed("attack")) != still).any() == game.armed
    for _ in range(60):  # 17 seconds, in which acid or fire kills those who stand still
        game.advance(pressed("none"))
    assert not game._game.is_player_dead()
    assert game._game.get_episode_time() >= 600


@needs_game
def test_room_is_measured_to_the_walls():
    game = DoomGame(0, scenario="health_gathering")  # one square room
    x, y = game.position
    room = game.room(np.radians([0, 90, 180, 270]))
    assert room == pytest.approx([1216 - x, 1216 - y, x, y], abs=1)


@needs_game
@pytest.mark.parametrize("keys", [False, True])
def test_the_scripted_player_walks_through_rooms(keys):
    game, actions, cells = DoomGame(seed_of(USUAL, "train", 1), size=8), [], set()
    player = ScriptedPlayer(np.random.default_rng(0), keys=keys)
    for _ in range(250):
        actions.append(player.act(game))
        game.advance(actions[-1])
        cells.add(tuple(int(place // 160) for place in game.position))
    assert len(cells) >= 4
    assert set(np.array(actions)[:, 3]) == {0}  # there is nothing to shoot at
    values = np.unique(np.array(actions)[:, :3])
    assert set(values) <= {-1, 0, 1} if keys else len(values) > 20


def stand_in(things: list[Thing], **settings) -> SimpleNamespace:
    """A game as its players see it, in which nothing moves."""
    usual = {"armed": True, "turn_step": math.radians(7), "heading": 0.0, "position": (0.0, 0.0)}
    return SimpleNamespace(**{**usual, **settings}, things=things, room=lambda angles: np.full(len(angles), 500.0))


def test_the_scripted_player_turns_to_what_it_sees():
    def acts(things: list[Thing], frames: int = 40, **settings) -> np.ndarray:
        player = ScriptedPlayer(np.random.default_rng(1), keys=True)
        return np.array([player.act(stand_in(things, **settings)) for _ in range(frames)])

    for kind in ("Monster", "Health"):
        assert (acts([Thing("it", kind, 100.0, 100.0)], 5)[:, 2] == -1).all()  # to the left
        assert (acts([Thing("it", kind, 100.0, -100.0)], 5)[:, 2] == 1).all()
    assert (acts([Thing("kit", "Health", 300.0, 0.0)], 5)[:, 0] == 1).all()
    facing = [Thing("imp", "Monster", 300.0, 0.0)]
    assert 5 < acts(facing)[:, 3].sum() < 40
    assert not acts(facing, armed=False)[:, 3].any()
    assert (acts([Thing("imp", "Monster", 80.0, 0.0)], 5)[:, 0] == -1).all()


def test_a_random_player_holds_keys():
    for armed in (False, True):
        player = RandomPlayer(np.random.default_rng(0))
        actions = np.array([player.act(stand_in([], armed=armed)) for _ in range(600)])
        changes = np.flatnonzero((np.diff(actions, axis=0) != 0).any(1))
        assert np.diff(changes).min() >= 5
        assert len(np.unique(actions, axis=0)) >= 8
        assert actions[:, 3].any() == armed
        assert np.abs(actions).max() == 1


def test_a_mixed_player_is_now_the_one_and_now_the_other():
    player = MixedPlayer(np.random.default_rng(0))
    kit = stand_in([Thing("kit", "Health", 300.0, 0.0)])
    straight = [player.act(kit)[:2] == (1.0, 0.0) for _ in range(300)]
    assert 0.3 < np.mean(straight) < 0.95


@needs_game
def test_what_the_data_comes_in_is_taken_where_nothing_else_is_said():
    def key(source: Doom = Doom(split="train"), **options) -> str:  # noqa: B008
        return cache_key(source, source.filled(data_config("doom", **options)))

    assert key() == key(size=64, fps=17.5, frames=16, stride=1)
    others = {
        key(size=32),
        key(fps=35.0),
        key(stride=16),
        key(Doom(split="test")),
        key(Doom(split="train", player="random")),
    }
    assert len({key(), *others, key(Doom(split="train", scenario="take_cover"))}) == 7


def test_no_seed_is_in_both_splits():
    seeds = {
        split: {seed_of(scenario, split, number) for scenario in SCENARIOS for number in range(count)}
        for split, count in EPISODES.items()
    }
    assert {split: len(found) for split, found in seeds.items()} == {split: 4 * EPISODES[split] for split in EPISODES}
    assert {seed % 2 for seed in seeds["train"]} == {0}
    assert {seed % 2 for seed in seeds["test"]} == {1}
    assert max(max(found) for found in seeds.values()) < 2**32


def test_keys_add_up():
    assert pressed("none") == (0, 0, 0, 0)
    assert pressed("left+forward") == (1, 0, -1, 0)
    assert pressed("strafe-right+attack") == (0, 1, 0, KEYS["attack"][3])


@needs_game
@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("doom:takecover", {}, r"doom has train, test, my_way_home, .*, got 'takecover'; did you mean 'take_cover'\?"),
        ("doom", {"fps": 25.0}, "doom has 35 steps a second, got fps 25; try 17.5"),
        ("doom", {"size": 128}, "doom has frames of at most 120 pixels, got size 128; try 64"),
        ("doom", {"frames": LENGTH + 1}, "doom has episodes of 500 frames, got clips of 501; try 16"),
        ("doom", {"split": "validation"}, "doom has the splits train and test, got 'validation'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path, name, options, line):
    with pytest.raises(ValueError, match=line) as raised:
        prepare(data_config(name, **options), cache_dir=tmp_path, progress=False)
    assert "\n" not in str(raised.value)


def test_a_missing_game_is_named_with_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vizdoom" else found(name))
    line = "doom needs ViZDoom, which is not installed: pip install 'unistep[doom]'"
    with pytest.raises(ValueError, match=re.escape(line)):
        prepare(data_config("doom"), cache_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match=re.escape(line)):
        game_version()


def test_names_say_which_episodes():
    def named(text: str, split: str = "train") -> Doom:
        return Doom.named(text, data_config("doom", split=split), downloads=None)

    assert named("").name == "doom:my_way_home:train"
    assert named("", "test").name == "doom:my_way_home:test"
    assert named("mixed:test").name == "doom:my_way_home:mixed:test"
    assert named("random:take_cover").name == "doom:take_cover:random:train"
    assert (
        Doom.named(named("deathmatch:test").name.partition(":")[2], data_config("doom"), downloads=None).split == "test"
    )
    shares = {player: len(named(player)._numbers()) for player in PLAYERS}
    assert shares == {"scripted": 30, "mixed": 24, "random": 6}
    assert sum(shares.values()) == EPISODES["train"]
