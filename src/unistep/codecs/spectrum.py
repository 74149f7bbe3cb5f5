"""Short-time spectra of waveforms, with compressed amplitude: what a network sees of audio."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from unistep.codecs.base import Codec, CodecConfig, UnfitShapeError
from unistep.codecs.moments import standard_deviation
from unistep.codecs.overlap import overlap_add, sum_frames, two_chunks

MOST_VALUES = 2**30
"""Most numbers in a spectrum, 4 GiB: more are taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class SpectrumConfig(CodecConfig):
    """Options of :class:`Spectrum`."""

    papers: ClassVar[tuple[str, ...]] = ("pasini2024music2latent",)

    n_fft: int = 512
    """Length of a frame, :math:`N`, in samples."""
    hop: int = 256
    """Samples from one frame to the next, :math:`H`."""
    exponent: float = 0.4
    """Compression of the amplitude, :math:`a`; 1 is none."""
    scale: float = 13.0
    """Factor :math:`s`, which brings the standard deviation to what a model expects; a run takes it from its data."""
    dims: Literal[1, 2] = 2
    """Spatial dimensions: with 2 each plane is an image of frequencies by frames; with 1 there is a row of frames, in
    which each frequency of each plane is a channel."""
    multiple: int = 16
    """The number of frames is rounded up to a multiple of this, for networks that halve it."""
    chunk: int = 0
    """Frames of a chunk of a stream, of which a signal holds two, the previous and the next; 0 for whole signals. See
    :mod:`unistep.codecs.overlap`."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.n_fft < 4 or self.n_fft % 2 or not 1 <= self.hop <= self.n_fft // 2:
            raise ValueError(
                f"n_fft must be even and at least 4, and hop at most half of it, got {self.n_fft} and {self.hop}"
            )
        if not 0 < self.exponent <= 1 or not 0 < self.scale < math.inf:
            raise ValueError(f"exponent must be in (0, 1] and scale positive, got {self.exponent} and {self.scale}")
        if self.dims not in (1, 2):
            raise ValueError(f"dims must be 1 (frequencies are channels) or 2 (they are an axis), got {self.dims}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {self.multiple}")
        if self.chunk < 0 or self.chunk % self.period:
            raise ValueError(f"chunk must be 0 or a multiple of {self.period} frames, got {self.chunk}")

    @property
    def period(self) -> int:
        """Frames after which the phases that others are relative to come back."""
        return self.n_fft // math.gcd(self.n_fft, self.hop)

    @property
    def past(self) -> int:
        """Whole frames in the first of two chunks."""
        return self.chunk and self.chunk + 1 - -(-self.n_fft // self.hop)

    def frames(self, samples: int) -> int:
        """Number of frames that cover so many samples; with chunks, the frames of one."""
        return self.chunk or -(-(1 + -(-samples // self.hop)) // self.multiple) * self.multiple

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Planes (two for each channel), frequencies and frames; with ``dims`` 1 the former two are one."""
        if len(signal_shape) != 2:
            raise ValueError(f"spectra are of signals [channels, samples], got the shape {[*signal_shape]}")
        channels, samples = signal_shape
        if self.chunk and samples != 2 * self.chunk * self.hop:
            raise ValueError(
                f"chunk must be 0 or a multiple of {self.period} frames of which the samples hold two, "
                f"{2 * self.chunk * self.hop}, got {self.chunk} and {samples}"
            )
        planes, frequencies, frames = 2 * channels, self.n_fft // 2, self.frames(samples)
        if planes * frequencies * frames > MOST_VALUES:
            raise ValueError(
                f"a spectrum must have at most {MOST_VALUES:,} values, got {planes * frequencies * frames:,}: samples "
                f"{samples}, n_fft {self.n_fft}, hop {self.hop}, multiple {self.multiple}, chunk {self.chunk}"
            )
        return (planes, frequencies, frames) if self.dims == 2 else (planes * frequencies, frames)

    def build(self, signal_shape: tuple[int, ...]) -> Spectrum:
        """The codec of waveforms of one shape."""
        return Spectrum(self, signal_shape)

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiples: tuple[int, ...]) -> Self:
        """The codec for a network: its spatial dimensions, and a number of frames that it takes.

        Raises:
            ValueError: If the network takes neither one nor two dimensions, or the frequencies do not fit; an
                :class:`UnfitShapeError` if a signal is not two chunks.
        """
        dims = self.dims if dims is None else dims
        if dims not in (1, 2):
            raise ValueError(f"spectra have 1 or 2 spatial dimensions, and this network takes {dims}")
        multiple = multiples[-1]
        if dims == 2 and self.n_fft // 2 % multiples[0]:
            raise ValueError(f"this network needs half of n_fft to be a multiple of {multiples[0]}, got {self.n_fft}")
        chunk, samples = 0, signal_shape[-1]
        if self.chunk:
            unit = math.lcm(self.period, multiple)
            chunk = max(1, round(samples / (2 * self.hop * unit))) * unit
            if samples != 2 * chunk * self.hop:
                raise UnfitShapeError(
                    f"signals of {samples} samples are not two chunks of whole frames",
                    (*signal_shape[:-1], 2 * chunk * self.hop),
                )
        return replace(self, dims=dims, multiple=multiple, chunk=chunk)

    def calibrated(self, signals: Iterable[Float[Tensor, "b c n"]], sigma_data: float) -> Self:
        """The scale at which spectra of these signals have the standard deviation ``sigma_data``.

        Raises:
            ValueError: If they are silent.
        """
        plain = replace(self, scale=1.0)
        spread = standard_deviation(plain.build(tuple(batch.shape[1:])).encode(batch) for batch in signals)
        if spread == 0:
            which = "the second halves of these signals, which are what to generate," if self.chunk else "these signals"
            raise ValueError(f"{which} are silent, so that there is nothing to learn")
        return replace(self, scale=float(f"{sigma_data / spread:.3g}"))

    def aligned(self, known: CodecConfig) -> Self:
        """The frames and the scale of ``known``."""
        super().aligned(known)
        assert isinstance(known, SpectrumConfig)
        return replace(self, n_fft=known.n_fft, hop=known.hop, exponent=known.exponent, scale=known.scale)


