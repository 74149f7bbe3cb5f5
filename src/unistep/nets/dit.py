"""A diffusion transformer for 1-, 2- and 3-D signals, on patches of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from unistep.nets.blocks import affine, depth_to_space, pool_positions, space_to_depth
from unistep.nets.conditioned import ConditionedNetwork
from unistep.nets.dit_config import DiTConfig
from unistep.nets.positions import absolute_positions, rotary_angles
from unistep.nets.transformer import Modulation, TransformerBlock


class DiT(ConditionedNetwork[DiTConfig]):
    """Transformer on patches, whose blocks the embedding of times and conditions scales, shifts and gates.

    After Peebles & Xie 2023 (arXiv 2212.09748), with rotary positions and normalised queries and keys. The blocks
    start as the identity and the output layer at zero. Previous frames, where there are such, stand ahead of the signal
    as further tokens; tokens of a condition are attended to after each self-attention.

    Args:
        config: Its shape.
    """

    boundary_layers = (*ConditionedNetwork.boundary_layers, "output_modulation")

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        width, emb = config.width, config.embedding_dim
        folded = config.channels * config.patch**config.dims
        self.input = nn.Linear(folded, width)
        nn.init.xavier_uniform_(self.input.weight)
        self.signals = self.signal_inputs(width, kernel=1)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width,
                config.head_dim,
                config.mlp_ratio,
                emb,
                config.dropout,
                config.double_norm,
                cross_attention=bool(config.tokens),
            )
            for _ in range(config.depth)
        )
        self.output_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.output_modulation = Modulation(emb, width, branches=1, gates=0, double_norm=config.double_norm)
        self.output = nn.Linear(width, folded)
        self.gated_skip = nn.Linear(width, folded) if config.gated_skip else None
        for last in filter(None, (self.output, self.gated_skip)):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Run the network; see :meth:`ConditionedNetwork.forward`."""
        config = self.config
        self.check_shape(x)
        t, s = self.time_codes(t, x), None if s is None else self.time_codes(s, x)
        embedding = pool_positions(self.embed(t, s, condition), config.patch)
        given = {} if condition is None else condition
        references = [make(given.get(name), x, config.context) for name, make in self.signals.items()]
        condition_tokens = self.token_sequence(x, condition)
        folded = space_to_depth(self.with_context(x, condition), config.patch)
        grid = folded.shape[2:]
        patches = folded.flatten(2).transpose(1, 2)
        h = self.input(patches)
        for reference in references:
            if isinstance(reference, Tensor):
                h = h + reference.flatten(2).transpose(1, 2)
        if config.positions != "rotary":
            h = h + absolute_positions(grid, config.width, x.device).to(h)
        rotation = None
        if config.positions != "absolute":
            angles = rotary_angles(grid, config.head_dim, x.device)
            rotation = angles.cos(), angles.sin()
        for block in self.blocks:
            h = block(h, embedding, grid, rotation, condition_tokens)
        (scale,), (shift,), _ = self.output_modulation(embedding, grid)
        h = affine(self.output_norm(h), scale, shift)
        out = self.output(h)
        if self.gated_skip is not None:
            out = out + self.gated_skip(h) * patches
        out = depth_to_space(out.transpose(1, 2).reshape(folded.shape), config.patch)
        return out[..., config.context :] if config.context else out  # FSDP2 warns of views

    def stages(self) -> list[nn.Module]:
        """Four of the blocks at most, evenly spaced, the last one among them."""
        depth = len(self.blocks)
        return [self.blocks[i] for i in sorted({max(0, depth * part // 4 - 1) for part in (1, 2, 3, 4)})]

    def stage_map(self, output: Tensor, batch_size: int) -> Tensor:
        """Patches one after the other, as places of one axis."""
        del batch_size
        return output.transpose(1, 2)
