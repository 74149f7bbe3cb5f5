"""Games that data comes from, for models of them to be played beside."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from unistep import registry
from unistep.core.action_fields import ActionField
from unistep.modalities.base import Modality
from unistep.modalities.video import VideoModality


class Game(ABC):
    """A game whose frames are like those of a model; a class is registered as a ``game`` under its source's name.

    Args:
        modality: Size, colours and frame rate of the model.
        seed: Decides all that chance decides in it.
        part: What follows the name of the data and a colon, such as ``take_cover:train``; empty without.
    """

    spec: ActionField
    """Its actions."""

    @abstractmethod
    def __init__(self, modality: Modality, seed: int, part: str = "") -> None: ...

    @abstractmethod
    def reset(self) -> Float[Tensor, "c one h w"]:
        """Begin again; the first frame, a clip of one with values in [-1, 1]."""

    @abstractmethod
    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frame, to which an action ``[size]`` leads."""


def open_game(data: str, modality: Modality, spec: ActionField, *, seed: int = 0) -> Game:
    """The game that a model's data comes from.

    Args:
        data: The data, as a model's provenance names it, such as ``racing:train``.
        modality: What the model makes.
        spec: The actions that it takes.
        seed: Decides all that chance decides in it.

    Raises:
        ValueError: If there is none, or it is another one than the model is of.
    """
    name, _, part = data.partition(":")
    if name not in registry.names("game"):
        known = ", ".join(registry.names("game"))
        raise ValueError(f"there is no game beside data {data or 'of an unknown kind'!r}; there is one for {known}")
    kind: type[Game] = registry.lookup("game", name)
    game = kind(modality, seed, part)
    if not game.spec.agrees(spec):
        theirs, ours = (", ".join(each.names) for each in (game.spec, spec))
        raise ValueError(f"the controls of {name} are {theirs}, with other ranges or names than the model's {ours}")
    return game


class Racing(Game):
    """A car on a track of its own, as the data ``racing`` has it.

    Raises:
        ValueError: If it is not installed, or cannot have such frames.
    """

    def __init__(self, modality: Modality, seed: int, part: str = "") -> None:
        from unistep.data.sources.racing import FIELDS
        from unistep.data.sources.racing_game import GAME_RATE, PICTURE, RATE, SIZE, RacingGame

        del part
        self._modality = VideoModality.expect(modality, "races")
        size, held = _squares("racing", self._modality, PICTURE, GAME_RATE, f"{SIZE} pixels at {RATE}")
        spec = FIELDS["action"]
        assert isinstance(spec, ActionField)
        self.spec = spec
        self._game = RacingGame(seed, size=size, held=held)

    def reset(self) -> Float[Tensor, "c one h w"]:
        """The same track from its start, where the car stands."""
        return _clip(self._modality, self._game.reset())

    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frame."""
        return _clip(self._modality, self._game.step(action.tolist()))


class Doom(Game):
    """A level of ViZDoom, as the data ``doom`` has it.

    Raises:
        ValueError: If it is not installed, has no such scenario, or cannot have such frames.
    """

    def __init__(self, modality: Modality, seed: int, part: str = "") -> None:
        from unistep.data.sources.doom import FIELDS, scenario_of
        from unistep.data.sources.doom_game import GAME_RATE, PICTURE, RATE, SIZE, DoomGame

        self._modality = VideoModality.expect(modality, "games")
        size, held = _squares("doom", self._modality, PICTURE, GAME_RATE, f"{SIZE} pixels at {RATE:g}")
        spec = FIELDS["action"]
        assert isinstance(spec, ActionField)
        self.spec = spec
        self._game = DoomGame(seed, scenario=scenario_of(part), size=size, held=held)

    def reset(self) -> Float[Tensor, "c one h w"]:
        """The same level from its start."""
        return _clip(self._modality, self._game.reset())

    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frame."""
        return _clip(self._modality, self._game.step(action.tolist()))


def _squares(name: str, modality: VideoModality, largest: int, rate: int, usual: str) -> tuple[int, int]:
    """Side of a model's frames, and for how many of the game's steps an action is held.

    Raises:
        ValueError: If the game cannot have such frames.
    """
    _, _, height, width = modality.shape
    held = rate / modality.fps
    if height != width or width > largest or not held.is_integer():
        raise ValueError(
            f"{name} has squares of up to {largest} pixels at {rate} frames per second or a part of it, as {usual}; "
            f"the model has {modality.described}"
        )
    return width, int(held)


def _clip(modality: VideoModality, pixels: object) -> Tensor:
    frame = torch.as_tensor(pixels).permute(2, 0, 1)[:, None]
    if modality.channels == 1:
        weights = torch.tensor([19595, 38470, 7471]).view(3, 1, 1, 1)
        frame = (((frame.long() * weights).sum(0, keepdim=True) + 0x8000) >> 16).to(torch.uint8)  # as Pillow's
    return modality.to_signal(frame)