class Spectrum(Codec):
    r"""Waveforms to spectra with compressed amplitude, and back.

    The spectrum of a waveform :math:`x` in frames of :math:`N` samples, :math:`H` apart, under a Hann window :math:`w`
    is :math:`X_{k,m} = \frac{2}{\sum_n w_n} \sum_n w_n x_{mH+n-N/2} e^{-2\pi i k n / N}`, in which a sine of full scale
    has magnitude one. Its amplitude is compressed, its phase kept:

    .. math:: Y_{k,m} = s \, |X_{k,m}|^{a - 1} X_{k,m} e^{-2\pi i k m H / N}

    The last factor makes phases relative to that of a sine of the bin's own frequency, so that they turn slowly from
    frame to frame. Real and imaginary part of each channel become two planes. The spectrum of a real signal is real at
    frequency zero and at half the sampling rate; the latter is stored as the former's imaginary part, so that the
    planes have :math:`N/2` rows and nothing is lost. :meth:`decode` is the exact inverse, by overlap and add.

    References:
        Pasini, Lattner & Fazekas 2024, "Music2Latent", arXiv 2408.06500, section 3: complex spectra of compressed
        amplitude as what a consistency model generates.
    """

    config: SpectrumConfig

    def encode(self, signal: Float[Tensor, "b c n"]) -> Float[Tensor, "b *shape"]:
        """Waveforms as planes, differentiable; of two chunks the second.

        Raises:
            ValueError: If the waveforms have another shape.
        """
        if self.config.chunk:
            return self.split(signal)[1]
        if tuple(signal.shape[1:]) != self.signal_shape:
            channels, samples = self.signal_shape
            raise ValueError(f"waveforms must have shape [b, {channels}, {samples}], got {[*signal.shape]}")
        n_fft, hop = self.config.n_fft, self.config.hop
        padded = torch.nn.functional.pad(signal.flatten(0, 1), (0, (self.shape[-1] - 1) * hop - signal.shape[-1]))
        window = self.window(signal)
        spectrum = torch.stft(padded, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
        return self.compress(spectrum).reshape(len(signal), *self.shape)

    def decode(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c n"]:
        """Inverse of :meth:`encode`, clamped to [-1, 1]; planes that are the spectrum of no waveform give the nearest.

        Raises:
            ValueError: If the planes have another shape, or are chunks of a stream.
        """
        if self.config.chunk:
            raise ValueError("chunks of a stream are decoded in order, by decode_next")
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"spectra must have shape [b, {', '.join(map(str, self.shape))}], got {[*x.shape]}")
        window = self.window(x)
        n_fft, hop, samples = self.config.n_fft, self.config.hop, self.signal_shape[-1]
        if torch.compiler.is_exporting():  # formats of other programs have no such operator
            frames = self.inverse_frames(x) * window
            weight = sum_frames(window.square().expand(1, frames.shape[1], -1), hop)
            summed = sum_frames(frames, hop)[:, n_fft // 2 :] / weight[:, n_fft // 2 :].clamp(min=1e-11)
            waveform = torch.nn.functional.pad(summed, (0, max(0, samples - summed.shape[1])))[:, :samples]
        else:
            waveform = torch.istft(self.expand(x), n_fft, hop, window=window, center=True, length=samples)
        return waveform.reshape(x.shape[0], *self.signal_shape).clamp(-1, 1)

    def split(
        self, signal: Float[Tensor, "b c n"], number: int = -1
    ) -> tuple[Float[Tensor, "b *past"], Float[Tensor, "b *shape"]]:
        """Two chunks as the spectra of the previous and of the next; see :func:`unistep.codecs.overlap.two_chunks`."""
        two = self.config.chunk and number in (1, -1)
        return two_chunks(self, signal) if two else super().split(signal, number)

    def start(self, like: Float[Tensor, "b *shape"]) -> Float[Tensor, "b c tail"]:
        """Silence before the first chunk."""
        return like.new_zeros(like.shape[0], self.signal_shape[0], self.config.n_fft - self.config.hop)

    def decode_next(
        self, x: Float[Tensor, "b *shape"], state: Float[Tensor, "b c tail"]
    ) -> tuple[Float[Tensor, "b c n"], Float[Tensor, "b c tail"]]:
        """The samples that the next chunk completes; see :func:`unistep.codecs.overlap.overlap_add`."""
        return overlap_add(self, x, state)

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
        edge = edge * _power(edge.square(), self.config.exponent - 1)
        body = body * _power(_square(body), self.config.exponent - 1)
        return self.config.scale * torch.cat([edge, self._turn(body, -1, first)], dim=2)

    def expand(self, x: Float[Tensor, "b *shape"]) -> Complex[Tensor, "n f m"]:
        """Inverse of :meth:`compress`, for spectra of :attr:`shape` with any number of frames."""
        return torch.view_as_complex(self._expanded(x).permute(0, 2, 3, 1).contiguous()) * (self.window(x).sum() / 2)

    def inverse_frames(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "n m n_fft"]:
        """The inverse transform of each frame of spectra, in real numbers where the graph of it is exported."""
        if not torch.compiler.is_exporting():
            return torch.fft.irfft(self.expand(x).transpose(1, 2), n=self.config.n_fft)
        n_fft = self.config.n_fft
        k = torch.arange(n_fft // 2 + 1, device=x.device)[:, None]
        angle = (k * torch.arange(n_fft, device=x.device) % n_fft).to(x) * (2 * math.pi / n_fft)
        share = torch.where((k == 0) | (k == n_fft // 2), 1.0, 2.0).to(x) * (self.window(x).sum() / (2 * n_fft))
        real, imaginary = self._expanded(x).transpose(2, 3).unbind(1)
        return real @ (share * angle.cos()) - imaginary @ (share * angle.sin())

    def _expanded(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "n 2 f m"]:
        """Real and imaginary parts with plain amplitudes, at all frequencies."""
        planes = x.reshape(-1, 2, self.config.n_fft // 2, x.shape[-1]) / self.config.scale
        edge, body = planes[:, :, :1], self._turn(planes[:, :, 1:], 1)
        edge = edge * _power(edge.square(), 1 / self.config.exponent - 1)
        body = body * _power(_square(body), 1 / self.config.exponent - 1)
        first, last = (torch.cat([part, torch.zeros_like(part)], dim=1) for part in edge.split(1, dim=1))
        return torch.cat([first, body, last], dim=2)

    def window(self, like: Tensor) -> Float[Tensor, " n_fft"]:
        """What each frame is weighted with, of the type and on the device of ``like``."""
        return torch.hann_window(self.config.n_fft, dtype=like.dtype, device=like.device)

    def _turn(self, body: Float[Tensor, "b 2 f m"], way: int, first: int = 0) -> Float[Tensor, "b 2 f m"]:
        """Turn the phases of all frequencies but the first by those of sines of their own, forth (1) or back (-1)."""
        n_fft, hop = self.config.n_fft, self.config.hop
        k = torch.arange(1, n_fft // 2, device=body.device)[:, None]
        m = torch.arange(first, first + body.shape[-1], device=body.device)
        angle = (k * m * hop % n_fft).to(body) * (way * 2 * math.pi / n_fft)
        cos, sin = angle.cos(), angle.sin()
        real, imaginary = body[:, 0], body[:, 1]
        return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=1)


def _square(planes: Tensor) -> Tensor:
    """Squared magnitude of real and imaginary planes, ``[b, 1, ...]``."""
    return planes[:, :1].square() + planes[:, 1:].square()


def _power(square: Tensor, exponent: float) -> Tensor:
    """Power of what ``square`` is the square of, finite at zero in value and derivative."""
    return square.clamp_min(1e-24) ** (exponent / 2)
