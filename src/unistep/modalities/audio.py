"""Audio: files to waveforms in [-1, 1] and back, and pictures of them to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int16
from torch import Tensor, nn

from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.modalities.audio_levels import BandLevels
from unistep.modalities.audio_options import AudioOptions, Loudness
from unistep.modalities.audio_reading import FULL, SUFFIXES, UnusableSoundError, decode_sound
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.enough import EnoughItems
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.layout import Layout
from unistep.modalities.recording import Recording
from unistep.modalities.signal_options import SignalOptions
from unistep.modalities.views import scaled, shifted

if TYPE_CHECKING:
    from PIL import Image

    from unistep.modalities.stream_output import StreamOutput
    from unistep.nets.config import NetworkConfig

MOST_SAMPLES = 2**30
"""Longest sound, 18 hours at 16 kHz: more samples are taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class AudioModality(Modality):
    """Sounds of one length, mono or stereo."""

    sample_rate: int = 16_000
    """Samples per second."""
    samples: int = 16_000
    """Length of a sound."""
    channels: int = 1
    """1 for mono, 2 for stereo."""

    noun: ClassVar[str] = "sound"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    options: ClassVar[type[SignalOptions]] = AudioOptions
    media_types: ClassVar[Mapping[str, str]] = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg"}
    previews: ClassVar[int] = 9
    example: ClassVar[str] = "samples.wav"

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not 1_000 <= self.sample_rate <= 768_000:
            raise ValueError(f"sample_rate must be from 1000 to 768000 Hz, got {self.sample_rate}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise ValueError(f"samples must be at least 1 and at most {MOST_SAMPLES:,}, got {self.samples}")
        if self.channels not in (1, 2):
            raise ValueError(f"channels must be 1 (mono) or 2 (stereo), got {self.channels}")

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and samples."""
        return self.channels, self.samples

    @property
    def seconds(self) -> float:
        """Length of a sound."""
        return self.samples / self.sample_rate

    def part(self, shape: tuple[int, ...]) -> AudioModality:
        """Sounds of another length."""
        return replace(self, samples=shape[-1])

    @property
    def described(self) -> str:
        """Length, sampling rate and channels in words."""
        return f"{self.seconds:.4g} s, {self.sample_rate:,} Hz, {'mono' if self.channels == 1 else 'stereo'}"

    @property
    def stream_output(self) -> StreamOutput:
        """16-bit samples for a pipe, or files that grow chunk by chunk."""
        from unistep.modalities.audio_stream import audio_stream

        return audio_stream(self.sample_rate, self.channels)

    @property
    def layout(self) -> Layout:
        """Samples of a waveform."""
        return Layout(time=2, rate=self.sample_rate, waveform=True)

    def to_signal(self, stored: Int16[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """16-bit samples as waveforms in [-1, 1], float32 on the same device."""
        return stored.float() / FULL

    def to_stored(self, signal: Float[Tensor, "*shape"]) -> Int16[Tensor, "*shape"]:
        """Inverse of :meth:`to_signal`: rounded and clamped to 16 bits.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if not signal.isfinite().all():
            bad = int((~signal.isfinite()).sum())
            raise ValueError(f"{bad} of {signal.numel()} samples are not numbers; the model is broken")
        return (signal * FULL).round().clamp(-FULL, FULL - 1).to(torch.int16)

    @classmethod
    def fitted(cls, options: AudioOptions, shape: tuple[int, ...]) -> AudioModality:
        """The modality of sounds ``[c, samples]`` at the rate of the options."""
        channels, samples = shape
        return cls(sample_rate=options.rate, samples=samples, channels=channels)

    @classmethod
    def item_shape(cls, options: AudioOptions) -> tuple[int, int]:
        """Mono, one second at 16 kHz, where the options do not say otherwise."""
        return options.channels or 1, options.samples

    def as_options(self) -> AudioOptions:
        """Rate, length and channels."""
        return AudioOptions(sample_rate=self.sample_rate, seconds=self.seconds, channels=self.channels)

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """The length in seconds."""
        return f"--data.seconds {shape[-1] / self.sample_rate:.10g}"

    @classmethod
    def read(cls, path: Path, options: AudioOptions) -> Decoded:
        """Read a sound file and bring it to :meth:`item_shape`.

        Raises:
            UnusableFileError: If it is none, with the reason.
        """
        sound = decode_sound(
            path,
            sample_rate=options.rate,
            samples=options.samples,
            channels=2 if options.channels == 2 else 1,
            loudness=options.loudness or "peak",
        )
        return Decoded(values=sound.values, notes=sound.notes)

    @classmethod
    def count_windows(cls, path: Path, options: AudioOptions) -> int:
        """How many windows a recording has by its header."""
        from unistep.modalities.audio_windows import count_windows

        return count_windows(path, options)

    @classmethod
    def read_windows(cls, path: Path, options: AudioOptions) -> Recording:
        """Read the whole of a recording; see :func:`unistep.modalities.audio_windows.read_windows`."""
        from unistep.modalities.audio_windows import read_windows

        return read_windows(path, options)

    @property
    def meaning(self) -> tuple[str, int]:
        """How samples are stored, and how many there are in a second."""
        return "<i2", self.sample_rate

    def load(self, path: str | Path, *, loudness: Loudness = "peak") -> Float[Tensor, "c n"]:
        """Read a sound file and bring it to :attr:`shape`, by the rules of
        :func:`unistep.modalities.audio_reading.decode_sound`.

        Args:
            path: The file, in any format that training data may have.
            loudness: ``peak``, or ``keep`` for one that stays as loud as it is.

        Returns:
            Tensor of shape ``[channels, samples]`` in [-1, 1].

        Raises:
            ValueError: If the file is not a sound, with the reason.
        """
        channels = 1 if self.channels == 1 else 2
        try:
            sound = decode_sound(
                Path(path), sample_rate=self.sample_rate, samples=self.samples, channels=channels, loudness=loudness
            )
        except UnusableSoundError as error:
            raise ValueError(f"cannot read the sound {path}: {error}") from error
        return torch.from_numpy(sound.values.copy()).float() / FULL

    def moments_in(self, path: str | Path) -> int:
        """Samples that a sound has at :attr:`sample_rate`, without the silence before it."""
        channels = 1 if self.channels == 1 else 2
        return decode_sound(Path(path), sample_rate=self.sample_rate, samples=self.samples, channels=channels).filled

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write sounds; what is written depends on how ``path`` ends.

        ``.wav``, ``.flac`` and ``.ogg`` give one file: a single sound as it is, several one after the other with a
        quarter of a second between them. ``.png``, ``.jpg`` and ``.webp`` give a picture of each, waveform above
        spectrogram, as :meth:`grid`. ``.npz`` gives ``arr_0``, int16 ``[n, c, samples]``, with ``labels`` as ``arr_1``
        and ``sample_rate``. A folder, which is a path that ends with a slash or has no suffix, gets numbered WAV files,
        in place of those of an earlier call. Files appear whole or not at all.

        Args:
            x: Waveforms in [-1, 1], of shape ``[n, c, samples]`` or ``[c, samples]``, of any length.
            path: Where to.
            labels: Classes, shape ``[n]``, for ``.npz``.

        Raises:
            ValueError: If ``path`` cannot be written.
        """
        from unistep.modalities import audio_writing as sound_output

        sound_output.write(self._waveforms(x).numpy(), self.sample_rate, path, labels=labels)

    def encode(self, x: Tensor, format: str) -> bytes:
        """Sounds as the bytes of one file.

        Args:
            x: Waveforms in [-1, 1], of shape ``[n, c, samples]`` or ``[c, samples]``; several are joined with a quarter
                of a second of silence between them.
            format: ``wav``, ``flac``, ``ogg``, ``npz``, or ``png``, ``jpg`` and ``webp`` for a picture.

        Raises:
            ValueError: For an unknown format, or if what it needs is not installed.
        """
        from unistep.modalities import audio_writing
        from unistep.modalities.writing import suffix_of

        suffix = suffix_of(format, audio_writing.SOUNDS)
        return audio_writing.encode(self._waveforms(x).numpy(), self.sample_rate, suffix)

    def check_path(self, path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done.

        Raises:
            ValueError: If the folder is missing or cannot be written, the ending is unknown, or what it needs is not
                installed.
        """
        from unistep.modalities import audio_writing as sound_output

        sound_output.check(path)

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write ``name.png`` to look at and ``name.wav`` to hear, the latter where soundfile is installed.

        Raises:
            ValueError: If they cannot be written.
        """
        from importlib.util import find_spec

        self.save(x, folder / f"{name}.png")
        if find_spec("soundfile") is not None:
            self.save(x, folder / f"{name}.wav")

    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Pictures of sounds side by side, in reading order: waveform above spectrogram.

        Args:
            x: Waveforms in [-1, 1], of shape ``[n, c, samples]`` or ``[c, samples]``.
            columns: Pictures in a row; nearly square by default.
            labels: Words under each picture, ``n`` of them.
        """
        from unistep.modalities.contact_sheet import draw_grid

        return draw_grid(self._pictures(x), columns=columns, labels=labels)

    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of pictures for each title, such as one, two and four steps.

        Args:
            rows: Title, and waveforms in [-1, 1] of shape ``[n, c, samples]``; rows may differ in length.
        """
        from unistep.modalities.contact_sheet import draw_rows

        return draw_rows([(title, self._pictures(x)) for title, x in rows])

    def _pictures(self, x: Tensor) -> list[Any]:
        from unistep.modalities.audio_preview import draw_sound

        return [draw_sound(sound, self.sample_rate) for sound in self._waveforms(x)]

    def _waveforms(self, x: Tensor) -> Float[Tensor, "n c samples"]:
        """Waveforms on the CPU, as a batch, once they are known to be sounds."""
        if not isinstance(x, Tensor):
            raise ValueError(f"sounds must be a torch tensor, got {type(x).__name__}; torch.from_numpy makes one")
        x = x.detach()
        batch = x[None] if x.ndim == 2 else x
        if batch.ndim != 3 or batch.shape[1] not in (1, 2) or 0 in batch.shape:
            raise ValueError(f"sounds must have shape [n, c, samples] with c 1 or 2, got {list(x.shape)}")
        if not batch.isfinite().all():
            bad = int((~batch.isfinite()).sum())
            raise ValueError(f"{bad} of {batch.numel()} samples are not numbers; the model is broken")
        return batch.float().clamp(-1, 1).cpu()

    def default_codec(self) -> SpectrumConfig:
        """A network sees short-time spectra, each frequency a channel."""
        return SpectrumConfig(dims=1)

    def feature_roles(self) -> FeatureRoles:
        """Levels of bands on fixed directions select."""
        return FeatureRoles(selection="spectrum", reporting=("vicreg", "random-convolutions:2"))

    def feature_map(self) -> nn.Module:
        """Levels of bands half a semitone apart over time."""
        return BandLevels(self.sample_rate)

    def random_view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Earlier or later by up to 30 ms, and louder or softer by up to 6 dB."""
        return scaled(shifted(x, (min(round(0.03 * self.sample_rate), self.samples // 8),), generator), 6.0, generator)

    def enough_items(self, *, from_base: bool) -> EnoughItems:
        """As many as 60 plucked strings of a second took until samples were as loud as they are, a peak of 0.89.

        A denoiser of 7,024 sounds in 18 steps: 0.85. In one step a student of 2,400 sounds: 0.42, of 4,800: 0.56, of
        9,600: 0.82 (``unistep train ect --teacher RUN --batch-size 16 --max-steps 150``, 300 and 600; one core of an
        AMD EPYC; the log of 2026-11-29).
        """
        del from_base
        return EnoughItems(denoiser=7_000, student=10_000)

    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """U-Nets over time, in which each frequency is two channels: 3.3 and 10.7 million parameters at one second."""
        from unistep.nets.unet_config import UNetConfig

        dims = len(shape) - 1
        small = UNetConfig(
            channels=shape[0],
            dims=dims,
            patch=1 if dims == 1 else 2,
            widths=(192, 192),
            blocks=(1, 1),
            embedding_dim=256,
            position_sizes=shape[1:],
            gated_skip=True,
        )
        return small, replace(small, widths=(256, 256), embedding_dim=512, basis_functions=2048)

    @classmethod
    def tuning(cls, objective: str) -> dict[str, Any]:
        """More weight at high noise, where most of a sound is decided, smaller batches and lower rates."""
        if objective == "denoising":
            return {"objective": {"times": LogNormal(mean=0.5, std=2.0)}, "batch_size": 32}
        if objective == "ect":
            # Few and wide gaps: the errors of many narrow ones add up, and the weight 1/(t - r) forgets what the
            # teacher has learned at high noise. The target comes from the teacher's ODE: one from the data is a mean
            # over all sounds that the noisy one may become, and a mean of spectra is soft. As amplitudes are
            # compressed, half of a spectrum is a fifth of a peak.
            few = {
                "curriculum": RatioCurriculum(q=2.0, stages=2),
                "weighting": "one",
                "target": "euler",
                "guidance": 1.0,
            }
            return {
                "objective": {"times": LogNormal(mean=1.0, std=2.0), **few},
                "schedule": {"decay": 0.5, "meant_for": 0},  # larger rates in short runs are known for images alone
                "batch_size": 32,
                "teacher_share": 0.4,
            }
        return {}
