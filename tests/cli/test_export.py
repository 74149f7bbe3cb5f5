"""``unistep export``: what it prints, and mistakes in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.standins import save_writer
from unistep.cli.export import license_in
from unistep.hub.onnx import Exported


def test_a_model_is_written_with_what_was_found(run: Any, place: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    outcome = run("export fashion -o new/fashion.onnx")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    for part in (
        "input   noise",
        "[batch, 1, 28, 28]",
        "output  sample",
        "ms in ONNX Runtime",
        "written to new/fashion",
    ):
        assert part in outcome.out
    assert [path.name for path in Path("new").iterdir()] == ["fashion.onnx"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("fashion -o a.png", "a.png"),
        ("fashion-teacher -o a.onnx", "fashion-teacher needs many network calls for a sample"),
        ("fashion -o a.onnx --num 3", "--num must be 0 or at least 10, got 3"),
        ("fashion -o a.onnx --threads 0", "--threads must be at least 1, got 0"),
        ("fashion notes -o a.onnx", "a file holds one model, got fashion, notes; export them one by one"),
        (
            "fashion --to web -o a --precision int8",
            "browsers are slower with int8 than with fp32; give --precision fp16",
        ),
        ("-o a.onnx", "give a model, such as unistep export fashion"),
        ("fashoin -o a.onnx", "there is no model 'fashoin'; did you mean 'fashion'?"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words: str, line: str, run: Any, place: Path) -> None:
    outcome = run(f"export {words}")
    assert outcome.code == 2
    assert line in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []


def test_smaller_weights_are_compared_on_the_networks_that_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    from unistep.cli import evaluation_data
    from unistep.cli.export import _compare, _reference
    from unistep.hub import load, onnx

    whole = evaluation_data.data_for
    monkeypatch.setattr(evaluation_data, "data_for", lambda model, source: replace(whole(model, source), limit=40))
    asked: list[tuple[int, int]] = []

    class Noisy(onnx.OnnxSampler):
        """The model's own samples, or those of a file that is much worse."""

        def __init__(self, generator: Any, path: Path | None = None) -> None:
            super().__init__(generator)
            self.name, self.file = generator.name if path is None else path.name, path

        def sample(self, num: int = 1, *, seed: int = 0, batch_size: int = 64, **rest: Any) -> Any:
            x = super().sample(num, seed=seed, batch_size=batch_size, **rest)
            if self.file is None:
                return x
            asked.append((num, seed))
            return x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(onnx, "OnnxSampler", Noisy)
    reference = _reference(load("fashion"))
    assert reference is not None
    _compare(load("fashion"), Path("fashion-int8.onnx"), 20, reference)
    out = capsys.readouterr().out
    assert sum(num for num, _ in asked) >= 20
    for network in ("fashion-vicreg", "random-convolutions:2", "pixels"):
        table = out.partition(network)[2]
        lines = [line for line in table.splitlines() if line.strip().startswith("fashion")][:2]
        ours, own = (float(line.split()[2].partition("±")[0]) for line in lines)
        assert lines[0].split()[0] == "fashion-int8.onnx", table
        assert ours > own > 0, table


def test_a_model_without_its_text_encoder_is_not_left(run: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    save_writer(place / "writer")

    def broken(*rest: Any) -> None:
        raise ValueError("no encoder")

    def written(generator: Any, path: Path, *rest: Any) -> Exported:
        path.write_bytes(b"x")
        return Exported(
            path=path, precision="fp32", inputs={}, outputs={}, difference=0, milliseconds=1, eager_milliseconds=1
        )

    monkeypatch.setattr("unistep.hub.onnx.export_onnx", written)
    monkeypatch.setattr("unistep.hub.onnx_texts.export_text", broken)
    outcome = run("export writer -o a.onnx")
    assert outcome.err == "unistep: error: no encoder\n"
    assert not Path("a.onnx").exists()
    monkeypatch.setattr("unistep.hub.onnx_texts.export_text", lambda program, path, precision: path.write_bytes(b"x"))
    monkeypatch.setattr("unistep.hub.onnx_texts.write_text", broken)
    assert run("export writer -o a.onnx").err == "unistep: error: no encoder\n"
    assert [path.name for path in place.iterdir()] == ["writer"]


def test_data_that_is_not_here_is_missed_before_a_file_is_written(
    run: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("torchmetrics")
    save_writer(place / "writer")
    monkeypatch.setattr("unistep.modalities.image.ImageModality.default_source", None)
    monkeypatch.setattr("unistep.hub.onnx.export_onnx", lambda *rest: pytest.fail("a file is written"))
    outcome = run("export writer -o a.onnx --precision fp16")
    assert outcome.err == "unistep: error: the data of writer is not here to compare with: give --num 0\n"
    assert [path.name for path in place.iterdir()] == ["writer"]


def test_no_other_pictures_stand_in_for_a_folder_that_is_gone(run: Any, place: Path) -> None:
    pytest.importorskip("onnxscript")
    from unistep.hub import load, save

    shipped = load("fashion")
    save(replace(shipped.config, provenance={"data": "folder:gone"}), shipped.map.net.state_dict(), Path("mine"), "#")
    outcome = run("evaluate mine -n 10")
    assert outcome.code == 2
    assert "what mine was trained on, folder:gone, is not here; say with --data where it is now" in outcome.err
    outcome = run("export mine -o mine.onnx --precision fp16")
    assert outcome.err == "unistep: error: the data of mine is not here to compare with: give --num 0\n"
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_a_missing_extra_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unistep.cli.extras.find_spec", lambda name: None if name == "onnx" else object())
    outcome = run("export fashion -o a.onnx")
    assert outcome.err == "unistep: error: unistep export --to onnx needs onnx: pip install 'unistep[onnx]'\n"


def test_without_npm_nothing_is_loaded(run: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("unistep.serving.offline.runtime.shutil.which", lambda name: None)
    outcome = run("export fashion --to web -o page")
    assert outcome.code == 2
    assert "npm is not installed; install Node.js" in outcome.err
    assert list(place.iterdir()) == []


def test_a_folder_that_is_no_page_is_not_measured(run: Any, place: Path) -> None:
    Path("mine").mkdir()
    outcome = run("bench live --page mine")
    assert outcome.code == 2
    assert outcome.err == "unistep: error: mine is no page: unistep export racing notes --to web -o mine\n"


def test_the_licence_is_that_of_the_card(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    assert license_in(card) == ""
    card.write_text("---\nlibrary_name: x\nlicense: mit \n---\n# t\nlicense: other\n")
    assert license_in(card) == "mit"
    card.write_text("# t\n")
    assert license_in(card) == ""
