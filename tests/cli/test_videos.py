"""Videos through the command line: train on clips, look at them, sample to files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unistep.cli.main import main

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'unistep[video]'")

DATA = "--data moving-fashion:test --data.limit 24 --data.size 16 --data.frames 4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps with a small network over time and space."""
    out = tmp_path_factory.mktemp("videos") / "run"
    network = (
        "--model.network.patch 2 --model.network.widths 8 16 --model.network.blocks 1 1 --model.network.head-dim 16"
    )
    words = f"train denoising {DATA} {network} --max-steps 3 --batch-size 4 --precision fp32 --device cpu --out {out}"
    assert main(words.split()) == 0
    return out


def test_a_run_shows_film_strips_and_clips_that_move(run):
    from PIL import Image

    shown = sorted(path.suffix for path in (run / "samples").iterdir())
    assert shown == [".gif", ".png"]
    with Image.open(next((run / "samples").glob("*.gif"))) as image:
        assert image.n_frames == 4
    model = json.loads((run / "config.json").read_text())["model"]
    assert model["modality"] == {"type": "video", "size": 16, "channels": 1, "frames": 4, "fps": 8.0}
    assert model["network"]["dims"] == 3
    assert "MIT (Fashion-MNIST" in (run / "model" / "README.md").read_text()


def test_a_sample_is_an_mp4_that_plays(run, tmp_path, capsys):
    assert main(f"sample {run} -n 1 --steps 2 -o {tmp_path / 'clip.mp4'} --device cpu".split()) == 0
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = list(container.decode(video=0))
        assert [frame.time for frame in frames] == [0, 0.125, 0.25, 0.375]
        assert (frames[0].height, frames[0].width) == (16, 16)
    assert main(f"sample {run} -n 5 --steps 2 -o {tmp_path / 'many.webm'} --device cpu".split()) == 0
    assert main(f"sample {run} -n 5 --steps 2 -o {tmp_path / 'folder'} --device cpu".split()) == 0
    assert len(list((tmp_path / "folder").glob("*.mp4"))) == 5
    capsys.readouterr()
    assert main(f"sample {run} -o {tmp_path / 'clip.mp3'}".split()) == 2
    assert "must end with .mp4, .webm, .gif" in capsys.readouterr().err
    assert main(f"stream {run} -o {tmp_path / 'clip.mp4'}".split()) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_info_says_what_a_clip_is(run, capsys):
    assert main(["info", str(run)]) == 0
    assert "4 frames of 16 x 16 pixels, grey, 8 fps" in capsys.readouterr().out


def test_a_folder_of_videos_trains(tmp_path, capsys):
    from video_files import counting, write_video

    (tmp_path / "mine").mkdir()
    write_video(tmp_path / "mine" / "a.mp4", counting(40))
    (tmp_path / "mine" / "broken.mp4").write_bytes(b"no video at all")
    size = "--data.size 16 --data.frames 4 --data.fps 25 --data.stride 2 --data.max-bad 0.5 --data.augment flip"
    network = (
        "--model.network.patch 2 --model.network.widths 8 16 --model.network.blocks 1 1 --model.network.head-dim 16"
    )
    words = f"train denoising --data folder:{tmp_path / 'mine'} {size} {network} --max-steps 2 --batch-size 4"
    assert main(f"{words} --precision fp32 --device cpu --out {tmp_path / 'run'}".split()) == 0
    shown = capsys.readouterr()
    assert "19 videos of 4 frames of 16 x 16 pixels, RGB, 25 fps" in shown.out + shown.err
    assert "broken.mp4: not a video" in shown.out + shown.err
