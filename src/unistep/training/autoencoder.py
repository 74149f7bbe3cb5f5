"""Training of the autoencoder codec, before the model whose latents it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from unistep.codecs.autoencoder import Autoencoder, AutoencoderConfig
from unistep.codecs.weights import save_codec
from unistep.core.seeding import derived_seed
from unistep.data import Dataset
from unistep.generation.requests import check_number

LOOKED_AT = 4_096
"""Items that the statistics of the latents are taken from."""


def train_autoencoder(
    data: Dataset | Tensor,
    config: AutoencoderConfig | None = None,
    *,
    steps: int = 2_000,
    batch_size: int = 64,
    lr: float = 2e-3,
    divergence: float = 1e-4,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    callback: Callable[[int, float], object] | None = None,
) -> Autoencoder:
    r"""Train an autoencoder on signals, and take the statistics of its latents.

    .. math:: L = \lVert x - D(\mu + \sigma z) \rVert^2 / n + \beta\, \mathrm{KL}(N(\mu, \sigma^2) \,\|\, N(0, 1)) / m

    with :math:`n` values in a signal and :math:`m` in its latents.

    Args:
        data: A data set, or signals ``[n, channels, *sizes]``.
        config: Options of the codec.
        steps: Optimizer steps.
        batch_size: Signals in each.
        lr: Largest learning rate of AdamW; it falls to zero as a cosine.
        divergence: Weight :math:`\beta` of the divergence of the latents from a standard normal.
        seed: Seed of weights, order and noise.
        device: Where to train.
        out: File for the weights, such as ``codec.safetensors``; the codec's configuration names it then.
        callback: Called with the step, from 1, and the mean squared error of its batch.

    Returns:
        The codec, frozen, on the CPU: for ``Trainer(..., codec=...)`` or ``Generator(..., codec=...)``; with ``out``,
        its ``config`` is what a run's ``model.codec`` takes.

    Raises:
        ValueError: If there is no data, no step or no batch, or the sizes do not fit the halvings.

    References:
        Kingma & Welling 2014, arXiv 1312.6114, equation 10; Rombach et al. 2022, arXiv 2112.10752, appendix G, for a
        small weight of the divergence.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        check_number(name, value, 1)
    signals = _Signals(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "autoencoder"))
        codec = (config or AutoencoderConfig()).build(signals.shape).to(device)
    generator = torch.Generator().manual_seed(derived_seed(seed, "autoencoder batches"))
    optimizer = torch.optim.AdamW(codec.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for step in range(1, steps + 1):
        x = signals.at(torch.randint(len(signals), (batch_size,), generator=generator)).to(device)
        mu, log_variance = codec.posterior(x)
        noise = torch.randn(mu.shape, generator=generator).to(mu)
        found = codec.decoder(mu + (log_variance / 2).exp() * noise)
        error = (found - x).square().mean()
        apart = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).mean()
        optimizer.zero_grad()
        (error + divergence * apart).backward()
        optimizer.step()
        schedule.step()
        if callback is not None:
            callback(step, float(error.detach()))
    codec = codec.cpu().frozen()
    with torch.no_grad():
        codec.set_statistics(codec.posterior(x)[0] for x in signals.spread(LOOKED_AT, batch_size))
    if out is not None:
        save_codec(codec, Path(out))
    return codec


class _Signals:
    """Signals by index, of a data set or a tensor."""

    def __init__(self, data: Dataset | Tensor) -> None:
        self._data = data
        self._modality = None if isinstance(data, Tensor) else data.modality
        if len(data) == 0:
            raise ValueError("there is no signal to train an autoencoder on")
        self.shape = tuple(data.shape[1:]) if isinstance(data, Tensor) else data.modality.shape

    def __len__(self) -> int:
        return len(self._data)

    def at(self, indices: Tensor) -> Tensor:
        """The signals of some items, float32."""
        if isinstance(self._data, Tensor):
            return self._data[indices].float()
        assert self._modality is not None
        return self._modality.to_signal(self._data.batch(indices.tolist())[0])

    def spread(self, most: int, batch_size: int) -> Iterator[Tensor]:
        """At most so many signals, evenly spread, in batches."""
        count = min(most, len(self))
        chosen = torch.arange(count) * len(self) // count
        for indices in chosen.split(batch_size):
            yield self.at(indices)
