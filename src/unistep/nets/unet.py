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
from unistep.nets.conditioned import ConditionedNetwork
from unistep.nets.conditioning import CrossAttention
from unistep.nets.embedding import LearnedPositionEmbedding
from unistep.nets.full_resolution import FullResolutionHead
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


class UNet(ConditionedNetwork[UNetConfig]):
    """U-Net with residual blocks, attention in the middle, and additive embeddings of time and label.

    After Dhariwal & Nichol 2021 (arXiv 2105.05233) and Karras et al. 2022 (arXiv 2206.00364, appendix F.4), with
    an optional space-to-depth input. The output layer starts at zero. What came before, where there is such a context,
    stands ahead of the signal as its neighbour, so that convolutions and attention go from one to the other.

    Args:
        config: Its shape.
    """

    boundary_layers = (
        *ConditionedNetwork.boundary_layers,
        "position_embedding",
        "basis_head.positions",
        "fine_head.input",
        "fine_head.output",
    )

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.register_load_state_dict_pre_hook(_rename_former_weights)
        dims, emb = config.dims, config.embedding_dim

        def block(c_in: int, c_out: int) -> ResidualBlock:
            return ResidualBlock(dims, c_in, c_out, emb, config.dropout, config.double_norm)

        def mixer(level: int, width: int) -> nn.Module:
            return SelfAttention(width, config.head_dim) if level in config.attention else nn.Identity()

        folded = config.channels * config.patch**dims
        width = config.widths[0]
        self.input = conv(dims, folded, width)
        self.signals = self.signal_inputs(width)
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
        self.fine_head = (
            FullResolutionHead(
                dims,
                config.channels,
                width,
                width=config.fine_width,
                blocks=config.fine_blocks,
                patch=config.patch,
                embedding_dim=emb,
                dropout=config.dropout,
                double_norm=config.double_norm,
            )
            if config.fine_width
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

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Run the network; see :meth:`ConditionedNetwork.forward`."""
        config = self.config
        self.check_shape(x)
        if config.position_sizes and tuple(x.shape[2:]) != config.position_sizes:
            raise ValueError(f"this network takes signals of size {config.position_sizes}, got {tuple(x.shape[2:])}")
        t = self.time_codes(t, x, config.margin)
        s = None if s is None else self.time_codes(s, x, config.margin)
        embedding = self.embed(t, s, condition)
        embeddings = [pool_positions(embedding, config.patch)]
        for _ in config.widths[1:]:
            embeddings.append(pool_positions(embeddings[-1], 2))
        given = {} if condition is None else condition
        references = [
            signal_input(given.get(name), x, config.context, config.margin)
            for name, signal_input in self.signals.items()
        ]
        tokens = self.token_sequence(x, condition)
        x = self.with_context(x, condition)
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
            at_level = embeddings[-1 - level]
            h = stage["narrow"](h)  # type: ignore[index]
            if level > 0:
                h = double(h)
            for i, (block, mixer) in enumerate(stage["blocks"]):  # type: ignore[index]
                h = mixer(block(torch.cat([h, skips.pop()], dim=1), at_level))
                h = self._attend(f"up_{len(self.up) - 1 - level}_{i}", h, tokens)
        h = F.silu(self.output_norm(h))
        out = self.output(h)
        if self.gated_skip is not None:
            out = out + self.gated_skip(h) * folded
        if self.basis_head is not None:
            out = out + self.basis_head(h, embeddings[0])
        out = depth_to_space(out, config.patch)
        if self.fine_head is not None:
            out = self.fine_head(x, out, h, embedding)
        beside = config.context + config.margin
        return out[..., config.context : out.shape[-1] - config.margin] if beside else out  # FSDP2 warns of views

    def stages(self) -> list[nn.Module]:
        """The last block of each resolution on the way down, of the middle, and of each on the way up."""
        up = [stage["blocks"] for stage in self.up]  # type: ignore[index]
        return [blocks[-1][0] for blocks in (*self.down, self.middle, *up) if len(blocks)]  # type: ignore[index, arg-type]

    def _attend(self, place: str, h: Tensor, tokens: tuple[Tensor, Tensor] | None) -> Tensor:
        """``h`` after its positions have attended to the tokens, where there are any."""
        if tokens is None or place not in self.cross_attention:
            return h
        return self.cross_attention[place](h, *tokens)


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
