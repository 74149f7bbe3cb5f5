"""The contract of a game that a model is played beside: the built-in ones, and one from outside."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from unistep import registry
from unistep.core.action_fields import ActionField
from unistep.data.games import Game, open_game
from unistep.modalities.base import Modality
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality

NEEDED = {"racing": "gymnasium", "doom": "vizdoom"}
"""Packages that the built-in ones need."""
RATES = {"doom": 17.5}
"""Frames per second that one of them can have, where it is not 25."""


def clips(name: str, channels: int = 3) -> VideoModality:
    return VideoModality(size=16, channels=channels, frames=4, fps=RATES.get(name, 25))


class Dimmer(Game):
    """A light that is turned up and down; how bright it is at first depends on the seed."""

    def __init__(self, modality: Modality, seed: int, part: str = "") -> None:
        assert part in ("", "train")
        self.spec = ActionField(names=("turn",), low=(-1,), high=(1,), presets={"up": (1,), "down": (-1,)})
        self._shape = modality.part((modality.shape[0], 1, *modality.shape[2:])).shape
        self._seed, self._level = seed, 0.0

    def reset(self) -> Tensor:
        self._level = 0.01 * self._seed
        return self.frame()

    def step(self, action: Tensor) -> Tensor:
        self._level += 0.05 * float(action[0])
        return self.frame()

    def frame(self) -> Tensor:
        return torch.full(self._shape, self._level)


@pytest.fixture(params=["outside", *registry.names("game")])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param in NEEDED and find_spec(NEEDED[request.param]) is None:
        pytest.skip(f"{NEEDED[request.param]} is missing: pip install 'unistep[{request.param}]'")
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    if request.param == "outside":
        registry.register("game", "outside", Dimmer)
    return request.param


def opened(name: str, modality: Modality, seed: int = 3) -> Game:
    spec = registry.lookup("game", name)(modality, seed).spec
    return open_game(f"{name}:train", modality, spec, seed=seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_are_clips_of_one_frame_and_follow_from_the_seed(name: str, channels: int) -> None:
    modality = clips(name, channels)
    game = opened(name, modality)
    busy = game.spec.action("action", next(iter(game.spec.presets)))
    drives = []
    for each in (game, game, opened(name, modality), opened(name, modality, seed=4)):
        drives.append(torch.stack([each.reset(), *(each.step(busy) for _ in range(12))]))
    assert drives[0].shape == (13, channels, 1, 16, 16)
    assert drives[0].dtype == torch.float32
    assert drives[0].abs().max() <= 1 + 1e-6
    assert torch.equal(drives[0], drives[1])
    assert torch.equal(drives[0], drives[2])
    assert not torch.equal(drives[0], drives[3])
    game.reset()
    still = torch.stack([game.step(torch.zeros(game.spec.size)) for _ in range(12)])
    assert not torch.equal(still, drives[0][1:])


def test_another_game_than_the_model_is_of_is_refused(name: str) -> None:
    other = ActionField(names=("jump",), low=(0,), high=(1,))
    with pytest.raises(ValueError, match="with other ranges or names than the model's jump"):
        open_game(name, clips(name), other)
    for data in ("folder:plays", ""):
        with pytest.raises(ValueError, match="there is no game beside data"):
            open_game(data, clips(name), other)


@pytest.mark.skipif(find_spec("gymnasium") is None, reason="the game is missing: pip install 'unistep[racing]'")
def test_races_have_squares_at_rates_that_the_game_has() -> None:
    racing = registry.lookup("game", "racing")
    for wrong in (
        VideoModality(size=128, channels=3, frames=4, fps=25),
        VideoModality(size=16, channels=3, frames=4, fps=24),
    ):
        with pytest.raises(ValueError, match="racing has squares of up to 96 pixels at 50 frames per second or a part"):
            racing(wrong, 0)
    with pytest.raises(ValueError, match="races need videos, and these are images"):
        racing(ImageModality(size=16, channels=3), 0)


@pytest.mark.skipif(find_spec("vizdoom") is None, reason="the game is missing: pip install 'unistep[doom]'")
def test_what_follows_the_name_of_the_data_says_which_level() -> None:
    spec = opened("doom", clips("doom")).spec
    first = {
        data: open_game(data, clips("doom"), spec, seed=3).reset()
        for data in ("doom:train", "doom:my_way_home:test", "doom:take_cover:mixed:train")
    }
    assert torch.equal(first["doom:train"], first["doom:my_way_home:test"])
    assert not torch.equal(first["doom:train"], first["doom:take_cover:mixed:train"])
    with pytest.raises(ValueError, match="doom has squares of up to 120 pixels at 35 frames per second or a part of"):
        registry.lookup("game", "doom")(clips("racing"), 0)
