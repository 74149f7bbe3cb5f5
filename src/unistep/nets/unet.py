"""One U-Net for 1-, 2- and 3-D signals: the backbone of every shipped model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.attention import SelfAttention
from unistep.nets.basis_head import ConditionedBasisHead
from unistep.nets.blocks import (
    ResidualBlock,
    conv,
    depth_to_space,
    double,
    group_norm,
    halve,
    pool_positions,
    space_to_depth,
)
from unistep.nets.conditioning import CrossAttention, SignalInput, TokenProjection
from unistep.nets.embedding import (
    LabelEmbedding,
    LearnedPositionEmbedding,
    PositionalEmbedding,
    ScalarEmbedding,
)
from unistep.nets.unet_config import UNetConfig

FORMER_WEIGHTS = (
    ("basis.places.", "basis_head.positions."),
    ("basis.told.", "basis_head.modulation."),
    ("basis.", "basis_head."),
    ("places.", "position_embedding."),
    ("mask.", "gated_skip."),
    ("heard.", "context_noise_embedding."),
)
"""Prefixes of weight names in files of earlier versions, with what they are called now."""


class UNet(nn.Module):
    """U-Net with residual blocks, attention in the middle, and additive embeddings of time and label.

    After Dhariwal & Nichol 2021 (arXiv 2105.05233) and Karras et al. 2022 (arXiv 2206.00364, appendix F.4), with
    an optional space-to-depth input. The output layer starts at zero. What came before, where there is such a context,
    stands ahead of the signal as its neighbour, so that convolutions and attention go from one to the other.

    Args:
        config: Its shape.
    """

    boundary_layers = (
        "input", "position_embedding", "basis_head.positions", "output", "gated_skip", "time", "second_time", "label",
        "classes", "scalars", "tokens", "signals", "context_noise_embedding",
    )  # fmt: skip
    """Submodules at the edge of the network, which optimizers for hidden matrices leave alone."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_rename_former_weights)
        self.config = config
        dims, emb = config.dims, config.embedding_dim

        def time() -> nn.Sequential:
            features = PositionalEmbedding(emb, max_frequency=config.max_frequency)
            return nn.Sequential(features, nn.Linear(emb, emb), nn.SiLU(), nn.Linear(emb, emb))

        self.time = time()
        self.second_time = time() if config.second_time else None
        self.label = LabelEmbedding(config.num_classes, emb) if config.num_classes else None
        self.classes = nn.ModuleDict({name: LabelEmbedding(n, emb) for name, n in sorted(config.vocabularies.items())})
        self.scalars = nn.ModuleDict({name: ScalarEmbedding(u, emb) for name, u in sorted(config.scalars.items())})

        self.tokens = nn.ModuleDict({name: TokenProjection(n, emb) for name, n in sorted(config.tokens.items())})
        self.context_noise_embedding = ScalarEmbedding(1.0, emb) if config.context else None

        def block(c_in: int, c_out: int) -> ResidualBlock:
            return ResidualBlock(dims, c_in, c_out, emb, config.dropout, config.double_norm)

        def mixer(level: int, width: int) -> nn.Module:
            return SelfAttention(width, config.head_dim) if level in config.attention else nn.Identity()

        folded = config.channels * config.patch**dims
        width = config.widths[0]
        self.input = conv(dims, folded, width)
        self.signals = nn.ModuleDict(
            {name: SignalInput(dims, n, config.patch, width, emb) for name, n in sorted(config.signals.items())}
        )
        beside = config.context + config.margin
        sizes = [*config.position_sizes[:-1], config.position_sizes[-1] + beside] if config.position_sizes else []
        sizes = [n // config.patch for n in sizes]
        self.position_embedding = LearnedPositionEmbedding(width, sizes) if sizes else None
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (target, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stage = nn.ModuleList()
            for _ in range(count):
                stage.append(nn.ModuleList([block(width, target), mixer(level, target)]))
                width = target
            self.down.append(stage)
        self.middle = nn.ModuleList()
        for i in range(config.middle_blocks):
            attention = SelfAttention(width, config.head_dim) if i + 1 < config.middle_blocks else nn.Identity()
            self.middle.append(nn.ModuleList([block(width, width), attention]))
        for level, (target, count) in reversed(list(enumerate(zip(config.widths, config.blocks, strict=True)))):
            stage = nn.ModuleList()
            # The change of width happens before the upsampling, where it costs a fraction.
            narrow = nn.Identity() if width == target else conv(dims, width, target, kernel=1)
            for _ in range(count):
                stage.append(nn.ModuleList([block(2 * target, target), mixer(level, target)]))
                width = target
            self.up.append(nn.ModuleDict({"narrow": narrow, "blocks": stage}))
        self.output_norm = group_norm(width)
        self.output = conv(dims, width, folded)
        self.gated_skip = conv(dims, width, folded, kernel=1) if config.gated_skip else None
        self.basis_head = (
            ConditionedBasisHead(dims, width, config.basis_functions, folded, emb, sizes)
            if config.basis_functions
            else None
        )
        self.cross_attention = nn.ModuleDict()
        if config.tokens:
            places = {f"middle_{i}": config.widths[-1] for i in range(config.middle_blocks)}
            for way in ("down", "up"):
                for level, (level_width, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
                    if level in config.attention:
                        places |= {f"{way}_{level}_{i}": level_width for i in range(count)}
            for name, channels in places.items():
                self.cross_attention[name] = CrossAttention(channels, emb, config.head_dim)
        for last in filter(None, (self.output, self.gated_skip)):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

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
        if self.context_noise_embedding is not None:
            context = given.get("context")
            level = nothing if context is None else context.level.to(t)
            embedding = _plus(embedding, self.context_noise_embedding(level))
        for name, reference in self.signals.items():
            embedding = _plus(embedding, reference.embed(given.get(name), t))  # type: ignore[operator]
        return F.silu(embedding)

    def _codes(self, t: Tensor, x: Tensor) -> Tensor:
        """Noise codes ``[b]``, or ``[b, *n]`` for those that vary along spatial axes of ``x``."""
        if t.ndim == 1:
            return t
        wide = t.shape[:2] == (len(x), 1) and t.ndim == x.ndim
        if not wide or any(n not in (1, m) for n, m in zip(t.shape, x.shape, strict=True)):
            raise ValueError(
                f"this network takes times of shape [{len(x)}] or [{len(x)}, 1, ...] that broadcast against a signal "
                f"of shape {list(x.shape)}, got {list(t.shape)}"
            )
        t = t[:, 0]
        if t.shape[-1] > 1 and (self.config.context or self.config.margin):
            # Positions beside the signal have the noise level of their nearest neighbour in it.
            beside = [t[..., :1].expand(*t.shape[:-1], self.config.context), t]
            t = torch.cat([*beside, t[..., -1:].expand(*t.shape[:-1], self.config.margin)], dim=-1)
        return t

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
                for the null condition; for the scalars with ``value`` ``[b]``, NaN for the null condition. With
                ``config.context``, a ``context`` with ``signal`` ``[b, channels, *spatial]`` of that last size, and
                ``level`` ``[b]``, the level of the noise on it; for the tokens with ``tokens`` ``[b, n, d]`` and
                ``mask`` ``[b, n]``; for the signals with ``signal`` of the spatial sizes of ``x``, and ``level``.
                Leaving a condition out is the null condition.

        Returns:
            Tensor of the shape of ``x``.

        Raises:
            ValueError: If the channels or the spatial sizes do not fit the network.
        """
        config = self.config
        if x.ndim != 2 + config.dims or x.shape[1] != config.channels or any(n % config.multiple for n in x.shape[2:]):
            raise ValueError(
                f"this network takes [b, {config.channels}, ...] with {config.dims} spatial sizes that are multiples "
                f"of {config.multiple}, got {tuple(x.shape)}"
            )
        if config.position_sizes and tuple(x.shape[2:]) != config.position_sizes:
            raise ValueError(f"this network takes signals of size {config.position_sizes}, got {tuple(x.shape[2:])}")
        embedding = self.embed(self._codes(t, x), None if s is None else self._codes(s, x), condition)
        embeddings = [pool_positions(embedding, config.patch)]
        for _ in config.widths[1:]:
            embeddings.append(pool_positions(embeddings[-1], 2))
        given = {} if condition is None else condition
        references = [
            signal_input(given.get(name), x, config.context, config.margin)
            for name, signal_input in self.signals.items()
        ]
        tokens = self._tokens(x, given)
        if config.context:
            x = torch.cat([self._context(x, condition), x], dim=-1)
        if config.margin:
            x = F.pad(x, (0, config.margin))
        folded = space_to_depth(x, config.patch)
        h = self.input(folded)
        for reference in references:
            h = h + reference
        if self.position_embedding is not None:
            h = self.position_embedding(h)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            if level > 0:
                h = halve(h)
            for i, (block, mixer) in enumerate(stage):  # type: ignore[arg-type, misc]
                h = self._attend(f"down_{level}_{i}", mixer(block(h, embeddings[level])), tokens)
                skips.append(h)
        for i, (block, mixer) in enumerate(self.middle):  # type: ignore[misc]
            h = self._attend(f"middle_{i}", mixer(block(h, embeddings[-1])), tokens)
        for level, stage in enumerate(self.up):
            embedding = embeddings[-1 - level]
            h = stage["narrow"](h)  # type: ignore[index]
            if level > 0:
                h = double(h)
            for i, (block, mixer) in enumerate(stage["blocks"]):  # type: ignore[index]
                h = mixer(block(torch.cat([h, skips.pop()], dim=1), embedding))
                h = self._attend(f"up_{len(self.up) - 1 - level}_{i}", h, tokens)
        h = F.silu(self.output_norm(h))
        out = self.output(h)
        if self.gated_skip is not None:
            out = out + self.gated_skip(h) * folded
        if self.basis_head is not None:
            out = out + self.basis_head(h, embeddings[0])
        out = depth_to_space(out, config.patch)
        beside = config.context + config.margin
        return out[..., config.context : out.shape[-1] - config.margin] if beside else out  # FSDP2 warns of views

    def _tokens(self, x: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """The tokens of all conditions, and which of them count; ``None`` where the network takes none."""
        found = [project(given.get(name), x) for name, project in self.tokens.items()]
        if not found:
            return None
        return torch.cat([tokens for tokens, _ in found], dim=1), torch.cat([mask for _, mask in found], dim=1)

    def _attend(self, place: str, h: Tensor, tokens: tuple[Tensor, Tensor] | None) -> Tensor:
        """``h`` after its positions have attended to the tokens, where there are any."""
        if tokens is None or place not in self.cross_attention:
            return h
        return self.cross_attention[place](h, *tokens)

    def _context(self, x: Tensor, condition: Mapping[str, Any] | None) -> Tensor:
        """The context of ``x``, zeros for the null condition."""
        shape = (*x.shape[:-1], self.config.context)
        context = None if condition is None else condition.get("context")
        if context is None:
            return x.new_zeros(shape)
        if tuple(context.signal.shape) != shape:
            raise ValueError(f"context must have shape {list(shape)}, got {list(context.signal.shape)}")
        return context.signal.to(x)


def _plus(embedding: Tensor, features: Tensor) -> Tensor:
    """The sum of two embeddings ``[b, dim]`` or ``[b, *n, dim]``."""
    if embedding.ndim == features.ndim:
        return embedding + features
    short, long = sorted((embedding, features), key=lambda tensor: tensor.ndim)
    return long + short.view(len(short), *([1] * (long.ndim - 2)), short.shape[-1])


def _rename_former_weights(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give weights from a file of an earlier version their present names."""
    del module
    for key in [key for key in state if key.startswith(prefix)]:
        name = key[len(prefix) :]
        for former, now in FORMER_WEIGHTS:
            if name.startswith(former):
                name = now + name[len(former) :]
                break
        if name.endswith(".untold"):  # its name in files of earlier versions
            name = name.rpartition(".")[0] + ".null_embedding"
        if prefix + name != key:
            state[prefix + name] = state.pop(key)
