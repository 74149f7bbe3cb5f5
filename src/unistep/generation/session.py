"""An endless sound: the next chunk given the last, one after the other for as long as somebody listens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import AnyField, Condition, ConditionValue, Value, parse_condition, to_device
from unistep.core.fields import is_one
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.generation.history import Context

Draw = Callable[[Tensor, Condition, ItemGenerators], Tensor]
"""``draw(noise, condition, generators) -> spectra``: a model's sampler."""

ConditionSchedule = ConditionValue | Iterable[ConditionValue] | Callable[[int], ConditionValue] | None
"""What one field of a stream is told: a value for all chunks; one for each, with which the stream ends; or a function
of the chunk's number, from 0. ``None`` leaves it to the seed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamSession:
    """Draws chunk after chunk of one or several streams at once; what it holds does not grow.

    Chunk :math:`j` of a stream has noise that follows from the stream's seed and :math:`j` alone. A condition that is
    not told is drawn once for each stream, from its seed, except those of :attr:`Context.changing`, which are drawn for
    each chunk from seed and number.
    """

    codec: Codec
    """One of chunks."""
    context: Context
    """How the last chunk is shown."""
    sigma_data: float
    """Standard deviation of the data."""
    fields: Mapping[str, AnyField]
    """What the model can be told."""
    draw: Draw
    """The model's sampler."""
    device: torch.device
    """Where the model is."""

    def chunks(
        self,
        seeds: Sequence[int],
        told: Condition,
        wishes: Mapping[str, Iterator[ConditionValue]] | None = None,
    ) -> Iterator[Float[Tensor, "b c n"]]:
        """Waveforms in [-1, 1], on the CPU, of ``chunk`` hops each; ends when a wish has no further value.

        Args:
            seeds: Seeds of the streams.
            told: Conditions of all chunks, shape ``[b]``.
            wishes: Conditions of each chunk.
        """
        past: Tensor | None = None
        state: Tensor | None = None
        for number in itertools.count():
            try:
                given = {name: next(values) for name, values in (wishes or {}).items()}
            except StopIteration:
                return
            now = parse_condition(self.fields, given, len(seeds))
            past = self._next(seeds, number, {**told, **now}, past)
            with torch.inference_mode():
                state = self.codec.start(past) if state is None else state
                signal, state = self.codec.decode_next(past, state)
            yield signal.cpu().clone()  # a plain tensor, which may be changed

    @torch.inference_mode()
    def _next(self, seeds: Sequence[int], number: int, told: Condition, past: Tensor | None) -> Tensor:
        items = ItemGenerators([derived_seed("chunk", seed, number) for seed in seeds])
        noise = normal((len(seeds), *self.codec.shape), items).to(self.device)
        full = to_device(self._complete(seeds, number, told), self.device)
        if past is None:
            condition = self.context.at_start(full, noise)
        else:
            condition = self.context.in_stream(full, past, self.sigma_data, items)
        return self.draw(noise, condition, items).float()

    def _complete(self, seeds: Sequence[int], number: int, told: Condition) -> dict[str, Value]:
        """Draw what was not told, each field from a stream of its own so that the noise does not move."""
        full = dict(told)
        for name, spec in self.fields.items():
            if name not in full:
                parts = [(number,) if name in self.context.changing else () for _ in seeds]
                drawn = [derived_seed(name, seed, *part) for seed, part in zip(seeds, parts, strict=True)]
                full[name] = spec.draw(len(seeds), ItemGenerators(drawn))
        return full


def resolve_schedule(wish: ConditionSchedule) -> Iterator[ConditionValue] | None:
    """The values of a wish chunk by chunk, or ``None`` for one value, or none, for all of them.

    Raises:
        ValueError: If it is neither a value, nor several, nor a function.
    """
    if wish is None or is_one(wish):
        return None
    if callable(wish):
        return map(wish, itertools.count())
    if not isinstance(wish, Iterable):
        raise ValueError(f"a condition is a number, a text, several of them or a function, got {wish!r}")
    return iter(wish)
