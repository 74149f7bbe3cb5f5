"""Arrays of one's own from the command line: trained on, sampled, edited, and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unistep.cli.main import main
from unistep.data import DataConfig, prepare
from unistep.recipes import recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of curves of two channels."""
    folder, random = tmp_path_factory.mktemp("arrays") / "data", np.random.default_rng(0)
    for name, sign in (("up", 1), ("down", -1)):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            ramp = sign * np.linspace(0, random.uniform(1, 3), 16)
            np.save(folder / name / f"{number}.npy", np.stack([ramp, ramp**2]))
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A denoiser that has learned nothing yet."""
    folder = data.parent / "run"
    words = f"train denoising --data folder:{data} --max-steps 1 --batch-size 4 --out {folder} --device cpu"
    assert main([*words.split(), "--start-report", "0"]) == 0
    return folder


def test_their_shape_is_that_of_the_files(data: Path, tmp_path: Path) -> None:
    assert recipe("ect", DataConfig(source=f"folder:{data}")).model.modality.noun == "tensor"
    found = prepare(DataConfig(source=f"folder:{data}"), progress=False)
    assert (found.modality.shape, len(found)) == ((2, 16), 16)
    for name, shape, expected in (("arrays", (3, 4), (3, 4)), ("vectors", (7,), (1, 7))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "one.npy", np.zeros(shape))
        assert prepare(DataConfig(source=f"folder:{tmp_path / name}"), progress=False).modality.shape == expected


def test_samples_and_edits_are_read_again(run: Path, data: Path, tmp_path: Path) -> None:
    out, mask = tmp_path / "out.npy", np.zeros((2, 16), bool)
    mask[0, 4:8] = True
    np.save(tmp_path / "mask.npy", mask)
    assert main(f"sample {run} -n 1 --label up --steps 1 -o {out}".split()) == 0
    assert np.load(out).shape == (1, 2, 16)
    words = f"edit inpaint {run} {out} --steps 1 --mask {tmp_path / 'mask.npy'} -o {tmp_path / 'edited.npy'}"
    assert main(words.split()) == 0
    edited = np.load(tmp_path / "edited.npy")
    assert edited.shape == (2, 16)
    assert np.abs(edited - np.load(out)[0])[~mask].max() < 1e-5
    assert main(f"sample {run} -n 2 --steps 1 -o {tmp_path / 'many'}".split()) == 0
    assert main(f"edit vary {run} {tmp_path / 'many'} --steps 1 -o {tmp_path / 'others'}".split()) == 0
    assert [np.load(path).shape for path in (tmp_path / "others").glob("*.npy")] == [(2, 16)] * 2


@pytest.mark.parametrize(
    ("mask", "part"),
    [
        ("left", "these signals have no places such as 'left'"),
        ("1:2", "do not last in time, so that there is no '1:2'\n"),
        ("small.npy", "has shape [1, 16], not [2, 16]"),
    ],
)
def test_masks_that_they_have_not_are_one_line(
    mask: str, part: str, run: Path, data: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("small.npy", np.ones((1, 16)))
    assert main(f"edit inpaint {run} {data / 'up' / '0.npy'} --mask {mask} -o out.npy".split()) == 2
    assert part in capsys.readouterr().err
    assert not Path("out.npy").exists()
