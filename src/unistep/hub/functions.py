"""What a model does as plain functions of tensors, for other programs: a sample from noise, or the step of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from unistep.backends.call import BATCH, axes_of, rebuilt, tensors_of
from unistep.core.condition import CONTEXT, Condition, Signal, Value, concat, encoded, to_device
from unistep.core.path import expand_to
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.generation.session import StreamSession, StreamState

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

SEED = 4_000_000
"""First seed of the samples from which inputs are taken, so that no other results have it."""
CHUNKS = 4
"""Chunks of streams from which inputs are taken."""


class ModelFunction(nn.Module, ABC):
    """A model's one-step function of named tensors.

    Args:
        generator: A one-step model.
        condition: A condition of the kind that it takes, whose tensors are among the inputs.

    Raises:
        ValueError: If one step is not enough for the model.
    """

    outputs: ClassVar[tuple[str, ...]]
    """Names of what it returns."""

    def __init__(self, generator: Generator, condition: Condition) -> None:
        super().__init__()
        if generator.kind == "denoiser":
            raise ValueError(
                f"{generator.name} needs many network calls for a sample, which no one-step function makes; export a "
                "student of it, such as unistep recipes ect trains"
            )
        # A model of phases has not learned one jump over all of them.
        if generator.kind == "flow_map" and generator.config.steps > 1:
            raise ValueError(
                f"{generator.name} samples in {generator.config.steps} steps, which no one-step function makes; export "
                'a model of one step, or say "steps": 1 in its config.json if it has learned such samples'
            )
        self.flow, self.codec = generator.map, generator.codec
        self._like = dict(condition)
        self.register_buffer("time", generator.times(1)[:1].clone(), persistent=False)

    time: Tensor
    """The one sampling time."""

    @abstractmethod
    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for inputs in their order."""

    @abstractmethod
    def inputs(self) -> dict[str, Tensor]:
        """Inputs by name, of samples that the model drew, two items or more."""

    def axes(self) -> list[dict[int, str]]:
        """The axes of each input whose length varies, by number, with their names."""
        ahead = len(self.inputs()) - len(tensors_of(self._like))
        return [{0: BATCH}] * ahead + axes_of(self._like)

    def denoised(self, noise: Tensor, condition: Mapping[str, Value]) -> Tensor:
        """The jump from noise to the data, as the network sees it."""
        t = self.time.expand(noise.shape[0])
        return self.flow(expand_to(self.flow.path.sigma(t), noise) * noise, t, None, condition)

    def condition(self, tensors: Sequence[Tensor]) -> dict[str, Value]:
        """The condition that has these tensors."""
        return rebuilt(self._like, tensors)


class SampleFunction(ModelFunction):
    """``(noise, condition) -> sample``.

    Args:
        generator: The model.
        count: Samples from which inputs are taken.
    """

    outputs = ("sample",)

    def __init__(self, generator: Generator, count: int = 2) -> None:
        seeds = list(range(SEED, SEED + count))
        drawn = to_device(generator.completed({}, seeds), generator.device)
        super().__init__(generator, encoded(drawn, generator.codec.encode_reference))
        self._noise = normal((count, *generator.shape), ItemGenerators(seeds)).to(generator.device)

    def inputs(self) -> dict[str, Tensor]:
        """Inputs by name; see :meth:`ModelFunction.inputs`."""
        return {"noise": self._noise, **tensors_of(self._like)}

    def forward(self, *tensors: Tensor) -> Tensor:
        """Samples ``[b, *signal_shape]`` from standard normal noise ``[b, *codec.shape]``."""
        noise, *condition = tensors
        return self.codec.decode(self.denoised(noise, self.condition(condition)))


class StreamFunction(ModelFunction):
    """``(noise, context_noise, number, past, tail, condition) -> (chunk, next_past, next_tail)``: a step of streams.

    ``number`` counts the chunks that each stream has had. ``past`` and ``tail`` are what is remembered, zeros at first;
    a codec that remembers nothing of a chunk has no ``tail``.

    Args:
        generator: The model.
        count: Streams from which inputs are taken.
    """

    def __init__(self, generator: Generator, count: int = 2) -> None:
        states, conditions = _recorded(generator, count)
        super().__init__(generator, conditions)
        assert generator.config.context is not None
        self._context, self._sigma_data = generator.config.context, generator.config.sigma_data
        self._state = states
        self._has_tail = states.tail.numel() > 0
        self.outputs = ("chunk", "next_past", *(("next_tail",) if self._has_tail else ()))  # type: ignore[misc]

    def inputs(self) -> dict[str, Tensor]:
        """Inputs by name; see :meth:`ModelFunction.inputs`."""
        state = self._state
        items = ItemGenerators(
            [derived_seed("export", SEED + row, int(number)) for row, number in enumerate(state.number)]
        )
        noise = normal((len(state), *self.codec.shape), items)
        recent = self.codec.recent(state.past, self._context.frames)
        tail = {"tail": state.tail} if self._has_tail else {}
        return {
            "noise": noise.to(state.past),
            "context_noise": normal(recent.shape, items).to(state.past),
            "number": state.number,
            "past": state.past,
            **tail,
            **tensors_of(self._like),
        }

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The next chunks, and what is remembered after them."""
        noise, context_noise, number, past, *rest = tensors
        tail, rest = (rest[0], rest[1:]) if self._has_tail else (past.new_zeros(past.shape[0], 0), rest)
        recent = self.codec.recent(past, self._context.frames)
        shown: Signal = self._context.under(context_noise, recent, self._sigma_data)
        context = shown.where(number > 0, shown.null())
        x = self.denoised(noise, {**self.condition(rest), CONTEXT: context})
        chunk, tail = self.codec.decode_next(x, tail)
        after = self.codec.remember(past, x, number == 0)
        return (chunk, after, tail) if self._has_tail else (chunk, after)


def function_of(generator: Generator, count: int = 2) -> ModelFunction:
    """The one-step function of a model.

    Args:
        generator: The model.
        count: Samples or streams from which its inputs are taken.

    Raises:
        ValueError: If one step is not enough for it.
    """
    kind = SampleFunction if generator.config.context is None else StreamFunction
    with torch.inference_mode(mode=False), torch.no_grad():
        return kind(generator, count).eval()


def _recorded(generator: Generator, count: int) -> tuple[StreamState, dict[str, Value]]:
    """States of streams at their beginning and later, with the condition of the chunk that comes next."""
    session: StreamSession = generator.session(steps=1)
    seen: list[Condition] = []

    def draw(noise: Tensor, condition: Condition, items: ItemGenerators) -> Tensor:
        seen.append({name: value for name, value in condition.items() if name != CONTEXT})
        return session.draw(noise, condition, items)

    watched = replace(session, draw=draw)
    state = session.start(list(range(SEED, SEED + count)))
    states = []
    for _ in range(CHUNKS):
        states.append(state)
        state, _ = watched.step(state)
    known = concat(seen)
    return StreamState.stack(states), rebuilt(known, [tensor.clone() for tensor in tensors_of(known).values()])
