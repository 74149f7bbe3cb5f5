"""Sounds: waveforms to spectra with compressed amplitude and back, files to waveforms, and pictures to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Complex, Float, Int16
from torch import Tensor

from unistep.modalities.audio_reading import FULL, Loudness, UnusableSoundError, decode_sound

if TYPE_CHECKING:
    from PIL import Image

    from unistep.nets.config import NetworkConfig

MOST_VALUES = 2**30
"""Most numbers in a spectrum, 4 GiB: more are taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class AudioModality:
    r"""Sounds of one length, mono or stereo, which a network sees as short-time spectra.

    The spectrum of a waveform :math:`x` in frames of :math:`N` samples, :math:`H` apart, under a Hann window :math:`w`
    is :math:`X_{k,m} = \frac{2}{\sum_n w_n} \sum_n w_n x_{mH+n-N/2} e^{-2\pi i k n / N}`, in which a sine of full scale
    has magnitude one. Its amplitude is compressed, its phase kept:

    .. math:: Y_{k,m} = s \, |X_{k,m}|^{a - 1} X_{k,m} e^{-2\pi i k m H / N}

    The last factor tells phases relative to that of a sine of the bin's own frequency, so that they turn slowly from
    frame to frame. Real and imaginary part of each channel become two planes. The spectrum of a real signal is real at
    frequency zero and at half the sampling rate; the latter is stored as the former's imaginary part, so that the
    planes have :math:`N/2` rows and nothing is lost. :meth:`waveform` is the exact inverse, by overlap and add.

    References:
        Pasini, Lattner & Fazekas 2024, "Music2Latent", arXiv 2408.06500, section 3: complex spectra of compressed
        amplitude as what a consistency model generates.
    """

    sample_rate: int = 16_000
    """Samples per second."""
    samples: int = 16_000
    """Length of a sound."""
    channels: int = 1
    """1 for mono, 2 for stereo."""
    n_fft: int = 512
    """Length of a frame, :math:`N`, in samples."""
    hop: int = 256
    """Samples from one frame to the next, :math:`H`."""
    exponent: float = 0.4
    """Compression of the amplitude, :math:`a`; 1 is none."""
    scale: float = 13.0
    """Factor :math:`s`, which brings the standard deviation to what a model expects; a run takes it from its data."""
    dims: Literal[1, 2] = 2
    """What a network sees: 2 is a picture of each plane, frequencies by frames; 1 is a row of frames, in which each
    frequency of each plane is a channel."""
    multiple: int = 16
    """The number of frames is rounded up to a multiple of this, for networks that halve it."""
    chunk: int = 0
    """Frames of a chunk of an endless sound, of which ``samples`` hold two, the last and the next; 0 for sounds by
    themselves. See :mod:`unistep.codecs.overlap`."""

    previews: ClassVar[int] = 9
    """Number of samples that a training run shows."""
    example: ClassVar[str] = "samples.wav"
    """Where samples go when nobody says where."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not 1_000 <= self.sample_rate <= 768_000:
            raise ValueError(f"sample_rate must be from 1000 to 768000 Hz, got {self.sample_rate}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.channels not in (1, 2):
            raise ValueError(f"channels must be 1 (mono) or 2 (stereo), got {self.channels}")
        if self.n_fft < 4 or self.n_fft % 2 or not 1 <= self.hop <= self.n_fft // 2:
            raise ValueError(
                f"n_fft must be even and at least 4, and hop at most half of it, got {self.n_fft} and {self.hop}"
            )
        if not 0 < self.exponent <= 1 or not 0 < self.scale < math.inf:
            raise ValueError(f"exponent must be in (0, 1] and scale positive, got {self.exponent} and {self.scale}")
        if self.dims not in (1, 2):
            raise ValueError(f"dims must be 1 (frequencies are channels) or 2 (they are places), got {self.dims}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {self.multiple}")
        values = math.prod(self.shape)
        if max(values, self.samples) > MOST_VALUES:
            raise ValueError(
                f"a spectrum must have at most {MOST_VALUES:,} values, got {values:,}: samples {self.samples}, n_fft "
                f"{self.n_fft}, hop {self.hop}, multiple {self.multiple}, chunk {self.chunk}"
            )
        if self.chunk and (self.samples != 2 * self.chunk * self.hop or self.chunk % self.period):
            raise ValueError(
                f"chunk must be 0 or a multiple of {self.period} frames of which the samples hold two, "
                f"{2 * self.chunk * self.hop}, got {self.chunk} and {self.samples}"
            )

    @property
    def period(self) -> int:
        """Frames after which the phases that others are told relative to come back."""
        return self.n_fft // math.gcd(self.n_fft, self.hop)

    @property
    def frames(self) -> int:
        """Number of frames that cover a sound, or of a chunk of one that is endless."""
        return self.chunk or -(-(1 + -(-self.samples // self.hop)) // self.multiple) * self.multiple

    @property
    def shape(self) -> tuple[int, ...]:
        """What a network sees of a sound: planes (two for each channel), frequencies and frames."""
        planes, frequencies = 2 * self.channels, self.n_fft // 2
        return (planes, frequencies, self.frames) if self.dims == 2 else (planes * frequencies, self.frames)

    @property
    def signal_shape(self) -> tuple[int, int]:
        """What a person gets: channels and samples; of an endless sound, its beginning of two chunks."""
        return self.channels, self.samples

    @property
    def seconds(self) -> float:
        """Length of a sound."""
        return self.samples / self.sample_rate

    def to_tensor(self, stored: Int16[Tensor, "b c n"]) -> Float[Tensor, "b *shape"]:
        """16-bit samples as spectra, float32 on the same device; of two chunks the second."""
        if self.chunk:
            return self.split(stored)[1]
        return self.spectrum(stored.float() / FULL)

    def split(self, stored: Int16[Tensor, "b c n"]) -> tuple[Float[Tensor, "b *past"], Float[Tensor, "b *shape"]]:
        """Two chunks in 16-bit samples as the spectra of what came before and of the chunk that goes on from there.

        Returns:
            The whole frames before the second chunk, of which the very first would begin before the sound, and that
            chunk.

        Raises:
            ValueError: If the modality has no chunks.
        """
        from unistep.codecs.overlap import split

        return split(self, stored)

    def to_signal(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c n"]:
        """Spectra as a network makes them as waveforms in [-1, 1].

        Raises:
            ValueError: If they are chunks of an endless sound, which are heard one after the other.
        """
        return self.waveform(x).clamp(-1, 1)

    def spectrum(self, waveform: Float[Tensor, "b c n"]) -> Float[Tensor, "b *shape"]:
        """Waveforms of :attr:`signal_shape` as planes of :attr:`shape`, differentiable.

        Raises:
            ValueError: If the waveforms have another shape, or belong to an endless sound.
        """
        self._check_whole()
        if tuple(waveform.shape[1:]) != self.signal_shape:
            raise ValueError(f"waveforms must have shape [b, {self.channels}, {self.samples}], got {[*waveform.shape]}")
        padded = torch.nn.functional.pad(waveform.flatten(0, 1), (0, (self.frames - 1) * self.hop - self.samples))
        window = self.window(waveform)
        spectrum = torch.stft(
            padded, self.n_fft, self.hop, window=window, center=True, pad_mode="constant", return_complex=True
        )
        return self.compress(spectrum).reshape(len(waveform), *self.shape)

    def compress(self, spectrum: Complex[Tensor, "n f m"], first: int = 0) -> Float[Tensor, "n 2 half m"]:
        """Short-time spectra as planes.

        Args:
            spectrum: Fourier transforms of windowed frames, one channel each, with :math:`N/2 + 1` frequencies.
            first: Number of the first frame, from which the phases count.
        """
        planes = torch.view_as_real(spectrum).permute(0, 3, 1, 2).contiguous() * (2 / self.window(spectrum.real).sum())
        # Half the sampling rate, which is real, goes where frequency zero has no imaginary part.
        edge = torch.stack([planes[:, 0, 0], planes[:, 0, -1]], dim=1)[:, :, None]
        body = planes[:, :, 1:-1]
        edge = edge * _power(edge.square(), self.exponent - 1)
        body = body * _power(_square(body), self.exponent - 1)
        return self.scale * torch.cat([edge, self._turn(body, -1, first)], dim=2)

    def waveform(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c n"]:
        """Inverse of :meth:`spectrum`; planes that are no spectrum of any sound give the nearest one's sound.

        Raises:
            ValueError: If the planes have another shape, or belong to an endless sound.
        """
        self._check_whole()
        if tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"spectra must have shape [b, {wanted}], got {[*x.shape]}")
        spectrum, window = self.expand(x), self.window(x)
        sound = torch.istft(spectrum, self.n_fft, self.hop, window=window, center=True, length=self.samples)
        return sound.reshape(len(x), *self.signal_shape)

    def expand(self, x: Float[Tensor, "b *shape"]) -> Complex[Tensor, "n f m"]:
        """Inverse of :meth:`compress`, for spectra of :attr:`shape` with any number of frames."""
        planes = x.reshape(-1, 2, self.n_fft // 2, x.shape[-1]) / self.scale
        edge, body = planes[:, :, :1], self._turn(planes[:, :, 1:], 1)
        edge = edge * _power(edge.square(), 1 / self.exponent - 1)
        body = body * _power(_square(body), 1 / self.exponent - 1)
        first, last = (torch.cat([part, torch.zeros_like(part)], dim=1) for part in edge.split(1, dim=1))
        whole = torch.cat([first, body, last], dim=2).permute(0, 2, 3, 1).contiguous()
        return torch.view_as_complex(whole) * (self.window(x).sum() / 2)

    def _turn(self, body: Float[Tensor, "b 2 f m"], way: int, first: int = 0) -> Float[Tensor, "b 2 f m"]:
        """Turn the phases of all frequencies but the first by those of sines of their own, forth (1) or back (-1)."""
        k = torch.arange(1, self.n_fft // 2, device=body.device)[:, None]
        m = torch.arange(first, first + body.shape[-1], device=body.device)
        angle = (k * m * self.hop % self.n_fft).to(body) * (way * 2 * math.pi / self.n_fft)
        cos, sin = angle.cos(), angle.sin()
        real, imaginary = body[:, 0], body[:, 1]
        return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=1)

    def _check_whole(self) -> None:
        if self.chunk:
            raise ValueError("an endless sound goes to spectra and back by chunks; use unistep.codecs.overlap")

    def window(self, like: Tensor) -> Float[Tensor, " n_fft"]:
        """What each frame is weighted with, of the type and on the device of ``like``."""
        return torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device)

    def load(self, path: str | Path, *, loudness: Loudness = "peak") -> Float[Tensor, "c n"]:
        """Read a sound file and bring it to :attr:`signal_shape`, by the rules of
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

    @staticmethod
    def check_path(path: str | Path) -> None:
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

    @classmethod
    def usual(cls) -> AudioModality:
        """Sounds of a usual shape, for a configuration whose data is not known yet."""
        return cls(sample_rate=16_000, samples=16_000, dims=1)

    def default_networks(self) -> tuple[NetworkConfig, ...]:
        """U-Nets over time, in which each frequency is two channels: 3.3 and 10.7 million parameters at one second."""
        from unistep.nets.unet import UNetConfig

        small = UNetConfig(
            channels=512,
            dims=1,
            patch=1,
            widths=(192, 192),
            blocks=(1, 1),
            embedding_dim=256,
            position_sizes=(self.frames,),
            gated_skip=True,
        )
        return small, replace(small, widths=(256, 256), embedding_dim=512, basis_functions=2048)

    @classmethod
    def tuning(cls, objective: str) -> dict[str, Any]:
        """More weight at high noise, where most of a sound is decided, smaller batches and lower rates."""
        from unistep.core.timesteps import LogNormal, RatioCurriculum

        if objective == "denoising":
            return {"objective": {"times": LogNormal(mean=0.5, std=2.0)}, "batch_size": 32}
        if objective == "ect":
            # Few and wide gaps: the errors of many narrow ones add up, and the weight 1/(t - r) forgets what the
            # teacher knows at high noise.
            few = {
                "curriculum": RatioCurriculum(q=2.0, stages=2),
                "weighting": "one",
                "target": "data",
                "guidance": 1.0,
            }
            return {
                "objective": {"times": LogNormal(mean=1.0, std=2.0), **few},
                "optimizer": {"lr": 3e-4, "adam_lr": 1e-4},
                "schedule": {"decay": 0.5},
                "batch_size": 32,
            }
        return {}

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


def _square(planes: Tensor) -> Tensor:
    """Squared magnitude of real and imaginary planes, ``[b, 1, ...]``."""
    return planes[:, :1].square() + planes[:, 1:].square()


def _power(square: Tensor, exponent: float) -> Tensor:
    """Power of what ``square`` is the square of, finite at zero in value and derivative."""
    return square.clamp_min(1e-24) ** (exponent / 2)
