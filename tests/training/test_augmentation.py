"""A network that is given how images are augmented: it learns, goes on with the same bits, and samples plain images."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import NETWORK, assert_same, checkpoint, make_data, make_teacher, run, run_config
from torch import Tensor

from unistep.cli.model_options import check_conditions, with_conditions
from unistep.cli.sample import SampleOptions
from unistep.core.condition import AUGMENTATION, Condition, Value, Vector, VectorField
from unistep.core.flowmap import Map
from unistep.data import DataConfig, Dataset, prepare
from unistep.hub.load import load
from unistep.objectives import fd
from unistep.training.build import build_student
from unistep.training.run_config import RunConfig

STEPS = 6


def data(folder: Path, *names: str) -> DataConfig:
    """The images of a run, with these augmentations."""
    path = folder / "data.npz"
    return DataConfig(source=f"npz:{path if path.exists() else make_data(path)}", augment=names)


def config(objective: str, folder: Path, *names: str) -> RunConfig:
    """A short run; without names, with EDM's augmentation of every other item."""
    return run_config(objective, folder, data=data(folder, *(names or ("edm:0.5",))), max_steps=STEPS)


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser that was trained with the augmentation, in ``run``, from one that never was."""
    folder = tmp_path_factory.mktemp("augmented")
    started = config("denoising", folder)
    done, text = run(replace(started, init=str(make_teacher(folder / "plain"))), folder / "run")
    assert done, text
    return folder


def test_items_without_a_seed_are_as_they_are(tmp_path: Path) -> None:
    plain, other = prepare(data(tmp_path), progress=False), prepare(data(tmp_path, "edm:1"), progress=False)
    assert dict(other.fields) == {**plain.fields, AUGMENTATION: VectorField(size=9)}
    assert other.fingerprint == plain.fingerprint
    stored, condition = other.batch(range(8))
    assert torch.equal(stored, plain.batch(range(8))[0])
    assert not condition[AUGMENTATION].has_condition().any()


def test_items_and_vectors_depend_on_seeds_alone(tmp_path: Path) -> None:
    dataset = prepare(data(tmp_path, "flip", "edm:1"), progress=False)
    stored, condition = dataset.batch([0, 1, 2, 0], [5, 6, 7, 6])
    again, told = dataset.batch([2, 0], [7, 6])
    assert torch.equal(again, stored[[2, 3]])
    vector = condition[AUGMENTATION].tensors["vector"]
    assert torch.equal(told[AUGMENTATION].tensors["vector"], vector[[2, 3]])
    assert torch.equal(dataset.conditions([4, 4], [6, 7])[AUGMENTATION].tensors["vector"], vector[[1, 2]])
    assert torch.equal(vector[1], vector[3])
    assert not torch.equal(vector[0], vector[1])
    assert not torch.equal(stored[0], stored[3])


def test_probability_zero_changes_no_item_but_by_its_mirror_image() -> None:
    x = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    dataset = Dataset.from_tensors(x, augment=("edm:0",))
    plain = Dataset.from_tensors(x).batch(range(20))[0]
    stored, condition = dataset.batch(range(20), range(20))
    mirrored = condition[AUGMENTATION].tensors["vector"][:, 0] == 1
    assert 0 < mirrored.sum() < 20
    assert torch.equal(stored[~mirrored], plain[~mirrored])
    assert torch.equal(stored[mirrored], plain[mirrored].flip(-1))


def test_a_model_without_the_field_starts_one_with_it(augmented: Path) -> None:
    trained = load(augmented / "run")
    assert trained.config.fields[AUGMENTATION] == VectorField(size=9)
    net = trained.map.net
    assert net.vectors[AUGMENTATION].weight.any()  # type: ignore[union-attr, index]
    # At the start it has no effect: the network is that of the model without it.
    start = load(augmented / "plain")
    fresh = build_student(config("denoising", augmented), trained.config, start).eval()
    x, t = torch.randn(3, 1, 8, 8), torch.ones(3)
    vectors = {AUGMENTATION: Vector(torch.randn(3, 9))}
    torch.testing.assert_close(fresh(x, t, None, vectors), start.map.eval()(x, t))


def test_a_run_goes_on_with_the_same_bits(augmented: Path) -> None:
    began, stop = replace(config("denoising", augmented), init=str(augmented / "plain")), threading.Event()
    out = augmented / "stopped"
    assert not run(began, out, cancel=stop, callback=lambda p: stop.set() if p.step == 2 else None)[0]
    assert checkpoint(out)[0] == 2
    assert run(began, out, resume=True)[0]
    assert_same(out, augmented / "run")


def test_samples_are_plain_images(augmented: Path) -> None:
    generator = load(augmented / "run")
    zeros = generator.sample(2, steps=3, label=[0, 1], augmentation=Vector(torch.zeros(2, 9)))
    assert torch.equal(generator.sample(2, steps=3, label=[0, 1]), zeros)
    with torch.no_grad():
        generator.map.net.vectors[AUGMENTATION].weight.add_(1)  # type: ignore[union-attr, index, operator]
    mirrored = generator.sample(2, steps=3, label=[0, 1], augmentation=Vector(torch.eye(9)[:2]))
    assert (mirrored - zeros).abs().max() > 1e-3


def test_no_person_is_asked_for_it(augmented: Path) -> None:
    generator = load(augmented / "run")
    _, names = with_conditions(SampleOptions, generator.config, "Draw samples.")
    assert names == ["label"]
    assert AUGMENTATION not in repr(generator)
    with pytest.raises(ValueError, match=r"takes no --text; it takes --label$"):
        check_conditions(["--text", "a cat"], SampleOptions, generator.config, "m")
    with pytest.raises(ValueError, match=r"no condition 'colour'; it takes label$"):
        generator.sample(1, colour=1)


@pytest.mark.parametrize("names", [("edm:0.5",), ("flip",)])
def test_it_is_the_teacher_of_a_student_with_or_without_it(augmented: Path, names: tuple[str, ...]) -> None:
    began = replace(config("ect", augmented, *names), teacher=str(augmented / "run"), max_steps=2)
    done, text = run(began, augmented / names[0].partition(":")[0])
    assert done, text
    student = load(augmented / names[0].partition(":")[0])
    assert (AUGMENTATION in student.config.fields) == (names != ("flip",))
    assert student.config.network.vectors == {AUGMENTATION: 9}  # type: ignore[attr-defined]
    assert student.sample(2).isfinite().all()


def test_a_network_of_items_that_are_not_augmented_has_none() -> None:
    assert NETWORK.fitted((1, 8, 8), {}).vectors == {}


def test_post_training_compares_plain_images(augmented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was done to the items of a batch, of which it takes the conditions only."""
    given: list[Value] = []
    jump = fd.one_jump

    def watched(model: Map, noise: Tensor, condition: Condition, *more: Any) -> Tensor:
        given.append(condition[AUGMENTATION])
        return jump(model, noise, condition, *more)

    monkeypatch.setattr(fd, "one_jump", watched)
    began = replace(config("fd", augmented, "edm:1"), init=str(augmented / "run"), max_steps=1)
    assert run(began, augmented / "fd")[0]
    assert len(given) > 1
    assert not any(value.has_condition().any() for value in given)
