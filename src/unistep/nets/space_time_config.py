"""Shape of the space-time U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from unistep.nets.conditioned_config import ConditionedConfig

if TYPE_CHECKING:
    from unistep.nets.space_time import SpaceTimeUNet


@dataclass(frozen=True, kw_only=True)
class SpaceTimeUNetConfig(ConditionedConfig):
    """Shape of a :class:`SpaceTimeUNet`, whose first spatial axis is time."""

    dims: int = 3
    """Time and the dimensions of a frame: 2 for frames that are rows, 3 for those of a video."""
    widths: tuple[int, ...] = (64, 128)
    """Channels at each resolution, finest first; each level halves the last in space."""
    blocks: tuple[int, ...] = (1, 2)
    """Residual blocks per level, on the way down and again on the way up."""
    middle_blocks: int = 1
    """Residual blocks at the coarsest resolution, each with attention within its frame."""
    attention: tuple[int, ...] = ()
    """Levels (0 is the finest) whose blocks are followed by attention within each frame, besides the middle."""
    time_attention: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Levels whose blocks are followed by attention of each position over time; those that there are not are left out.
    The middle always has it."""
    causal: bool = False
    """Whether a frame depends on itself and those before it alone."""
    halve_time: bool = False
    """Whether each level also has half as many frames as the last; else all have the signal's."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths and blocks need the same length, got {self.widths} and {self.blocks}")
        if self.patch < 1 or not self.widths or min(self.widths) < 1 or min(*self.blocks, self.middle_blocks) < 1:
            raise ValueError(f"patch, widths, blocks and middle_blocks must be positive, got {self}")
        super().__post_init__()
        if self.dims < 2:
            raise ValueError(f"a space-time network has time and 1 or 2 dimensions of a frame, got dims {self.dims}")
        if self.context:
            raise ValueError("a space-time network takes no context along the last axis, which is not time")
        if self.causal and self.halve_time:
            raise ValueError("a causal network cannot halve time: the mean of two frames would know the later one")
        if min((*self.attention, *self.time_attention), default=0) < 0 or self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(
                f"levels of attention count from 0 and head_dim must be even, got {self.attention}, "
                f"{self.time_attention} and {self.head_dim}"
            )
        attended = [self.widths[-1], *(width for i, width in enumerate(self.widths) if self.attends(i))]
        if any(width % min(self.head_dim, width) or min(self.head_dim, width) % 2 for width in attended):
            raise ValueError(f"widths with attention must be multiples of head_dim {self.head_dim}, got {attended}")

    def attends(self, level: int) -> bool:
        """Whether the blocks of a level are followed by attention of either kind."""
        return level in self.attention or level in self.time_attention

    @property
    def multiple(self) -> int:
        """Rows and columns must be multiples of this number."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def multiples(self) -> tuple[int, ...]:
        """Any number of frames will do, unless levels have half as many."""
        return 2 ** (len(self.widths) - 1) if self.halve_time else 1, *(self.multiple,) * (self.dims - 1)

    @property
    def previous_frames(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """None can be shown along the last axis; those that lie where the signal does are a second input."""
        return None

    @property
    def described(self) -> str:
        """The network in one line, for tables."""
        folded = f"{self.patch}x{self.patch} space-to-depth" if self.patch > 1 else "full resolution"
        widths, blocks = (" ".join(map(str, numbers)) for numbers in (self.widths, self.blocks))
        time = "causal in time" if self.causal else "halved in time" if self.halve_time else "over time"
        return f"space-time U-Net, widths {widths}, blocks {blocks}, {folded}, {time}"

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> Self:
        """The same network for signals of ``shape`` and the conditions ``fields``.

        Raises:
            ValueError: For a context that lies before the signal along its last axis, and as any network.
        """
        context = fields.get("context")
        if context is not None and context.before:
            raise ValueError("a space-time network takes no context along the last axis, which is not time")
        return super().fitted(shape, fields)

    def build(self) -> SpaceTimeUNet:
        """Make the network, with fresh weights from the global random state."""
        from unistep.nets.space_time import SpaceTimeUNet  # which imports this module for its types

        return SpaceTimeUNet(self)
