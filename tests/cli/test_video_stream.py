"""``unistep stream`` on models of video: raw frames to a pipe, files that grow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forks
from cli.standins import save_world
from unistep.hub import load

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is missing: pip install 'unistep[video]'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tmp_path_factory.mktemp("world") / "world")


def first(world: Path, count: int, **given) -> torch.Tensor:
    """The first frames of a stream, as pixels ``[c, frames, h, w]``."""
    g = load(world)
    stream = g.stream(**given)
    return g.modality.to_stored(torch.cat([next(stream) for _ in range(count)], dim=1))


def test_a_gif_is_written_frame_by_frame(run, world):
    outcome = run("stream --seconds 0.2 --seed 3 --action left+gas -o a.gif", [str(world)])
    assert outcome.code == 0, outcome
    assert outcome.out == "written to a.gif\n"
    assert outcome.err.startswith("0.2 s of video, a chunk of 40 ms in ")
    assert "first video after" in outcome.err
    wanted = first(world, 5, seed=3, action="left+gas")
    with Image.open("a.gif") as image:
        assert image.n_frames == 5
        for i in range(5):
            image.seek(i)
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).int()
            assert (pixels - wanted[:, i].int()).abs().max() <= 8  # 256 colours a frame


def test_a_pipe_gets_raw_frames(world):
    process = forks.Command(["stream", str(world), "--seconds", "0.12", "--pace", "fast"])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    wanted = first(world, 3)
    found = torch.frombuffer(bytearray(out), dtype=torch.uint8).view(3, 16, 16, 3).permute(3, 0, 1, 2)
    assert (found.int() - wanted.int()).abs().max() <= 1


@needs_av
def test_an_mp4_of_a_stream_plays(run, world):
    import av

    assert run("stream --seconds 0.2 -o a.mp4", [str(world)]).code == 0
    with av.open("a.mp4") as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_the_names_of_files_are_those_of_videos(run, world, place):
    outcome = run("stream -o a.wav", [str(world)])
    assert outcome.code == 2
    assert "must end with .mp4 or .webm or .gif" in outcome.err
    assert list(place.iterdir()) == []


def frames_of(path: str) -> torch.Tensor:
    """The frames of a GIF, ``[frames, 3, h, w]``."""
    with Image.open(path) as image:
        found = []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            found.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).int())
    return torch.stack(found)


def test_actions_from_a_file_are_the_stream_and_its_end(run, world):
    Path("keys.csv").write_text("action,frames\ngas,3\nleft+gas,1\nnone,2\n")
    outcome = run("stream --actions keys.csv -o a.gif", [str(world)])
    assert outcome.code == 0, outcome
    done = ["gas"] * 3 + ["left+gas"] + ["none"] * 2
    wanted = first(world, 6, action=done).transpose(0, 1)
    other = first(world, 6).transpose(0, 1)
    assert (frames_of("a.gif") - wanted.int()).abs().max() <= 8
    assert not torch.equal(wanted, other)
    assert run("stream --actions keys.csv --seconds 0.08 -o b.gif", [str(world)]).code == 0
    # A file has one palette, of the frames that it begins with.
    assert (frames_of("b.gif") - frames_of("a.gif")[:2]).abs().max() <= 60
    assert (frames_of("b.gif") - frames_of("a.gif")[:2]).float().abs().mean() < 8


def test_a_stream_goes_on_from_a_picture(run, world):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save("a.png")
    assert run("stream --from a.png --seconds 0.12 -o a.gif", [str(world)]).code == 0
    wanted = first(world, 3, past=load(world).modality.load("a.png")).transpose(0, 1)
    assert (frames_of("a.gif") - wanted.int()).abs().max() <= 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--actions keys.csv", "keys.csv, line 3: steer must be a number from -1 to 1, got '2'"),
        ("--actions nowhere.csv", "nowhere.csv: no such file"),
        ("--actions keys.csv --action left", "--action and --actions both say what is done; give one of them"),
        ("--action lefft", "action must be left, right, gas, several joined by +, none, or 2 numbers"),
        ("--from nowhere.png", "nowhere.png"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(run, world, place, options, words):
    Path("keys.csv").write_text("steer,gas\n1,0\n2,0\n")
    outcome = run("stream -o a.gif", options, [str(world)])
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["keys.csv"]
