"""Videos: files to clips in [-1, 1] and back, film strips to look at and files that move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.feature_map import InTimeAndSpace
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.image import ImageModality
from unistep.modalities.layout import Layout
from unistep.modalities.recording import Recording
from unistep.modalities.signal_options import SignalOptions
from unistep.modalities.video_geometry import FrameSize
from unistep.modalities.video_options import FPS, FPS_RANGE, LARGEST_SIDE, MOST_FRAMES, SIZE, Fit, VideoOptions
from unistep.modalities.video_reading import SUFFIXES, UnusableVideoError
from unistep.modalities.views import scaled, shifted

if TYPE_CHECKING:
    from PIL import Image

    from unistep.modalities.stream_output import StreamOutput
    from unistep.nets.config import NetworkConfig


def flip(clip: UInt8[Tensor, "c f h w"], generator: torch.Generator) -> UInt8[Tensor, "c f h w"]:
    """The clip or its mirror image, left and right exchanged in all frames, with equal probability."""
    return clip.flip(-1) if torch.rand((), generator=generator) < 0.5 else clip


@dataclass(frozen=True, kw_only=True)
class VideoModality(Modality):
    """Clips of one size, length and frame rate, grey or RGB, without sound."""

    size: int | tuple[int, int]
    """Side of a square, or height and width, in pixels."""
    channels: int
    """1 for grey, 3 for RGB."""
    frames: int
    """Length of a clip, in frames."""
    fps: float = FPS
    """Frames per second."""

    noun: ClassVar[str] = "video"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    options: ClassVar[type[SignalOptions]] = VideoOptions
    media_types: ClassVar[Mapping[str, str]] = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif"}
    plays: ClassVar[bool] = True
    previews: ClassVar[int] = 9
    example: ClassVar[str] = "samples.mp4"
    exact: ClassVar[str | None] = ".mkv"
    augmentations: ClassVar[Mapping[str, Callable[..., Any]]] = {"flip": flip}

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if min(self.shape[2:]) < 1 or max(self.shape[2:]) > LARGEST_SIDE:
            raise ValueError(f"size must be from 1 to {LARGEST_SIDE} pixels, got {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        if not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames must be from 1 to {MOST_FRAMES:,}, got {self.frames}")
        if not FPS_RANGE[0] <= self.fps <= FPS_RANGE[1]:
            raise ValueError(f"fps must be from {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g}, got {self.fps}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, frames, height and width."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.channels, self.frames, height, width

    @property
    def seconds(self) -> float:
        """How long a clip lasts."""
        return self.frames / self.fps

    @property
    def rate(self) -> None:
        """The last axis of a clip is not time."""
        return None

    @property
    def still(self) -> ImageModality:
        """One frame."""
        return ImageModality(size=self.size, channels=self.channels)

    def stills(self, x: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b frames c h w"]:
        """The frames."""
        return x.transpose(1, 2)

    def part(self, shape: tuple[int, ...]) -> VideoModality:
        """Clips of another length."""
        return replace(self, frames=shape[1])

    @property
    def stream_output(self) -> StreamOutput:
        """Raw frames for a pipe, or files that grow frame by frame."""
        from unistep.modalities.video_stream import video_stream

        return video_stream(self)

    @property
    def described(self) -> str:
        """Length, width, height, colours and frame rate in words."""
        _, frames, height, width = self.shape
        colours = "grey" if self.channels == 1 else "RGB"
        return f"{frames} frame{'' if frames == 1 else 's'} of {width} x {height} pixels, {colours}, {self.fps:g} fps"

    @property
    def layout(self) -> Layout:
        """Frames, rows and columns, and colours of RGB videos."""
        return Layout(colours=self.channels == 3, space=(3, 4), time=2, rate=self.fps)

    def to_signal(self, stored: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Pixels 0 to 255 as values in [-1, 1], ``x / 127.5 - 1``, float32 on the same device."""
        return stored.float() / 127.5 - 1

    def to_stored(self, signal: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """Inverse of :meth:`to_signal`: rounded to the nearest pixel value and clamped to 0 to 255.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if signal.isnan().any():
            bad = int(signal.isnan().sum())
            raise ValueError(f"{bad} of {signal.numel()} pixel values are not numbers; the model is broken")
        return ((signal.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    @classmethod
    def fitted(cls, options: VideoOptions, shape: tuple[int, ...]) -> VideoModality:
        """The modality of clips ``[c, frames, h, w]`` at the frame rate of the options."""
        channels, frames, height, width = shape
        size = height if height == width else (height, width)
        return cls(size=size, channels=channels, frames=frames, fps=options.rate)

    @classmethod
    def item_shape(cls, options: VideoOptions) -> tuple[int, int, int, int]:
        """RGB, 16 frames, and squares of 32 pixels, where the options do not say otherwise."""
        side = options.size or SIZE
        return options.channels or 3, options.length, side, side

    def as_options(self) -> VideoOptions:
        """Size, colours, length and frame rate; of frames that are not square the source has to have the size."""
        _, frames, height, width = self.shape
        size = height if height == width else None
        return VideoOptions(size=size, channels=self.channels, frames=frames, fps=self.fps)

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """The length, and the size of a square."""
        return f"--data.frames {shape[1]} --data.size {shape[2]}"

    @classmethod
    def read(cls, path: Path, options: VideoOptions) -> Decoded:
        """Read the first clip of a video file.

        Raises:
            UnusableFileError: If there is none, with the reason.
        """
        from unistep.modalities.video_windows import read_clip

        pixels, notes = read_clip(path, options)
        return Decoded(values=pixels, notes=notes)

    @classmethod
    def count_windows(cls, path: Path, options: VideoOptions) -> int:
        """How many clips a video has by its header."""
        from unistep.modalities.video_windows import count_windows

        return count_windows(path, options)

    @classmethod
    def read_windows(cls, path: Path, options: VideoOptions) -> Recording:
        """Read the clips of a video; see :func:`unistep.modalities.video_windows.read_windows`."""
        from unistep.modalities.video_windows import read_windows

        return read_windows(path, options)

    @classmethod
    def of_tensors(cls, shape: tuple[int, ...], dtype: torch.dtype) -> VideoModality | None:
        """Bytes ``[c, frames, h, w]`` with one channel or three are clips."""
        if dtype != torch.uint8 or len(shape) != 4 or shape[0] not in (1, 3):
            return None
        return cls(size=(shape[2], shape[3]), channels=shape[0], frames=shape[1])

    @property
    def meaning(self) -> tuple[str, float]:
        """How many frames there are in a second."""
        return "fps", self.fps

    def load(
        self, path: str | Path, *, start: float = 0.0, fit: Fit = "crop", background: str = "white"
    ) -> Float[Tensor, "c f h w"]:
        """Read one clip of a video file and bring it to :attr:`shape` and :attr:`fps`.

        Args:
            path: The file, in any format that training data may have; or a picture, which stands still.
            start: When the clip begins, in seconds; of a long file only what is near is decoded.
            fit: Rule for frames of another shape.
            background: Colour around padded frames.

        Returns:
            Tensor of shape ``[c, frames, h, w]`` in [-1, 1].

        Raises:
            ValueError: If the file is not a video, with the reason.
        """
        from unistep.modalities.image import ImageModality
        from unistep.modalities.image_reading import SUFFIXES as PICTURES
        from unistep.modalities.video_windows import read_clip

        if Path(path).suffix.lower() in PICTURES - SUFFIXES:
            still = ImageModality(size=self.size, channels=self.channels)
            return still.load(path, fit=fit, background=background)[:, None].repeat(1, self.frames, 1, 1)
        channels, _, height, width = self.shape
        size = FrameSize(height=height, width=width, channels=channels, fit=fit, background=background)
        try:
            pixels, _ = read_clip(Path(path), self.as_options(), start=start, size=size)
        except UnusableVideoError as error:
            raise ValueError(f"cannot read the video {path}: {error}") from error
        return self.to_signal(torch.from_numpy(pixels))

    def load_end(self, path: str | Path) -> Float[Tensor, "c f h w"]:
        """The last frames of a video file; of a picture, or a shorter video, what :meth:`load` gives.

        Raises:
            ValueError: If the file is not a video, with the reason.
        """
        from unistep.modalities.image_reading import SUFFIXES as PICTURES
        from unistep.modalities.video_windows import duration

        if Path(path).suffix.lower() in PICTURES - SUFFIXES:
            return self.load(path)
        try:
            seconds = duration(Path(path))
        except UnusableVideoError as error:
            raise ValueError(f"cannot read the video {path}: {error}") from error
        return self.load(path, start=max(0.0, seconds - self.frames / self.fps))

    def moments_in(self, path: str | Path) -> int | None:
        """Frames that a video has at :attr:`fps`; ``None`` for a picture, which stands still."""
        from unistep.modalities.video_windows import frame_count

        return frame_count(Path(path), self.as_options())

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write clips; what is written depends on how ``path`` ends.

        ``.mp4`` (H.264), ``.webm`` (VP9), ``.mkv`` (FFV1, lossless) and ``.gif`` give one file that moves: a single
        clip as it is, several side by side. ``.png``, ``.jpg`` and ``.webp`` give film strips, as :meth:`grid`.
        ``.npz`` gives ``arr_0``, uint8 ``[n, frames, h, w, c]``, with ``labels`` as ``arr_1`` and ``fps``. A folder,
        which is a path that ends with a slash or has no suffix, gets numbered MP4 files, in place of those of an
        earlier call. Files appear whole or not at all. Only ``.mp4``, ``.webm``, ``.mkv`` and folders need PyAV.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, frames, h, w]`` or ``[c, frames, h, w]``, of any
                length.
            path: Where to.
            labels: Classes, shape ``[n]``, for ``.npz``.

        Raises:
            ValueError: If ``path`` cannot be written.
        """
        from unistep.modalities import video_writing as output

        output.write(self._pixels(x).numpy(), self.fps, path, labels=labels)

    def encode(self, x: Tensor, format: str) -> bytes:
        """Clips as the bytes of one file; several move side by side.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, frames, h, w]`` or ``[c, frames, h, w]``.
            format: ``mp4``, ``webm``, ``mkv``, ``gif``, ``npz``, or ``png``, ``jpg`` and ``webp`` for film strips.

        Raises:
            ValueError: For an unknown format, or if what it needs is not installed.
        """
        from unistep.modalities import video_writing as output
        from unistep.modalities.writing import suffix_of

        suffix = suffix_of(format, output.CLIPS)
        return output.encode(self._pixels(x).numpy(), self.fps, suffix)

    def check_path(self, path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done.

        Raises:
            ValueError: If the folder is missing or cannot be written, the ending is unknown, or what it needs is not
                installed.
        """
        from unistep.modalities import video_writing as output

        output.check(path)

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write ``name.png``, film strips, and ``name.gif``, which moves.

        Raises:
            ValueError: If they cannot be written.
        """
        self.save(x, folder / f"{name}.png")
        self.save(x, folder / f"{name}.gif")

    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Film strips in reading order: up to eight frames of each clip side by side.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, frames, h, w]`` or ``[c, frames, h, w]``.
            columns: Strips in a row; nearly square by default.
            labels: Words under each strip, ``n`` of them.
        """
        from unistep.modalities.contact_sheet import draw_grid

        return draw_grid(self._strips(x), columns=columns, labels=labels)

    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of film strips for each title, such as one, two and four steps.

        Args:
            rows: Title, and values in [-1, 1] or uint8 pixels of shape ``[n, c, frames, h, w]``; rows may differ in
                length.
        """
        from unistep.modalities.contact_sheet import draw_rows

        return draw_rows([(title, self._strips(x)) for title, x in rows])

    def _strips(self, x: Tensor) -> list[Image.Image]:
        from unistep.modalities.video_preview import film_strip

        return [film_strip(clip) for clip in self._pixels(x).numpy()]

    def _pixels(self, x: Tensor) -> UInt8[Tensor, "n c f h w"]:
        """Pixels on the CPU, as a batch, once they are known to be clips."""
        if not isinstance(x, Tensor):
            raise ValueError(f"videos must be a torch tensor, got {type(x).__name__}; torch.from_numpy makes one")
        x = x.detach()
        batch = x[None] if x.ndim == 4 else x
        if batch.ndim != 5 or batch.shape[1] not in (1, 3) or 0 in batch.shape:
            raise ValueError(f"videos must have shape [n, c, frames, h, w] with c 1 or 3, got {list(x.shape)}")
        return (batch if batch.dtype == torch.uint8 else self.to_stored(batch)).cpu()

    def default_codec(self) -> IdentityConfig:
        """A network sees the pixels."""
        return IdentityConfig()

    def feature_map(self) -> InTimeAndSpace:
        """Time is an axis beside rows and columns, so that features tell how things move."""
        return InTimeAndSpace()

    def feature_roles(self) -> FeatureRoles:
        """Random convolutions over space and time select; those of another seed report."""
        return FeatureRoles(selection="random-convolutions:1", reporting=("vicreg", "random-convolutions:2"))

    def random_view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """All frames moved alike by up to an eighth in both directions, with more or less contrast."""
        _, _, height, width = self.shape
        return scaled(shifted(x, (height // 8, width // 8), generator), 3.0, generator)

    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """U-Nets over time and space, from cheap to large, whose space-to-depth also folds time.

        Two levels where all sizes can be halved, else one. All have the gated skip, without which noise must pass
        through layers that normalise.
        """
        from unistep.nets.unet_config import UNetConfig

        sizes = shape[1:]
        folds = [fold for fold in (4, 2, 1) if all(size % (2 * fold) == 0 for size in sizes)]
        folds = [fold for fold in folds if 7 <= min(sizes[1:]) // fold <= 32] or folds[-1:] or [1]
        levels = 2 if all(size % (2 * folds[-1]) == 0 for size in sizes) else 1

        def network(fold: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> UNetConfig:
            return UNetConfig(
                channels=shape[0],
                dims=len(sizes),
                patch=fold,
                widths=widths[-levels:],
                blocks=blocks[-levels:],
                gated_skip=True,
            )

        finest = folds[-1]
        return [
            network(folds[0], (32, 64), (1, 1)),
            *(network(fold, (64, 128), (1, 2)) for fold in folds),
            network(finest, (96, 192), (1, 2)),
        ]
