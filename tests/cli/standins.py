"""Small untrained models that stand in for the shipped ones, and pictures to train and judge on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from unistep.codecs.next_frame import NextFrameConfig
from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.action_fields import ActionField
from unistep.core.condition import LabelField, TextField
from unistep.data.sources import phrases
from unistep.data.sources.notes import FIELDS
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.hub.save import save
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality
from unistep.nets.unet import UNetConfig

NETWORK = UNetConfig(
    widths=(8, 16), blocks=(1, 1), middle_blocks=1, head_dim=8, embedding_dim=16, channels=1, num_classes=10
)
SOUND_NETWORK: dict[str, Any] = {
    **{"patch": 8, "widths": (8, 16), "blocks": (1, 1), "middle_blocks": 1},
    **{"head_dim": 8, "embedding_dim": 16, "channels": 2},
}
TINY = ["--model.network.widths", "8", "16", "--model.network.blocks", "1", "1", "--model.network.middle-blocks", "1"]
TINY += ["--model.network.head-dim", "8", "--model.network.embedding-dim", "16"]
"""The same network as options of ``unistep train``."""
NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def save_standin(folder: Path, kind: Literal["consistency", "denoiser"]) -> Path:
    """A model of Fashion-MNIST's shape with random weights, those that start at zero included."""
    torch.manual_seed(1)
    config = ModelConfig(
        kind=kind,
        network=NETWORK,
        modality=ImageModality(size=28, channels=1),
        fields={"label": LabelField(size=10, names=NAMES)},
        steps=1 if kind == "consistency" else 18,
        provenance={"recipe": "none: random weights"},
    )
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save(config, net.state_dict(), folder, f"---\nlicense: x\n---\n# {folder.name}\n\nA card of a stand-in.\n")
    return folder


def save_writer(folder: Path) -> Path:
    """A one-step model of images in colour from texts, with random weights."""
    torch.manual_seed(1)
    config = ModelConfig(
        kind="consistency",
        network=replace(NETWORK, channels=3, num_classes=0, tokens={"text": 384}),
        modality=ImageModality(size=16, channels=3),
        fields={"text": TextField(length=16, dim=384)},
        provenance={"recipe": "none: random weights"},
    )
    save(config, config.build().net.state_dict(), folder, "---\nlicense: x\n---\n# writer\n\nA card of a stand-in.\n")
    return folder


def save_pictures(folder: Path, count: int = 24, side: int = 28) -> Path:
    """Grey noise as PNG files, in two classes."""
    random = np.random.default_rng(0)
    for i in range(count):
        place = folder / ("left" if i % 2 else "right")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).save(place / f"{i:03d}.png")
    return folder


def save_instrument(folder: Path, kind: Literal["consistency", "denoiser"] = "consistency") -> Path:
    """A model of quarter-second notes with random weights."""
    torch.manual_seed(1)
    config = ModelConfig(
        kind=kind,
        network=UNetConfig(
            **{**SOUND_NETWORK, "vocabularies": {"instrument": 10, "pitch": 37}, "scalars": {"velocity": 127.0}}
        ),
        modality=AudioModality(sample_rate=8_000, samples=2_000),
        codec=SpectrumConfig(n_fft=64, hop=32),
        fields=dict(FIELDS),
        steps=1 if kind == "consistency" else 18,
        provenance={"recipe": "none: random weights", "data": "notes", "data licence": "MIT (nobody)"},
    )
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save(config, net.state_dict(), folder, f"# {folder.name}\n\nA card of a stand-in.\n")
    return folder


STEERED = ActionField(
    names=("steer", "gas"), low=(-1, 0), high=(1, 1), presets={"left": (-1, 0), "right": (1, 0), "gas": (0, 1)}
)
"""A player's action."""


def save_world(
    folder: Path, spec: ActionField = STEERED, kind: Literal["consistency", "denoiser"] = "consistency"
) -> Path:
    """A model of the next frame of a drive, 16 x 16 pixels and 25 a second, from a player's action; random weights."""
    torch.manual_seed(1)
    config = ModelConfig(
        kind=kind,
        network=UNetConfig(dims=2, patch=4, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16),
        modality=VideoModality(size=16, channels=3, frames=4, fps=25),
        codec=NextFrameConfig(history=2),
        context=Context(frames=2),
        fields={"action": spec},
        provenance={"recipe": "none: random weights", "data": "racing"},
    ).fitted()
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save(config, net.state_dict(), folder, f"# {folder.name}\n\nA card of a stand-in.\n")
    return folder


def save_stream(folder: Path, kind: Literal["consistency", "denoiser"] = "consistency") -> Path:
    """A model of an endless sound, in chunks of 64 ms, with random weights."""
    torch.manual_seed(1)
    context = Context(frames=8)
    config = ModelConfig(
        kind=kind,
        network=UNetConfig(
            dims=1, patch=1, widths=(8, 16), blocks=(1, 1), middle_blocks=1, head_dim=8, embedding_dim=16, channels=64,
            position_sizes=(16,), context=context.frames, vocabularies={"instrument": 6, "pitch": 16},
        ),
        modality=AudioModality(sample_rate=8_000, samples=1_024),
        codec=SpectrumConfig(n_fft=64, hop=32, dims=1, multiple=2, chunk=16),
        context=context,
        fields=dict(phrases.FIELDS),
        steps=1 if kind == "consistency" else 18,
        provenance={"recipe": "none: random weights", "data": "phrases"},
    )  # fmt: skip
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save(config, net.state_dict(), folder, f"# {folder.name}\n\nA card of a stand-in.\n")
    return folder
