"""The demo of videos: clips one by one, and a driver that sees what the model makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cli.standins import STEERED, save_world
from unistep.cli.main import main
from unistep.core.action_fields import ActionField
from unistep.demo.moving import draw_clips, drive
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.modalities.video import VideoModality
from unistep.nets.unet import UNetConfig

CAR = ActionField(names=("steer", "gas", "brake"), low=(-1, 0, 0), high=(1, 1, 1))


def save_clips(folder: Path) -> Path:
    """A model of clips of 4 frames of 8 pixels, with random weights."""
    network = UNetConfig(dims=3, patch=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16)
    modality = VideoModality(size=8, channels=1, frames=4, fps=8)
    config = ModelConfig(kind="consistency", network=network, modality=modality).fitted()
    torch.manual_seed(0)
    weights = {name: torch.randn_like(value) * 0.1 for name, value in config.build().net.state_dict().items()}
    save(config, weights, folder, "# clips\n")
    return folder


def test_clips_are_those_of_their_seeds(tmp_path: Path) -> None:
    generator = load(save_clips(tmp_path / "clips"))
    drawn = draw_clips(generator, 3, seed=5)
    assert torch.allclose(drawn.frames, generator.sample(3, seed=5), atol=1e-5)
    assert len(drawn.latencies) == 3
    assert 0 < drawn.latency(0) <= drawn.latency(0.5) <= drawn.latency(1)


def test_the_driver_sees_each_frame_and_decides_the_next(tmp_path: Path) -> None:
    generator = load(save_world(tmp_path / "world"))
    seen: list[np.ndarray] = []

    def driver(frame: np.ndarray) -> tuple[float, ...]:
        seen.append(frame)
        return tuple(float(len(seen) % 2) for _ in STEERED.names)

    driven = drive(generator, driver, 5, seed=2)
    _, frames, height, width = driven.frames.shape[1:]
    assert frames == len(seen) == 5
    assert all(frame.shape == (height, width, driven.frames.shape[1]) and frame.dtype == np.uint8 for frame in seen)
    actions = torch.tensor([[0.0] * STEERED.size, *([float(i % 2)] * STEERED.size for i in range(1, 6))])
    again = torch.stack(list(generator.stream(seed=2, action=actions)))
    assert torch.allclose(driven.frames[0], torch.cat(list(again[1:]), dim=1), atol=1e-5)
    with pytest.raises(ValueError, match=f"takes {STEERED.size} controls, and the driver has 7"):
        drive(generator, lambda frame: (0.0,) * 7, 1)


def test_the_demo_writes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    clips, world = save_clips(tmp_path / "clips"), save_world(tmp_path / "world", CAR)
    monkeypatch.chdir(tmp_path)
    models = ["--clips", str(clips), "--world", str(world)]
    assert main(["demo", "video", *models, "--seconds", "0.4", "-o", "film"]) == 0
    out = capsys.readouterr().out
    assert "in 1 network call" in out
    assert "frames of a drive" in out
    made = VideoModality(size=8, channels=3, frames=3).load("film/drive.mp4")
    assert made.shape[0] == 3
    assert Path("film/clips.mp4").stat().st_size > 100
    assert main(["demo", "video", *models, "--seconds", "0"]) == 2
    assert "--seconds must be above 0, at most 3600, got 0" in capsys.readouterr().err
