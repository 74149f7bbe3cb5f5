"""Streams that a model goes on with by itself while it is post-trained, for pasts such as it will meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from unistep.codecs.base import Codec
from unistep.core.condition import Condition, concat, encoded, frame, to_device
from unistep.core.flowmap import Map
from unistep.core.seeding import Randomness, derived_seed, normal, randint, uniform
from unistep.core.values import Value
from unistep.data import Dataset
from unistep.objectives.fd import one_jump
from unistep.training.examples import Examples, uncompiled

WINDOW = 60
"""Chunks of each stream that pasts are drawn from, the newest."""
EVERY, ON = 4, 16
"""Steps after which the streams go on, and by how many chunks: soon, since what training changes in a chunk changes all
that come after it. From streams of twenty steps before, weights went past their aim, and the streams got worse."""
NEAREST, SIDE, MOMENTS = 4, 16, 50_000
"""Recorded moments like a stream's of which one is chosen, parts of an axis in which chunks are compared, and about how
many moments there are: those of recordings spread evenly over the data, 154 MB where chunks have three channels."""
ANSWERS = 8
"""Chunks after which those who answer look at the stream again: a third of a second of a game."""
SHARE = 0.75
"""Share of the examples whose past is a stream's own; the others keep that of the data."""


@final
class OwnStreams(nn.Module):
    """Streams under recorded conditions, each as deep in as a long play is, of which training sees the newest chunks.

    Each begins with the past of a recording and goes on from what the student makes, one call a chunk, under what the
    recording says of each chunk (the actions of a player). At the end of the recording it begins with another one. What
    is wrong with its chunks only after a hundred of them is seen by this alone: a rollout of a few chunks from the
    data, as :class:`~unistep.generation.history.Context` has it, ends before.

    What a recording says goes on whatever the stream shows: a driver steers around bends that are not there, and is off
    the road soon. Where the streams are ``answering``, every :data:`ANSWERS` chunks a stream goes over to the recorded
    moment that looks most like its last chunk, and so to what the player did there.

    All processes of a run make the same streams. They are a part of the run's state, in half precision.

    Args:
        examples: The codec and the context of the run.
        recordings: Signals of a whole past and many chunks after it.
        count: Number of streams.
        length: Chunks after the past in each recording.
        answering: Whether conditions are those of recorded moments that look like the stream.
        seed: Of where they begin, and of their noise.

    Raises:
        ValueError: If the model is not that of a stream.

    References:
        Ross et al. 2011, "DAgger", arXiv 1011.0686, section 3, for examples from the states that the learner gets into;
        Huang et al. 2025, "Self Forcing", arXiv 2506.08009, section 3, for a distribution distance on rollouts; Pari et
        al. 2021, arXiv 2112.01511, for players who do what was done where it looked alike.
    """

    chunks: Tensor
    said: Tensor
    past: Tensor
    number: Tensor
    led: Tensor
    turns: Tensor
    steps: Tensor

    def __init__(
        self, examples: Examples, recordings: Dataset, count: int, length: int, seed: int, *, answering: bool = False
    ) -> None:
        super().__init__()
        if examples.context is None:
            raise ValueError("streams of its own are for the model of a stream; leave --objective.streams out")
        self.codec, self.context, self.sigma_data = examples.codec, examples.context, examples.sigma_data
        self._recordings, self._seed = recordings, seed
        self._conditions: dict[int, Condition] = {}
        self._end = self.codec.config.chunks(recordings.modality.shape)
        self._first = self._end - length
        self._window = min(WINDOW, length)
        chunk = torch.zeros(count, *self.codec.shape)
        self._depth = chunks_of_past(self.codec, chunk)
        kept = torch.zeros(count, self._depth + self._window, *self.codec.shape, dtype=torch.float16)
        self.register_buffer("chunks", kept)
        # The recording, and which chunk of it, that said what each of them, and the next one, is like.
        self.register_buffer("said", torch.zeros(count, self._depth + self._window, 2, dtype=torch.long))
        self.register_buffer("led", torch.zeros(count, 2, dtype=torch.long))
        self._moments = _Moments.of(self.codec, recordings, self._first, self._end) if answering else None
        self.register_buffer("past", self.codec.no_past(chunk))
        self.register_buffer("number", torch.full((count,), self._end))  # at the end, so that each begins anew
        self.register_buffer("turns", torch.zeros((), dtype=torch.long))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def begun(self) -> bool:
        """Whether there are streams to draw from; there are none in a timing run."""
        return int(self.turns) > 0

    @torch.no_grad()
    def begin(self, student: Map) -> None:
        """Let each stream go on from the beginning of a recording, to depths that are spread over its length."""
        generator = self._turn()
        late = randint(self._end - self._first - self._window + 1, len(self.number), generator)
        until = (late + self._window).to(self.number.device)
        for done in range(int(until.max())):
            self._go_on(student, until > done, generator)

    @torch.no_grad()
    def after_step(self) -> None:
        """Count a step of the optimizer."""
        self.steps += 1

    @torch.no_grad()
    def refresh(self, student: Map) -> None:
        """Where it is time, let all streams go on with the weights that the student has now."""
        if int(self.steps) < EVERY or not self.begun:
            return
        self.steps.zero_()
        generator = self._turn()
        for _ in range(ON):
            self._go_on(student, torch.ones_like(self.number, dtype=torch.bool), generator)

    @torch.no_grad()
    def shown(self, condition: Condition, generator: Randomness) -> dict[str, Value]:
        """A batch of conditions, most of them replaced by those of a stream's next chunk, with its past.

        Args:
            condition: Those of examples from the data, with the past in them.
            generator: Source of which streams, where in them, and the noise on their past.
        """
        if not self.begun:
            return dict(condition)
        count, device = len(next(iter(condition.values()))), self.number.device
        stream = randint(len(self.number), count, generator).to(device)
        at = self._depth + randint(self._window, count, generator).to(device)
        number = self.number[stream] - self.chunks.shape[1] + at
        # A past that is not all of one stream's own, since that began within it, is left to the data.
        own = (uniform(count, generator).to(device) < SHARE) & (number >= self._first + self._depth)
        past = self.past[stream]
        for back in range(self._depth, 0, -1):
            past = self.codec.remember(past, self.chunks[stream, at - back].to(past), torch.zeros_like(own))
        known = self._known(self.said[stream, at])
        found = self.context.in_stream(known, self.codec.recent(past, self.context.frames), self.sigma_data, generator)
        return {name: found[name].where(own, value) if name in found else value for name, value in condition.items()}

    def _go_on(self, student: Map, rows: Bool[Tensor, " streams"], generator: torch.Generator) -> None:
        """One chunk more of some streams."""
        for row in (rows & (self.number >= self._end)).nonzero()[:, 0].tolist():
            self._begin_anew(row, int(randint(len(self._recordings), 1, generator)))
        which = rows.nonzero()[:, 0]
        self._answer(which, generator)
        past, known = self.past[which], self._known(self.led[which])
        # For all streams, so that each has the same noise whichever go on.
        noise = normal(self.chunks[:, 0].shape, generator).to(past)[which]
        was = student.training
        student.eval()
        with uncompiled(student):
            recent = self.codec.recent(past, self.context.frames)
            x = one_jump(student, noise, self.context.in_stream(known, recent, self.sigma_data, generator)).to(past)
        student.train(was)
        self.past[which] = self.codec.remember(past, x, torch.zeros_like(which, dtype=torch.bool))
        with torch.autocast(x.device.type, enabled=False):  # that of a processor knows no such half precision
            self.chunks[which] = torch.cat([self.chunks[which, 1:], x[:, None].to(self.chunks)], dim=1)
        self.said[which] = torch.cat([self.said[which, 1:], self.led[which][:, None]], dim=1)
        self.number[which] += 1
        self.led[which, 1] += 1

    def _begin_anew(self, row: int, recording: int) -> None:
        signal = self._recordings.modality.to_signal(self._recordings.batch([recording])[0]).to(self.past)
        self.past[row] = self.codec.split(signal, self._first)[0][0]
        self.number[row] = self._first
        self.led[row] = torch.tensor([recording, self._first])

    def _answer(self, rows: Int[Tensor, " b"], generator: torch.Generator) -> None:
        """Let streams go over to recorded moments like theirs, where it is time or a recording ends."""
        if self._moments is None:
            return
        made = self.number[rows] - self._first
        due = rows[((made > 0) & (made % ANSWERS == 0)) | (self.led[rows, 1] >= self._end)]
        if len(due) > 0:
            self.led[due] = self._moments.like(self.chunks[due, -1], generator)

    def _known(self, said: Int[Tensor, "b 2"]) -> dict[str, Value]:
        """What recordings say of one chunk each."""
        each = [frame(self._conditions_of(recording), number) for recording, number in said.tolist()]
        return encoded(to_device(concat(each), self.past.device), self.codec.encode_reference)

    def _conditions_of(self, recording: int) -> Condition:
        if recording not in self._conditions:
            self._conditions[recording] = self._recordings.conditions([recording])
        return self._conditions[recording]

    def _turn(self) -> torch.Generator:
        """The randomness of the next turn, the same in all processes."""
        self.turns += 1
        seed = derived_seed(self._seed, "streams", int(self.turns))
        return torch.Generator(self.past.device).manual_seed(seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moments:
    """Chunks of recordings in little detail, and which chunk comes after each."""

    looks: Float[Tensor, "n dim"]
    next: Int[Tensor, "n 2"]
    """The recording and the number of the chunk after each."""

    @classmethod
    def of(cls, codec: Codec, recordings: Dataset, first: int, end: int) -> _Moments:
        """Those after which enough comes to go on with."""
        numbers = range(first, max(end - ANSWERS, first + 1))
        count = min(len(recordings), max(1, MOMENTS // len(numbers)))
        chosen, looks = [i * len(recordings) // count for i in range(count)], []
        for recording in chosen:
            signal = recordings.modality.to_signal(recordings.batch([recording])[0])
            looks.append(torch.cat([_look(codec.split(signal, number)[1]) for number in numbers]))
        after = torch.arange(first, first + len(numbers)) + 1
        which = torch.tensor(chosen).repeat_interleave(len(numbers))
        return cls(looks=torch.cat(looks), next=torch.stack([which, after.repeat(count)], dim=1))

    def like(self, chunks: Float[Tensor, "b *shape"], generator: torch.Generator) -> Int[Tensor, "b 2"]:
        """One of the :data:`NEAREST` moments most like each chunk."""
        looks = _look(chunks.float()).to(self.looks)
        nearest = torch.cdist(looks, self.looks).topk(min(NEAREST, len(self.looks)), largest=False).indices
        one = randint(nearest.shape[1], len(looks), generator).to(nearest.device)
        return self.next[nearest.gather(1, one[:, None])[:, 0]].to(chunks.device)


def _look(chunks: Float[Tensor, "b *shape"]) -> Float[Tensor, "b dim"]:
    """Chunks in little detail: means over at most :data:`SIDE` parts of each axis after that of the channels."""
    for axis in range(2, chunks.dim()):
        last = chunks.movedim(axis, -1)
        chunks = adaptive_avg_pool1d(last.flatten(0, -2)[None], min(SIDE, last.shape[-1]))[0]
        chunks = chunks.view(*last.shape[:-1], -1).movedim(-1, axis)
    return chunks.flatten(1)


def chunks_of_past(codec: Codec, chunk: Tensor) -> int:
    """How many chunks in a row leave nothing of what was before them in a codec's past.

    Args:
        codec: A codec of chunks.
        chunk: A batch of them, for the shape.
    """
    past, count = torch.full_like(codec.no_past(chunk), torch.nan), 0
    while past.isnan().any():
        past, count = codec.remember(past, chunk, torch.zeros(len(chunk), dtype=torch.bool)), count + 1
    return count
