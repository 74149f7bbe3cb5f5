"""Shape of the diffusion transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from unistep.nets.conditioned_config import ConditionedConfig

if TYPE_CHECKING:
    from unistep.nets.dit import DiT


@dataclass(frozen=True, kw_only=True)
class DiTConfig(ConditionedConfig):
    """Shape of a :class:`DiT`."""

    patch: int = 4
    """Side of the patches that become tokens."""
    width: int = 256
    """Features of a token."""
    depth: int = 8
    """Number of transformer blocks. A deeper network can start from the weights of a shallower one."""
    mlp_ratio: float = 4.0
    """Features in the middle of the perceptrons, as a multiple of the width."""
    positions: Literal["rotary", "absolute", "both"] = "rotary"
    """How a token has its position: by the rotation of queries and keys, which shows differences of positions, by
    sines that are added to it, or by both."""

    def __post_init__(self) -> None:
        if self.patch < 1 or self.width < 1 or self.depth < 1:
            raise ValueError(f"patch, width and depth must be positive, got {self.patch}, {self.width}, {self.depth}")
        if not 0 < self.mlp_ratio * self.width < 1e6 or round(self.mlp_ratio * self.width) < 1:
            raise ValueError(f"mlp_ratio must be positive and finite, got {self.mlp_ratio}")
        if self.positions not in ("rotary", "absolute", "both"):
            raise ValueError(f"positions must be 'rotary', 'absolute' or 'both', got {self.positions!r}")
        super().__post_init__()
        if self.head_dim < 1 or self.width % self.head_dim:
            raise ValueError(f"width must be a multiple of head_dim, got {self.width} and {self.head_dim}")
        if self.positions != "absolute" and (self.head_dim % 2 or self.head_dim < 2 * self.dims):
            raise ValueError(
                f"rotary positions in {self.dims} dimensions need an even head_dim of at least {2 * self.dims}, "
                f"got {self.head_dim}"
            )

    @property
    def multiple(self) -> int:
        """Spatial sizes must be multiples of this number."""
        return self.patch

    @property
    def described(self) -> str:
        """The network in one line, for tables."""
        return f"DiT, width {self.width}, depth {self.depth}, patches of {self.patch}"

    def bridged(self, theirs: Any) -> Any:
        """``theirs`` with what it may lack: conditions, the second time and the last blocks."""
        return replace(super().bridged(theirs), depth=max(theirs.depth, self.depth))

    def build(self) -> DiT:
        """Make the network, with fresh weights from the global random state."""
        from unistep.nets.dit import DiT  # which imports this module for its types

        return DiT(self)
