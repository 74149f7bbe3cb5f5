"""From items as a data set stores them to what the network is trained on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import Condition, encoded, frame, select, to_device
from unistep.core.flowmap import Map
from unistep.core.sampling_inputs import first_point
from unistep.core.seeding import Randomness, randint, randn_like
from unistep.generation.history import Context
from unistep.modalities.base import Modality


@dataclass(frozen=True)
class Examples:
    """Turns stored items into clean network inputs and their conditions."""

    modality: Modality
    """Turns stored items into signals."""
    codec: Codec
    """Turns signals into what the network sees, on the device."""
    context: Context | None = None
    """How the past is shown to the model of a stream."""
    sigma_data: float = 0.5
    """Standard deviation of the data."""
    encoded: bool = False
    """Whether items are latents already; see :mod:`unistep.data.encoded`."""
    as_in_streams: bool = False
    """Whether the past is shown at the level of noise that streams have, for objectives that say so."""

    @property
    def rolls_out(self) -> bool:
        """Whether the student makes a part of them, so that the same draw gives others as it learns."""
        return self.context is not None and self.context.rollout > 0

    def __call__(
        self,
        stored: Tensor,
        condition: Condition,
        device: torch.device,
        generator: Randomness,
        student: Map | None = None,
    ) -> tuple[Tensor, Condition]:
        """Clean inputs ``[b, *shape]`` and conditions, on the device; of the chunks of a stream the last, given others.

        Args:
            stored: Items as the data set has them, ``[b, ...]``.
            condition: Their conditions.
            device: Where to.
            generator: Source of the noise on the past.
            student: The map that is trained, which makes the end of the past where the context says so.
        """
        signal = self.modality.to_signal(stored.to(device, non_blocking=True))
        known = encoded(to_device(condition, device, non_blocking=True), self.codec.encode_reference)
        if self.encoded:
            return signal, known
        if self.context is None:
            return self.codec.encode(signal), known
        past, x0 = self.codec.split(signal)
        if student is not None and self.rolls_out:
            past = self._rolled_out(signal, known, student, self.context, generator)
        recent = self.codec.recent(past, self.context.frames)
        return x0, self.context.in_training(
            frame(known, -1), recent, self.sigma_data, generator, as_in_streams=self.as_in_streams
        )

    @torch.no_grad()
    def _rolled_out(
        self, signal: Tensor, known: Condition, student: Map, context: Context, generator: Randomness
    ) -> Tensor:
        """The past of the last chunks, the end of which is the student's own: one call for each chunk of it.

        How many chunks that is, is drawn for each item, evenly from 0 to :attr:`Context.rollout`.

        References:
            Ross et al. 2011, "DAgger", arXiv 1011.0686, for training on the states that a model leads itself to; Huang
            et al. 2025, "Self Forcing", arXiv 2506.08009, for rolling out a generator in its training.
        """
        counts = randint(context.rollout + 1, len(signal), generator).to(signal.device)
        past, _ = self.codec.split(signal, -1 - context.rollout)
        was_training = student.training
        student.eval()
        with uncompiled(student):
            for number in range(-1 - context.rollout, -1):
                _, x = self.codec.split(signal, number)
                noise = randn_like(x, generator)  # for all items, so that each has the same in any share of the batch
                rows = (counts >= -1 - number).nonzero()[:, 0]
                recent = self.codec.recent(past, context.frames)
                shown = context.in_stream(frame(known, number), recent, self.sigma_data, generator)
                if len(rows):
                    t = x.new_full((len(rows),), student.path.t_max)
                    begin = first_point(student.path, noise[rows], t, None)
                    x = x.index_copy(0, rows, student(begin, t, None, select(shown, rows)).to(x))
                past = self.codec.remember(past, x, torch.zeros_like(counts, dtype=torch.bool))
        student.train(was_training)
        return past


def uncompiled(student: Map) -> AbstractContextManager[object]:
    """A block that runs a network without its compiled form, which would be compiled anew for every number of rows."""
    compiled = any(part._compiled_call_impl is not None for part in student.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
