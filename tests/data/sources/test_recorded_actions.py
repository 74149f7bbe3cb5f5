"""Recorded play: tables beside videos become an action for each frame."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from unistep.data import data_config, prepare
from unistep.data.sources.recorded_actions import infer_field, resampled

pytest.importorskip("av", reason="needs PyAV")

from video_files import counting, number_of, write_video


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))


def recorded(folder: Path, name: str = "race", frames: int = 20, header: str = "steer,gas", fps: int = 25) -> Path:
    """A video whose frame ``j`` came about under the action ``(j / 10 - 1, j % 2)``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / f"{name}.mp4", counting(frames), fps=fps)
    rows = "".join(f"{j / 10 - 1:.1f},{j % 2}\n" for j in range(frames))
    (folder / f"{name}.csv").write_text(f"{header}\n{rows}")
    return folder


def prepared(folder: Path, **options: object):
    return prepare(
        data_config(f"folder:{folder}", modality="video", **{"frames": 4, "fps": 25, "size": 16, **options}),
        progress=False,
    )


def test_each_window_has_the_actions_of_its_frames(tmp_path: Path) -> None:
    data = prepared(recorded(tmp_path / "play"), stride=1)
    assert len(data) == 17
    field = data.fields["action"]
    assert (field.names, field.low, field.high) == (("steer", "gas"), (-1.0, 0.0), (0.9, 1.0))
    # Windows begin where the grid has them, also in training: an action belongs to its frame.
    _, condition = data.batch([0, 5, 16], seeds=[7, 8, 9])
    for row, start in enumerate((0, 5, 16)):
        wanted = [[round(j / 10 - 1, 1), j % 2] for j in range(start, start + 4)]
        assert np.allclose(condition["action"].tensors["vector"][row], wanted)
    assert data.fields["action"].presets == {"steer": (0.9, 0.0), "steer-back": (-1.0, 0.0), "gas": (0.0, 1.0)}


def test_a_lower_rate_has_the_mean_of_the_actions_since_the_frame_before(tmp_path: Path) -> None:
    data = prepared(recorded(tmp_path / "play", fps=50), stride=4)
    gas = data.batch([0])[1]["action"].tensors["vector"][0, :, 1]
    assert gas.tolist() == [0.0, 0.5, 0.5, 0.5]
    rows = np.arange(6.0)[:, None]
    assert resampled(rows, np.arange(6)).tolist() == rows.tolist()
    assert resampled(rows, np.array([0, 2, 4]))[:, 0].tolist() == [0.0, 1.5, 3.5]
    assert resampled(rows, np.arange(12) // 2)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert resampled(rows, np.arange(7))[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 5]  # of one row too few


@pytest.mark.parametrize(
    ("frames", "times", "options"),
    [
        (10, None, {"frames": 16}),  # shorter than a clip: its last frame is held, and what was done before is not
        (10, [j / 25 + (0.4 if j > 4 else 0) for j in range(10)], {"frames": 16}),  # a recorder that paused
        (27, [j / 30 for j in range(27)], {"frames": 8, "stride": 1, "fps": 25}),
        (9, [j / 10 for j in range(9)], {"frames": 20, "stride": 1, "fps": 25}),
    ],
)
def test_an_action_stays_with_its_frame(
    frames: int, times: list[float] | None, options: dict[str, int], tmp_path: Path
) -> None:
    """Whatever times frames have: each frame that is shown has the actions since the one before, its own the last."""
    moments = None if times is None else [Fraction(time).limit_denominator(90_000) for time in times]
    (tmp_path / "play").mkdir()
    write_video(tmp_path / "play" / "race.mp4", counting(frames), times=moments)
    (tmp_path / "play" / "race.csv").write_text("count\n" + "".join(f"{j}\n" for j in range(frames)))
    data = prepared(tmp_path / "play", **options)
    clips, condition = data.batch(range(len(data)))
    seen = 0
    for clip, rows in zip(clips, condition["action"].tensors["vector"][..., 0].tolist(), strict=True):
        numbers = [number_of(frame.numpy()) for frame in clip.unbind(1)]
        for before, number, done in zip(numbers, numbers[1:], rows[1:], strict=False):
            since = range(min(before + 1, number), number + 1)
            assert done == pytest.approx(sum(since) / len(since)), (numbers, rows)
            seen += number > before
    assert seen > 4


def test_the_only_video_of_a_folder_may_have_actions_csv(tmp_path: Path) -> None:
    for number in range(2):
        folder = recorded(tmp_path / "play" / str(number))
        (folder / "race.csv").rename(folder / "actions.csv")
    data = prepared(tmp_path / "play")
    assert set(data.fields) == {"label", "action"}
    assert not any(skipped.name.endswith(".csv") for skipped in data.summary.skipped)


@pytest.mark.parametrize(
    ("table", "video"), [("race.CSV", "race.mp4"), ("race.csv", "race.MP4"), ("actions.CSV", "race.mp4")]
)
def test_endings_in_capitals_are_endings(tmp_path: Path, table: str, video: str) -> None:
    folder = recorded(tmp_path / "play")
    (folder / "race.csv").rename(folder / table)
    (folder / "race.mp4").rename(folder / video)
    assert set(prepared(folder).fields) == {"action"}


def test_words_become_controls(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "play", frames=8)
    (folder / "race.csv").write_text("action,frames\nleft+gas,3\nnone,2\nright,3\n")
    data = prepared(folder, stride=1)
    assert data.fields["action"].names == ("gas", "left", "right")
    assert data.batch([0, 4])[1]["action"].tensors["vector"].tolist() == [
        [[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]],
    ]


def test_a_changed_table_is_other_data(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "play")
    before = prepared(folder).fingerprint
    table = folder / "race.csv"
    table.write_text(table.read_text().replace("0.5,1", "0.5,0"))
    assert prepared(folder).fingerprint != before


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "play")
    write_video(folder / "other.mp4", counting(8))
    with pytest.raises(ValueError, match=r"other.mp4 has no table of actions, and race.mp4 has one; add other.csv"):
        prepared(folder)
    (folder / "other.csv").write_text("steer\n" + "0\n" * 8)
    with pytest.raises(ValueError, match=r"has the columns steer, gas, and .*other.csv steer"):
        prepared(folder)
    (folder / "other.csv").write_text("steer,gas\n" + "0,0\n" * 5)
    data = prepare(data_config(f"folder:{folder}", modality="video", frames=4, max_bad=0.6), progress=False)
    assert [(skipped.name, skipped.reason) for skipped in data.summary.skipped] == [
        ("other.mp4", "has 8 frames, and other.csv 5 rows; expected one row for each frame")
    ]
    (folder / "other.csv").write_text("steer,gas\n" + "0,much\n" * 8)
    with pytest.raises(ValueError, match=r"gas must be a number in each row, got 'much'"):
        prepared(folder)
    (folder / "other.csv").write_text("")
    with pytest.raises(ValueError, match=r"other\.csv is empty; expected a header"):
        prepared(folder)


