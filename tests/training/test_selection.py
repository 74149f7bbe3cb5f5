"""Selection: the best weights are kept, a run that has turned stops, and a resumed one goes on to the last bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import assert_same, make_data, make_teacher, metrics, run, run_config

from unistep.core.condition import Label, LabelField, TextField, Tokens
from unistep.data import Dataset
from unistep.modalities.image import ImageModality
from unistep.training import stage
from unistep.training.selection import Selection, SelectionConfig


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and a model to begin with."""
    make_data(tmp_path / "data.npz")
    make_teacher(tmp_path / "teacher")
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def given_distances(monkeypatch: pytest.MonkeyPatch, distances: list[float]) -> None:
    """Let the looks of a run see these distances, from its first step on."""
    made = stage._selection

    def selection(resolved: stage.ResolvedRun) -> Selection | None:
        found = made(resolved)
        assert found is not None
        found.distance = lambda: distances[len(found.looks)]
        return found

    monkeypatch.setattr(stage, "_selection", selection)


def test_a_run_that_has_turned_stops_and_keeps_the_best_weights(folder: Path, monkeypatch) -> None:
    selected = SelectionConfig(every=2, samples=16, patience=2, features="pixels")
    config = run_config("denoising", folder, max_steps=20, selection=selected, checkpoint_every="2", keep=9)
    given_distances(monkeypatch, [5.0, 4.0, 3.0, 3.5, 3.2, 1.0])
    done, text = run(config, folder / "run")
    assert done
    assert "step 4: Fréchet distance 3 on pixels v1, the smallest so far" in text
    assert "step 6: Fréchet distance 3.5 on pixels v1, step 4 had 3" in text
    assert "stopping early: no smaller distance since step 4, whose weights are kept" in text
    assert "done: 8 steps" in text
    then = load_file(folder / "run" / "checkpoints" / "00000004" / "power-0.1.safetensors")
    last = load_file(folder / "run" / "checkpoints" / "00000008" / "power-0.1.safetensors")
    model = list(load_file(folder / "run" / "model" / "model.safetensors").values())
    assert all(any(torch.equal(value, other) for other in model) for value in then.values())
    assert not all(torch.equal(value, last[name]) for name, value in then.items())
    # Taken up again it is over, and its model is the same.
    done, text = run(config, folder / "run", resume=True)
    assert done
    assert "done: 8 steps" in text


def test_a_stopped_run_goes_on_with_what_it_has_seen(folder: Path) -> None:
    selected = SelectionConfig(every=1, samples=16, patience=0)
    config = run_config("fd", folder, max_steps=4, selection=selected, checkpoint_every="2")
    assert run(config, folder / "whole")[0]
    shutil.copytree(folder / "whole", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "00000004")
    done, text = run(config, folder / "stopped", resume=True)
    assert done
    assert "going on after step 2" in text
    assert "on random-convolutions:1 v2" in text
    assert_same(folder / "whole", folder / "stopped")
    files = [path.name for path in (folder / "whole" / "checkpoints" / "00000004").iterdir()]
    assert {"selected.safetensors", "buffers.safetensors"} <= set(files)
    assert "selection/frechet" in metrics(folder / "whole")[-1]


def test_two_looks_are_compared_by_their_distance() -> None:
    selection = Selection(SelectionConfig(every=5, patience=1), lambda: 0.0, "pixels")
    assert selection.best is None
    assert not selection.turned
    assert [step for step in range(12) if selection.due(step)] == [0, 5, 10]
    for step, distance in ((0, 2.0), (5, 1.0)):
        selection.look(step, distance, [torch.full((2,), distance)])
        assert not selection.turned
    selection.look(10, 1.0, [torch.full((2,), 9.0)])
    assert selection.turned
    assert selection.best == (5, 1.0)
    assert torch.equal(selection.weights["0"], torch.ones(2))
    again = Selection(selection.config, selection.distance, "pixels")
    again.restore(selection.state(), selection.weights)
    assert again.looks == selection.looks
    assert not again.due(10)


@pytest.mark.parametrize("options", [{"every": -1}, {"patience": -1}, {"samples": 1}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"got.* {next(iter(options.values()))}"):
        SelectionConfig(**options)


def test_samples_have_the_texts_of_items_spread_over_the_data() -> None:
    vectors = torch.arange(12.0)[:, None, None].expand(12, 1, 2)
    data = Dataset.from_tensors(
        torch.zeros(12, 1, 8, 8),
        modality=ImageModality(size=8, channels=1),
        fields={"text": TextField(length=1, dim=2), "label": LabelField(size=2)},
        text=Tokens.whole(vectors),
        label=Label(torch.zeros(12, dtype=torch.long)),
    )
    given = stage._given(data, range(2, 5), 6)
    assert [*given] == ["text"]  # a label can be drawn
    assert given["text"].tokens[:, 0, 0].tolist() == [4, 6, 8]
