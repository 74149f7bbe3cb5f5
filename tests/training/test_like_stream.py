"""A method that is given the teacher of a stream makes a stream."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.standins import STEERED, save_world
from unistep.hub import load
from unistep.recipes import recipe
from unistep.training.run import train
from unistep.training.stages import like_stream

pytest.importorskip("av", reason="needs PyAV")

from video_files import counting, write_video


def plays(folder: Path) -> str:
    """A recording of play of 30 frames."""
    folder.mkdir()
    write_video(folder / "a.mp4", counting(30))
    (folder / "a.csv").write_text("steer,gas\n-1,0\n" + "1,1\n" * 29)
    return f"folder:{folder}"


def test_codec_context_and_network_are_those_of_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    teacher = str(save_world(tmp_path / "teacher", kind="denoiser"))
    config = recipe("ect", plays(tmp_path / "mine"), teacher=teacher, max_steps=2, batch_size=4, precision="fp32")
    known = load(teacher).config
    streaming = like_stream(config)
    assert (streaming.model.codec, streaming.model.context) == (known.codec, known.context)
    assert like_stream(streaming) == streaming
    assert like_stream(replace(config, teacher=None)).model == config.model
    options = replace(known.modality.as_options(), stride=1)
    config = replace(config, data=replace(config.data, options=options), auto=())
    console = Console(record=True, width=200, file=StringIO())
    assert train(config, tmp_path / "run", device="cpu", console=console)
    said = console.export_text()
    assert f"unistep play {tmp_path / 'run'}" in said
    assert f"unistep evaluate {tmp_path / 'run'} --rollout 300" in said
    made = load(tmp_path / "run")
    assert made.config.context == known.context
    assert made.config.fields["action"].agrees(STEERED)
    assert next(made.stream(action="steer")).shape == (3, 1, 16, 16)
