"""A signal that the package has never seen: the plugin of ``examples/plugin``, installed, through the command line."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unistep import registry
from unistep.cli.main import main
from unistep.evaluation.learned_features import VICREG
from unistep.evaluation.vicreg import ViewRecipe

pytestmark = pytest.mark.skipif(
    "sensors" not in {point.name for point in importlib.metadata.entry_points(group=registry.GROUP)},
    reason="the plugin is not installed: pip install --no-deps --no-build-isolation -e examples/plugin",
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of recordings of three sensors, and a file that cannot be used."""
    folder = tmp_path_factory.mktemp("sensors") / "recordings"
    random = np.random.default_rng(0)
    for label, rate in (("idle", 0.05), ("running", 0.4)):
        (folder / label).mkdir(parents=True)
        for i in range(3):
            time = np.arange(160 + 16 * i)[:, None]
            rows = np.sin(rate * time + [0.0, 1.0, 2.0] + i) * 4 + random.normal(size=(len(time), 3)) * 0.1
            text = "\n".join(",".join(f"{value:.4f}" for value in row) for row in rows)
            (folder / label / f"{i}.csv").write_text(f"x,y,z\n{text}\n")
    (folder / "idle" / "short.csv").write_text("x,y,z\n1,2,3\n")
    return folder


@pytest.fixture(scope="module")
def run(recordings: Path) -> Path:
    """A run of two stages, teacher and student, on them."""
    out = recordings.parent / "run"
    options = "--data.columns 3 --data.window 16 --data.full-scale 5 --max-steps 3 --batch-size 8 --precision fp32"
    words = f"train ect --data folder:{recordings} {options} --device cpu --out {out}"
    assert main(words.split()) == 0
    return out


def test_a_run_has_the_shape_and_the_labels_of_the_files(run: Path) -> None:
    from unistep import load

    g = load(run)
    assert g.signal_shape == (3, 16)
    assert g.modality.noun == "window"
    assert g.modality.full_scale == 5.0  # type: ignore[attr-defined]
    assert g.config.fields["label"].names == ("idle", "running")  # type: ignore[union-attr]
    assert json.loads((run / "config.json").read_text())["model"]["modality"]["type"] == "sensors"
    assert list((run / "samples").glob("*.png"))


def test_samples_are_tables_and_are_read_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unistep import load

    assert main(f"sample {run} -n 3 --label running -o {tmp_path / 'out.csv'} --device cpu".split()) == 0
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "window,channel 0,channel 1,channel 2"
    assert len(lines) == 1 + 3 * 16
    g = load(run)
    x = g.sample(3, label="running")
    found = torch.tensor([[float(cell) for cell in line.split(",")[1:]] for line in lines[1:]])
    assert (found.view(3, 16, 3).transpose(1, 2) - x * 5).abs().max() < 1e-3
    assert main(f"sample {run} -o {tmp_path / 'out.cvs'}".split()) == 2
    assert "'out.csv'" in capsys.readouterr().err


def test_it_is_evaluated_on_its_own_features_and_on_learned_ones(
    run: Path, recordings: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VICREG, "recipe", ViewRecipe(channels=(4, 4), dim=8, fewest=4, most=4))
    words = f"evaluate {run} --data folder:{recordings} --num 32 --max-bad 0.5 --steps 1 --device cpu"
    assert main(words.split()) == 0
    shown = capsys.readouterr().out
    for name in ("vicreg v1", "sensor-statistics v1", "random-convolutions:1 v2"):
        assert name in shown
    assert "vicreg: it learned from" in " ".join(shown.split())


def test_info_says_what_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run)]) == 0
    assert "16 rows of 3 channels, full scale 5" in capsys.readouterr().out


def test_a_file_that_cannot_be_used_is_named(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train denoising --data folder:{recordings} --data.columns 2 --out {tmp_path / 'run'}"
    assert main(words.split()) == 2
    assert "row 2 has 3 columns, not 2" in capsys.readouterr().err
