"""Shape of the U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unistep.nets.conditioned_config import ConditionedConfig

if TYPE_CHECKING:
    from unistep.nets.unet import UNet


@dataclass(frozen=True, kw_only=True)
class UNetConfig(ConditionedConfig):
    """Shape of a :class:`UNet`. After each block of the middle and of the levels of ``attention``, all positions attend
    to the tokens.
    """

    FORMER_KEYS: ClassVar[Mapping[str, str]] = {
        "places": "position_sizes",
        "mask": "gated_skip",
        "basis": "basis_functions",
    }
    """Keys that earlier versions wrote, with what they are called now."""

    widths: tuple[int, ...] = (64, 192)
    """Channels at each resolution, finest first; each level halves the last."""
    blocks: tuple[int, ...] = (1, 1)
    """Residual blocks per level, on the way down and again on the way up."""
    middle_blocks: int = 2
    """Residual blocks at the coarsest resolution, with attention after each but the last."""
    attention: tuple[int, ...] = ()
    """Levels (0 is the finest) whose blocks are followed by self-attention, besides the middle."""
    position_sizes: tuple[int, ...] = ()
    """Spatial sizes of the signal if each position has a learned embedding, as in spectra, whose frequencies differ;
    empty if positions are alike. A run takes the sizes from its data."""
    basis_functions: int = 0
    """Learned functions of position that the condition weights, for signals that it nearly determines, such as notes;
    they need ``position_sizes``. 0 for none."""
    fine_width: int = 0
    """Channels of residual blocks at the signal's own resolution, which correct the output: for patches of 4 or more,
    whose details a network of a few hundred channels learns slowly; 0 for none."""
    fine_blocks: int = 2
    """Number of those blocks."""
    margin: int = 0
    """Empty positions after the signal, along the last axis, whose outputs are dropped, so that the signal's last
    positions have neighbours on both sides like all others; 0 for none."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths and blocks need the same length, got {self.widths} and {self.blocks}")
        if self.patch < 1 or not self.widths or min(self.widths) < 1 or min(self.blocks) < 1:
            raise ValueError(f"patch, widths and blocks must be positive, got {self}")
        super().__post_init__()
        if self.head_dim < 1 or min(self.attention, default=0) < 0:
            raise ValueError(
                f"head_dim must be positive and levels of attention count from 0, got {self.head_dim} "
                f"and {self.attention}"
            )
        if max(self.attention, default=0) >= len(self.widths):
            raise ValueError(
                f"levels of attention are from 0 to {len(self.widths) - 1} with widths {self.widths}, got "
                f"{self.attention}"
            )
        attended = [self.widths[level] for level in self.attention]
        attended += [self.widths[-1]] if self.middle_blocks > (0 if self.tokens else 1) else []
        if any(width % min(self.head_dim, width) for width in attended):
            raise ValueError(f"widths with attention must be multiples of head_dim {self.head_dim}, got {attended}")
        if self.position_sizes and (
            len(self.position_sizes) != self.dims or any(n < 1 or n % self.multiple for n in self.position_sizes)
        ):
            raise ValueError(
                f"position_sizes are {self.dims} sizes, multiples of {self.multiple}, got {self.position_sizes}"
            )
        if self.basis_functions < 0 or (self.basis_functions and not self.position_sizes):
            raise ValueError(
                f"basis_functions must be 0 without position_sizes, or positive, got {self.basis_functions} and "
                f"{self.position_sizes}"
            )
        if self.fine_width < 0 or self.fine_blocks < 1:
            raise ValueError(
                f"fine_width must be 0 or positive and fine_blocks at least 1, got {self.fine_width} and "
                f"{self.fine_blocks}"
            )
        if self.margin < 0 or self.margin % self.multiple:
            raise ValueError(f"margin must be 0 or a multiple of {self.multiple}, got {self.margin}")

    @property
    def multiple(self) -> int:
        """Spatial sizes must be multiples of this number."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def described(self) -> str:
        """The network in one line, for tables."""
        folded = f"{self.patch}x{self.patch} space-to-depth" if self.patch > 1 else "full resolution"
        fine = f", {self.fine_blocks} blocks of {self.fine_width} at full resolution" if self.fine_width else ""
        widths, blocks = (" ".join(map(str, numbers)) for numbers in (self.widths, self.blocks))
        return f"U-Net, widths {widths}, blocks {blocks}, {folded}{fine}"

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> Self:
        """The same network for signals of ``shape`` and the conditions ``fields``, with the positions of ``shape``."""
        return replace(super().fitted(shape, fields), position_sizes=shape[1:] if self.position_sizes else ())

    def bridged(self, theirs: Any) -> Any:
        """``theirs`` with what it may lack: conditions, the second time, the basis head and that at full resolution."""
        known = super().bridged(theirs)
        added = self.basis_functions if theirs.position_sizes else 0
        fine = {} if theirs.fine_width else {"fine_width": self.fine_width, "fine_blocks": self.fine_blocks}
        return replace(known, basis_functions=theirs.basis_functions or added, **fine)

    def build(self) -> UNet:
        """Make the network, with fresh weights from the global random state."""
        from unistep.nets.unet import UNet  # which imports this module for its types

        return UNet(self)
