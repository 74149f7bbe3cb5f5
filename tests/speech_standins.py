"""Stand-ins for silero-vad and resemblyzer, with their calls: loud is speech, and the spectrum is the voice."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch


class Detector:
    """Of silero-vad: a frame of 512 samples is speech if it is loud."""

    def audio_forward(self, x: torch.Tensor, sr: int) -> torch.Tensor:
        assert sr == 16_000
        frames = torch.nn.functional.pad(x, (0, -x.shape[1] % 512)).unfold(1, 512, 512)
        return (frames.square().mean(dim=2) > 0.01).float() * 0.9


class VoiceEncoder:
    """Of resemblyzer: levels of 256 bands."""

    def __init__(self, device: str | None = None, verbose: bool = True) -> None:
        assert (device, verbose) == ("cpu", False)

    def embed_utterance(self, wav: np.ndarray) -> np.ndarray:
        assert (wav.ndim, wav.dtype) == (1, np.float32)
        levels = np.abs(np.fft.rfft(wav, 16_000))[:7936].reshape(256, -1).sum(axis=1) + 1e-3
        return (levels / np.linalg.norm(levels)).astype(np.float32)


def install_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages, for as long as the test runs."""
    silero, resemblyzer = ModuleType("silero_vad"), ModuleType("resemblyzer")
    silero.load_silero_vad = Detector  # type: ignore[attr-defined]
    resemblyzer.VoiceEncoder = VoiceEncoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "silero_vad", silero)
    monkeypatch.setitem(sys.modules, "resemblyzer", resemblyzer)
