"""What networks with conditions share: the embedding of times and conditions, and the checks of their input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.conditioned_config import ConditionedConfig
from unistep.nets.conditioning import SignalInput, TokenProjection
from unistep.nets.embedding import LabelEmbedding, PositionalEmbedding, ScalarEmbedding, VectorEmbedding

C = TypeVar("C", bound=ConditionedConfig)


class ConditionedNetwork(nn.Module, Generic[C]):
    """A network on times and conditions, whose embeddings are added; a subclass is the body.

    Args:
        config: Its shape.
    """

    boundary_layers: tuple[str, ...] = (
        "input", "output", "gated_skip", "time", "second_time", "label", "classes", "scalars", "vectors", "tokens",
        "signals", "context_noise_embedding",
    )  # fmt: skip
    """Submodules at the edge of the network, which optimizers for hidden matrices leave alone."""

    signals: nn.ModuleDict
    """Inputs of the reference signals; a subclass makes them with :meth:`signal_inputs`."""

    def __init__(self, config: C) -> None:
        super().__init__()
        self.config = config
        emb = config.embedding_dim

        def time() -> nn.Sequential:
            features = PositionalEmbedding(emb, max_frequency=config.max_frequency)
            return nn.Sequential(features, nn.Linear(emb, emb), nn.SiLU(), nn.Linear(emb, emb))

        self.time = time()
        self.second_time = time() if config.second_time else None
        self.label = LabelEmbedding(config.num_classes, emb) if config.num_classes else None
        self.classes = nn.ModuleDict({name: LabelEmbedding(n, emb) for name, n in sorted(config.vocabularies.items())})
        self.scalars = nn.ModuleDict({name: ScalarEmbedding(u, emb) for name, u in sorted(config.scalars.items())})
        self.vectors = nn.ModuleDict({name: VectorEmbedding(n, emb) for name, n in sorted(config.vectors.items())})
        self.tokens = nn.ModuleDict({name: TokenProjection(n, emb) for name, n in sorted(config.tokens.items())})
        self.context_noise_embedding = ScalarEmbedding(1.0, emb) if config.context else None

    def signal_inputs(self, width: int, kernel: int = 3) -> nn.ModuleDict:
        """The input layers of the reference signals, ``width`` channels out."""
        config = self.config
        made = {
            name: SignalInput(config.dims, n, config.patch, width, config.embedding_dim, kernel)
            for name, n in sorted(config.signals.items())
        }
        return nn.ModuleDict(made)

    def embed_time(self, t: Tensor) -> Tensor:
        """Embedding of the noise levels alone, shape ``[b, embedding_dim]``."""
        return self.time(t)

    def embed(self, t: Tensor, s: Tensor | None, condition: Mapping[str, Any] | None) -> Tensor:
        """Sum of the embeddings of the times and the conditions.

        Args:
            t: Noise codes, shape ``[b]``, or ``[b, *n]`` with ``n`` the spatial sizes or 1.
            s: Second noise codes, of either shape; only with ``second_time``.
            condition: What the signal is conditioned on.

        Returns:
            Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]``.
        """
        embedding = self.time(t)
        if self.second_time is not None:
            if s is None:
                raise ValueError("this network was built with second_time=True and needs the time s")
            embedding = _plus(embedding, self.second_time(s))
        given = {} if condition is None else condition
        known = {**self.classes} if self.label is None else {"label": self.label, **self.classes}
        for name, table in known.items():
            value = given.get(name)
            nothing = torch.full(t.shape[:1], -1, dtype=torch.long, device=t.device)
            embedding = _plus(embedding, table(nothing if value is None else value.index))
        nothing = t.new_full(t.shape[:1], torch.nan)
        for name, scalar in self.scalars.items():
            value = given.get(name)
            embedding = _plus(embedding, scalar(nothing if value is None else value.value.to(t)))
        for name, layer in self.vectors.items():
            value = given.get(name)
            unchanged = t.new_zeros(t.shape[0], self.config.vectors[name])
            features = layer(unchanged if value is None else value.vector.to(t))
            if features.ndim > 2:  # of each frame: the first spatial axis is time
                features = features.view(*features.shape[:2], *[1] * (self.config.dims - 1), features.shape[-1])
            embedding = _plus(embedding, features)
        if self.context_noise_embedding is not None:
            context = given.get("context")
            level = nothing if context is None else context.level.to(t)
            embedding = _plus(embedding, self.context_noise_embedding(level))
        for name, sequence in self.tokens.items():
            embedding = _plus(embedding, sequence.summary(given.get(name), t))  # type: ignore[operator]
        for name, reference in self.signals.items():
            embedding = _plus(embedding, reference.embed(given.get(name), t))  # type: ignore[operator]
        return F.silu(embedding)

    def time_codes(self, t: Tensor, x: Tensor, after: int = 0) -> Tensor:
        """Noise codes ``[b]``, or ``[b, *n]`` for those that vary along spatial axes of ``x``.

        Args:
            t: Noise codes as :meth:`forward` takes them.
            x: The signal.
            after: Positions that are added after the signal along the last axis, besides the context before it.
        """
        if t.ndim == 1:
            return t
        wide = t.shape[:2] == (x.shape[0], 1) and t.ndim == x.ndim
        if not wide or any(n not in (1, m) for n, m in zip(t.shape, x.shape, strict=True)):
            raise ValueError(
                f"this network takes times of shape [{len(x)}] or [{len(x)}, 1, ...] that broadcast against a signal "
                f"of shape {list(x.shape)}, got {list(t.shape)}"
            )
        t = t[:, 0]
        if t.shape[-1] > 1 and (self.config.context or after):
            # Positions beside the signal have the noise level of their nearest neighbour in it.
            beside = [t[..., :1].expand(*t.shape[:-1], self.config.context), t]
            t = torch.cat([*beside, t[..., -1:].expand(*t.shape[:-1], after)], dim=-1)
        return t

    @abstractmethod
    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Run the network.

        Args:
            x: Signal of unit variance, shape ``[b, channels, *spatial]``, sizes multiples of ``config.multiple``.
            t: Noise level as the parametrisation codes it (of order one), shape ``[b]``, or ``[b, 1, *n]`` with ``n``
                the spatial sizes or 1, such as ``[b, 1, frames, 1, 1]`` for a level for each frame. At a coarser
                resolution the embedding of neighbouring levels is averaged.
            s: Second noise level, of either shape; only with ``second_time``.
            condition: Typed values by name: for ``label`` and the vocabularies, values with ``index`` ``[b]``, negative
                for the null condition; for the scalars with ``value`` ``[b]``, NaN for the null condition; for the
                vectors with ``vector`` ``[b, d]``, or ``[b, frames, d]`` for each frame along the first spatial axis,
                zeros for the null condition. With ``config.context``, a ``context``
                with ``signal`` ``[b, channels, *spatial]`` of that last size, and ``level`` ``[b]``, the level of the
                noise on it; for the tokens with ``tokens`` ``[b, n, d]`` and
                ``mask`` ``[b, n]``; for the signals with ``signal`` of the spatial sizes of ``x``, and ``level``.
                Leaving a condition out is the null condition.

        Returns:
            Tensor of the shape of ``x``.

        Raises:
            ValueError: If the channels or the spatial sizes do not fit the network.
        """

    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """The modules whose outputs are features of the signal, in the order in which they run, fewer than ten."""

    def stage_map(self, output: Tensor, batch_size: int) -> Tensor:
        """What one of the :meth:`stages` made of ``batch_size`` items, as ``[b, channels, *places]``."""
        del batch_size
        return output

    def check_shape(self, x: Tensor) -> None:
        """Refuse a signal that does not fit the network.

        Raises:
            ValueError: With the shapes that fit.
        """
        config, multiples = self.config, self.config.multiples
        known = x.ndim == 2 + config.dims and x.shape[1] == config.channels
        if not known or any(n % multiple for n, multiple in zip(x.shape[2:], multiples, strict=True)):
            several = config.multiple if len(set(multiples)) == 1 else " and ".join(map(str, multiples))
            raise ValueError(
                f"this network takes [b, {config.channels}, ...] with {config.dims} spatial sizes that are multiples "
                f"of {several}, got {tuple(x.shape)}"
            )

    def token_sequence(self, x: Tensor, condition: Mapping[str, Any] | None) -> tuple[Tensor, Tensor] | None:
        """The tokens of all conditions, and which of them count; ``None`` where the network takes none."""
        given = {} if condition is None else condition
        found = [project(given.get(name), x) for name, project in self.tokens.items()]
        if not found:
            return None
        return torch.cat([tokens for tokens, _ in found], dim=1), torch.cat([mask for _, mask in found], dim=1)

    def with_context(self, x: Tensor, condition: Mapping[str, Any] | None) -> Tensor:
        """``x`` after the previous frames, zeros for the null condition; ``x`` itself in a network without them."""
        if not self.config.context:
            return x
        shape = (*x.shape[:-1], self.config.context)
        context = None if condition is None else condition.get("context")
        if context is None:
            return torch.cat([x.new_zeros(shape), x], dim=-1)
        if tuple(context.signal.shape) != shape:
            raise ValueError(f"context must have shape {list(shape)}, got {list(context.signal.shape)}")
        return torch.cat([context.signal.to(x), x], dim=-1)


def _plus(embedding: Tensor, features: Tensor | float) -> Tensor:
    """The sum of two embeddings ``[b, dim]`` or ``[b, *n, dim]``, or of one and a number."""
    if not isinstance(features, Tensor) or embedding.ndim == features.ndim:
        return embedding + features
    short, long = sorted((embedding, features), key=lambda tensor: tensor.ndim)
    return long + short.view(short.shape[0], *([1] * (long.ndim - 2)), short.shape[-1])