def test_clips_with_actions_are_not_mirrored(tmp_path: Path) -> None:
    """Left would lead to the right."""
    config = replace(data_config(f"folder:{recorded(tmp_path / 'play')}", modality="video"), augment=("flip",))
    with pytest.raises(ValueError, match=r"have the condition 'action' cannot be augmented"):
        prepare(config, progress=False)


def test_a_control_that_is_never_used_has_a_range(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("turn,jump\n-1,0\n1,0\n")
    field = infer_field([tmp_path / "a.csv"])
    assert (field.low, field.high) == ((-1.0, 0.0), (1.0, 1.0))


def test_columns_may_have_any_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Steering Angle (deg),2nd,none,steer,Steer\n-1,1,1,1,1\n")
    field = infer_field([tmp_path / "a.csv"])
    assert field.names == ("Steering Angle (deg)", "2nd", "none", "steer", "Steer")
    known = ("steering-angle-deg", "steering-angle-deg-back", "control-2nd", "control-none", "steer", "steer-")
    assert tuple(field.presets) == known
    assert field.action("action", "steering-angle-deg-back+steer-").tolist() == [-1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("gas\n0\ninf\n", r"b.csv: gas must be a number in each row, got 'inf'"),
        ("gas\n0\nnan\n", r"b.csv: gas must be a number in each row, got 'nan'"),
        ("action\n0\n3\n", r"b.csv: action must be a word such as left, .*, got '0'; for numbers name a column"),
        ("action\nleft+go faster\n", r"b.csv: action must be a word .*, got 'go faster'"),
    ],
)
def test_values_that_cannot_be_are_named_with_their_file(table: str, message: str, tmp_path: Path) -> None:
    good = "left\n" if table.startswith("action") else "1\n"
    (tmp_path / "a.csv").write_text(table.split("\n")[0] + "\n" + good)
    (tmp_path / "b.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        infer_field([tmp_path / "a.csv", tmp_path / "b.csv"])
