"""Exporting a page: what is in its folder, and what is refused before anything is written."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.standins import save_instrument
from unistep.hub import load
from unistep.serving.offline import runtime
from unistep.serving.offline.page import export_page


def test_the_folder_has_what_the_models_need_and_no_more(page: Any) -> None:
    folder = page.folder
    assert page.pages == ("wall", "walk", "world")
    names = {path.name for path in folder.glob("*.html")}
    assert names == {"index.html", "wall.html", "walk.html", "world.html"}
    listed = (folder / "lib" / "pages.js").read_text()
    assert "brush" not in listed
    assert '["wall", "Wall"]' in listed
    assert all('<script src="isolate.js"></script>' in path.read_text() for path in folder.glob("*.html"))
    assert json.loads((folder / "models" / "models.json").read_text()) == ["0", "1"]
    about = json.loads((folder / "models" / "0" / "model.json").read_text())
    assert about["id"] == "pictures"
    assert about["license"] == "mit"
    assert about["inputs"] == {
        "noise": {"type": "float32", "shape": [3, 8, 8]},
        "label": {"type": "int64", "shape": [], "fill": -1.0},
        "size": {"type": "float32", "shape": [], "fill": None},
    }
    assert about["bytes"] == (folder / "models" / "0" / "model.onnx").stat().st_size
    assert len(about["hash"]) == 64


def test_its_first_result_is_the_sample_of_the_seed(page: Any, models: dict[str, Any]) -> None:
    found = np.fromfile(page.folder / "models" / "0" / "check.bin", dtype=np.float32)
    wanted = models["pictures"].sample(seed=7, steps=1)
    np.testing.assert_allclose(found, wanted.flatten(), atol=1e-4)
    session = models["world"].session(steps=1)
    state, chunks = session.start([7]), []
    for _ in range(3):
        state, chunk = session.step(state)
        chunks.append(chunk.flatten())
    found = np.fromfile(page.folder / "models" / "1" / "check.bin", dtype=np.float32)
    np.testing.assert_allclose(found, np.concatenate(chunks), atol=1e-3)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, models: dict[str, Any]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="has other files; give a new folder"):
        export_page({"pictures": models["pictures"]}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load(save_instrument(tmp_path / "teacher", "denoiser"))
    with pytest.raises(ValueError, match="export a student of it"):
        export_page({"teacher": teacher}, tmp_path / "page")
    with pytest.raises(ValueError, match="there is no page for moving-fashion"):
        export_page({"moving-fashion": load("moving-fashion")}, tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def _npm(code: int, err: str = "", files: tuple[str, ...] = ()) -> Any:
    """A stand-in for npm that writes an archive with these files."""

    def run(words: list[str], *, cwd: Path, **rest: Any) -> subprocess.CompletedProcess[str]:
        del rest
        if files:
            for name in files:
                place = cwd / "package" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(name)
            with tarfile.open(cwd / "a.tgz", "w:gz") as archive:
                for name in files:
                    archive.add(cwd / "package" / name, f"package/{name}")
        return subprocess.CompletedProcess(words, code, "", err)

    return run


def test_npm_is_asked_for_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: name)
    wanted = (*runtime.WASM, *runtime.WEBGPU)
    monkeypatch.setattr(runtime.subprocess, "run", _npm(0, files=(*[f"dist/{name}" for name in wanted], "LICENSE")))
    runtime.fetch_runtime(tmp_path / "ort")
    assert {path.name for path in (tmp_path / "ort").iterdir()} == {*wanted, "LICENSE"}
    runtime.fetch_runtime(tmp_path / "less", webgpu=False)
    assert {path.name for path in (tmp_path / "less").iterdir()} == {*runtime.WASM, "LICENSE"}


def test_npm_that_is_missing_or_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"takes onnxruntime-web by npm, and npm is not installed; install Node\.js"):
        runtime.fetch_runtime(tmp_path / "ort")
    monkeypatch.setattr(runtime.shutil, "which", lambda name: name)
    monkeypatch.setattr(runtime.subprocess, "run", _npm(1, "npm error code ENOTFOUND\nnpm error more"))
    with pytest.raises(ValueError, match=r"npm cannot bring onnxruntime-web 1\.30\.0: code ENOTFOUND"):
        runtime.fetch_runtime(tmp_path / "ort")
    monkeypatch.setattr(runtime.subprocess, "run", _npm(0, files=("dist/other.js",)))
    with pytest.raises(ValueError, match=r"has no file package/dist/ort\.wasm\.min\.mjs"):
        runtime.fetch_runtime(tmp_path / "ort")
