"""Streams as values: the next chunk of each stream in a batch, given the state that the last one left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import (
    CONTEXT,
    AnyField,
    Condition,
    ConditionValue,
    Value,
    concat,
    encoded,
    frame,
    parse_condition,
)
from unistep.core.condition import to_device as condition_to
from unistep.core.fields import ReadSignal, is_one
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.core.values import Rows
from unistep.generation.history import Context
from unistep.generation.requests import check_seed

Draw = Callable[[Tensor, Condition, ItemGenerators], Tensor]
"""``draw(noise, condition, generators) -> x``: a model's sampler."""

ConditionSchedule = ConditionValue | Iterable[ConditionValue] | Callable[[int], ConditionValue] | None
"""The condition of a stream: a value for all chunks; one for each, with which the stream ends; or a function of the
chunk's number, from 0. ``None`` leaves it to the seed."""


@dataclass(frozen=True, eq=False)
class StreamState:
    """Where a batch of streams stands: tensors and nothing else, so that states are stacked, split, moved and stored.

    Streams that began at different times may be in one batch.
    """

    seed: Int[Tensor, " b"]
    """Seeds of the streams."""
    number: Int[Tensor, " b"]
    """Chunks that each has had."""
    past: Float[Tensor, "b ..."]
    """What came before, as the network sees it and of one size at any time; zeros before the first chunk."""
    tail: Float[Tensor, "b ..."]
    """What the codec needs of the previous chunk."""

    def __len__(self) -> int:
        """Number of streams."""
        return len(self.seed)

    @classmethod
    def stack(cls, states: Sequence[StreamState]) -> StreamState:
        """The streams of several states in one batch."""
        return cls(*(torch.cat([getattr(state, name) for state in states]) for name in _names(cls)))

    def unstack(self) -> list[StreamState]:
        """A state for each stream."""
        return [self.select([row]) for row in range(len(self))]

    def select(self, rows: Rows) -> StreamState:
        """The streams ``rows`` (a slice, a mask or indices)."""
        index = rows if isinstance(rows, slice | Tensor) else torch.as_tensor(rows, dtype=torch.long)
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> StreamState:
        """The state on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> StreamState:
        return replace(self, **{name: function(getattr(self, name)) for name in _names(type(self))})


def _names(kind: type[StreamState]) -> list[str]:
    return [field.name for field in fields(kind)]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamSession:
    """Draws the next chunks of streams; it holds nothing of any of them.

    Chunk :math:`j` of a stream has noise that follows from the stream's seed and :math:`j` alone. A condition that is
    not given is drawn once for each stream, from its seed, except those of :attr:`Context.changing`, which are drawn
    for each chunk from seed and number.
    """

    codec: Codec
    """One of chunks."""
    context: Context
    """How the model is conditioned on the past."""
    sigma_data: float
    """Standard deviation of the data."""
    fields: Mapping[str, AnyField]
    """The conditions that the model takes."""
    draw: Draw
    """The model's sampler."""
    device: torch.device
    """Where the model is."""
    read: ReadSignal | None = None
    """Reads files that hold a condition."""

    def start(self, seeds: Sequence[int], past: Float[Tensor, "b ..."] | None = None) -> StreamState:
        """The state of streams that begin.

        Args:
            seeds: One for each stream.
            past: Signals that they go on from, one for all or one for each, such as clips of any length; from nothing
                without.

        Raises:
            ValueError: If there is no seed, one is out of range, or the model cannot go on from such signals.
        """
        for seed in seeds:
            check_seed(seed)
        seeds = [int(seed) for seed in seeds]
        if not seeds:
            raise ValueError("a session needs one seed or more: one for each stream")
        like = torch.zeros(len(seeds), *self.codec.shape, device=self.device)
        number = torch.full((len(seeds),), 0 if past is None else 1, dtype=torch.long)
        before = self.codec.no_past(like) if past is None else self._given(past, len(seeds))
        return StreamState(torch.tensor(seeds, dtype=torch.long), number, before, self.codec.start(like))

    def _given(self, past: Tensor, count: int) -> Tensor:
        """What the network sees of signals that ``count`` streams go on from."""
        if not isinstance(past, Tensor) or not past.is_floating_point() or not past.isfinite().all():
            got = past.dtype if isinstance(past, Tensor) else type(past).__name__
            raise ValueError(f"past must be a tensor of signals, as samples are: finite floats in [-1, 1], got {got}")
        if len(past) not in (1, count):
            raise ValueError(f"past has {len(past)} signals for {count} streams; give one, or one for each")
        found = self.codec.past_of(past.to(self.device).float())
        return found if len(found) == count else found.expand(count, *found.shape[1:]).clone()

    @torch.inference_mode()
    def step(
        self, state: StreamState, condition: Mapping[str, Any] | None = None
    ) -> tuple[StreamState, Float[Tensor, "b ..."]]:
        """The next chunk of each stream.

        Args:
            state: Where they stand.
            condition: Values of the model's fields by name: one for all streams, or a sequence with one for each, in
                which ``None`` leaves the field of that stream to its seed.

        Returns:
            The state after the chunk, and the chunks as signals, on the CPU.

        Raises:
            ValueError: For an unknown field, or a value out of range.
        """
        seeds, numbers = state.seed.tolist(), state.number.tolist()
        given = self._completed(seeds, numbers, condition or {})
        keys = zip(seeds, numbers, strict=True)
        items = ItemGenerators([derived_seed("chunk", seed, number) for seed, number in keys])
        noise = normal((len(seeds), *self.codec.shape), items).to(self.device)
        full = encoded(condition_to(given, self.device), self.codec.encode_reference)
        context = self._context(state.past.to(self.device), numbers, items)
        x = self.draw(noise, {**full, CONTEXT: context}, items).float()
        signal, tail = self.codec.decode_next(x, state.tail.to(self.device))
        # Plain tensors, which may be changed.
        past = self.codec.remember(state.past.to(self.device), x, state.number.to(self.device) == 0)
        after = StreamState(state.seed, state.number + 1, past.clone(), tail.clone())
        return _plain(after), _plain_tensor(signal.cpu())

    def chunks(
        self,
        seeds: Sequence[int],
        given: Condition,
        schedules: Mapping[str, Iterator[ConditionValue]] | None = None,
        past: Float[Tensor, "b ..."] | None = None,
    ) -> Iterator[Float[Tensor, "b ..."]]:
        """The chunks of streams one after the other; ends when a schedule, or the actions of a clip, have no more.

        Args:
            seeds: One for each stream.
            given: Conditions of all chunks.
            schedules: Conditions of each chunk.
            past: Signals to go on from, as for :meth:`start`.

        Raises:
            ValueError: At once, as :meth:`start`.
        """
        return self._chunks(self.start(seeds, past), given, schedules)

    def _chunks(
        self, state: StreamState, given: Condition, schedules: Mapping[str, Iterator[ConditionValue]] | None
    ) -> Iterator[Float[Tensor, "b ..."]]:
        for number in itertools.count():
            # Apart: an IndexError of a person's own schedule is a mistake, and no end.
            try:
                now = {name: next(values) for name, values in (schedules or {}).items()}
            except StopIteration:
                return
            try:
                constant = frame(given, number)
            except IndexError:
                return
            state, signal = self.step(state, {**constant, **now})
            yield signal

    def _context(self, past: Tensor, numbers: Sequence[int], items: ItemGenerators) -> Value:
        """The past of the streams that have one; the null condition for those that begin.

        Streams that begin draw no noise for it, as if they were alone.
        """
        running = [row for row, number in enumerate(numbers) if number > 0]
        beginning = [row for row, number in enumerate(numbers) if number == 0]
        past, parts = self.codec.recent(past, self.context.frames), []
        if running:
            shown = self.context.in_stream({}, past[running], self.sigma_data, items.select(running))
            parts.append(shown)
        if beginning:
            parts.append(self.context.at_start({}, past[beginning]))
        order = torch.argsort(torch.tensor([*running, *beginning]))
        return concat(parts)[CONTEXT].select(order.to(past.device))

    def _completed(
        self, seeds: Sequence[int], numbers: Sequence[int], condition: Mapping[str, Any]
    ) -> dict[str, Value]:
        """The condition with the fields drawn that are not given, each from random numbers of its own."""
        full: dict[str, Value] = parse_condition(self.fields, condition, len(seeds), self.read)
        for name, value in full.items():
            if value.frames not in (None, 1):
                raise ValueError(
                    f"{name} has {value.frames} frames, and a step makes one; give that frame's alone, as a list with "
                    "one for each stream where they differ"
                )
        full = frame(full, 0)
        for name, spec in self.fields.items():
            missing = _missing(condition.get(name), len(seeds))
            if not any(missing):
                continue
            changing = name in self.context.changing
            keys = [
                (name, seed, number) if changing else (name, seed) for seed, number in zip(seeds, numbers, strict=True)
            ]
            drawn: Any = spec.draw(len(seeds), ItemGenerators([derived_seed(*key) for key in keys]))
            full[name] = drawn if name not in full else full[name].where(~torch.tensor(missing), drawn)
        return full


def _missing(given: Any, count: int) -> list[bool]:
    """Which of ``count`` streams are given no value."""
    if isinstance(given, list | tuple) and len(given) == count:
        return [value is None for value in given]
    return [given is None] * count


def _plain_tensor(x: Tensor) -> Tensor:
    """A tensor as code outside of inference mode may use it."""
    with torch.inference_mode(mode=False):
        return x.clone()


def _plain(state: StreamState) -> StreamState:
    return StreamState(*(_plain_tensor(getattr(state, name)) for name in _names(StreamState)))


def resolve_schedule(schedule: ConditionSchedule) -> Iterator[ConditionValue] | None:
    """The values of a schedule chunk by chunk, or ``None`` for one value, or none, for all of them.

    Raises:
        ValueError: If it is neither a value, nor several, nor a function.
    """
    if schedule is None or is_one(schedule) or isinstance(schedule, Value):
        return None
    if callable(schedule):
        return map(schedule, itertools.count())
    if not isinstance(schedule, Iterable):
        raise ValueError(f"a condition is a number, a text, several of them or a function, got {schedule!r}")
    return iter(schedule)
