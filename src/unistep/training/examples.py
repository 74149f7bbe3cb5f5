"""From items as a data set stores them to what the network is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import Condition, encoded, to_device
from unistep.core.seeding import Randomness
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
    """How the previous chunk is shown to the model of a stream."""
    sigma_data: float = 0.5
    """Standard deviation of the data."""
    encoded: bool = False
    """Whether items are latents already; see :mod:`unistep.data.encoded`."""

    def __call__(
        self, stored: Tensor, condition: Condition, device: torch.device, generator: Randomness
    ) -> tuple[Tensor, Condition]:
        """Clean inputs ``[b, *shape]`` and conditions, on the device; of two chunks the second, given the first.

        Args:
            stored: Items as the data set has them, ``[b, ...]``.
            condition: Their conditions.
            device: Where to.
            generator: Source of the noise on the previous chunk.
        """
        signal = self.modality.to_signal(stored.to(device, non_blocking=True))
        known = encoded(to_device(condition, device, non_blocking=True), self.codec.encode_reference)
        if self.encoded:
            return signal, known
        if self.context is None:
            return self.codec.encode(signal), known
        past, x0 = self.codec.split(signal)
        return x0, self.context.in_training(known, past, self.sigma_data, generator)
