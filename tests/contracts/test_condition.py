"""What a typed condition must do, for every built-in type of value and for one from outside the package."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import forks
import unistep
from contracts.condition_values import FIELDS, GIVEN, MAKE, DirectionField, Reader
from contracts.condition_worker import NUM, gradient, objective, work
from unistep import registry
from unistep.core.condition import SignalField, Value, concat, drop, null_condition, select
from unistep.core.flowmap import Denoiser, GuidedDenoiser
from unistep.core.path import VarianceExploding
from unistep.data.cache import read_cache, writing
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.generation.requests import Request
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.pairing import paired
from unistep.serialization import from_plain, to_plain

VE = VarianceExploding()


@pytest.fixture(params=MAKE)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def value(kind: str, generator: torch.Generator) -> Value:
    return MAKE[kind](NUM, generator)


def same(a: Value, b: Value) -> bool:
    """Whether two batches are equal, NaN included."""
    return type(a) is type(b) and all(
        torch.equal(x.nan_to_num(-7.0), y.nan_to_num(-7.0))
        for x, y in zip(a.tensors.values(), b.tensors.values(), strict=True)
    )


def test_the_null_condition_has_no_condition(value: Value) -> None:
    assert value.has_condition().all()
    null = value.null()
    assert len(null) == NUM
    assert type(null) is type(value)
    assert not null.has_condition().any()
    assert same(null.null(), null)


def test_where_takes_whole_items(value: Value) -> None:
    keep = torch.arange(NUM) % 3 > 0
    mixed = value.where(keep, value.null())
    assert torch.equal(mixed.has_condition(), keep)
    assert same(mixed.select(keep), value.select(keep))
    assert same(mixed.select(~keep), value.null().select(~keep))


def test_dropping_takes_all_values_of_an_item_together(generator: torch.Generator) -> None:
    condition = {kind: make(400, generator) for kind, make in MAKE.items()}
    dropped = drop(condition, 0.25, generator)
    kept = dropped["label"].has_condition()
    assert 60 < int((~kept).sum()) < 140
    assert same(dropped.pop("vector"), condition["vector"])  # how an item was made stays
    for name, value in dropped.items():
        assert torch.equal(value.has_condition(), kept), name
        assert same(value.select(kept), condition[name].select(kept)), name


@pytest.mark.parametrize("rows", [slice(2, 5), [4, 0], torch.tensor([1, 1, 6]), torch.arange(NUM) > 4])
def test_selecting_and_concatenating_keep_the_items(value: Value, rows: slice | list[int] | Tensor) -> None:
    picked = value.select(rows)
    index = torch.arange(NUM)[rows]
    assert len(picked) == len(index)
    assert same(picked, type(value).concat([value.select([int(i)]) for i in index]))
    assert same(concat([select({"c": value}, slice(0, 3)), select({"c": value}, slice(3, NUM))])["c"], value)


def test_values_are_stored_in_columns(value: Value, tmp_path: Path) -> None:
    value = value.where(torch.arange(NUM) != 2, value.null())
    for name, column in value.arrays().items():
        assert len(column) == NUM
        np.save(tmp_path / f"{name}.npy", column)
    read = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in value.arrays()}
    assert same(type(value).from_arrays(read), value)
    assert same(type(value).from_arrays({n: c[np.array([5, 2])] for n, c in read.items()}), value.select([5, 2]))


def test_values_move(value: Value) -> None:
    assert value.to("meta").device.type == "meta"
    assert same(value.to("cpu"), value)


def test_values_are_trees_of_tensors(value: Value) -> None:
    leaves, spec = pytree.tree_flatten({"c": value})
    assert len(leaves) == len(value.tensors)
    assert all(isinstance(leaf, Tensor) for leaf in leaves)
    assert same(pytree.tree_unflatten(leaves, spec)["c"], value)


def test_equal_items_match(value: Value) -> None:
    twice = type(value).concat([value.select([0, 1]), value.select([1, 0]), value.null().select([0, 1])])
    two = twice.select([0, 1]).matches()
    assert two.diagonal().all()
    wanted = torch.zeros(6, 6, dtype=torch.bool)
    for i, j in [(0, 3), (1, 2), (4, 5)]:
        wanted[i, j] = wanted[j, i] = True
    wanted |= torch.eye(6, dtype=torch.bool)
    if two[0, 1]:  # two draws of one class
        wanted[:4, :4] = True
    assert torch.equal(twice.matches(), wanted)


@torch.no_grad()
def test_guidance_goes_from_the_null_condition_to_the_condition(
    kind: str, value: Value, generator: torch.Generator
) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(Reader(kind), VE)
    x, t = torch.randn(NUM, 2, generator=generator), torch.full((NUM,), 1.5)
    conditional = denoiser(x, t, None, {"c": value})
    unconditional = denoiser(x, t, None, null_condition({"c": value}))
    assert ((conditional - unconditional).abs().amax(dim=1) > 1e-4).all() == value.guided
    guided = GuidedDenoiser(denoiser, 3.0)(x, t, None, {"c": value})
    torch.testing.assert_close(guided, unconditional + 3 * (conditional - unconditional))


def test_only_noise_of_items_with_the_same_condition_is_exchanged(value: Value, generator: torch.Generator) -> None:
    order = [0, 1, 2, 0, 1, 2, 0, 1]
    condition = {"c": value.select(order)}
    noise, x0 = (torch.randn(NUM, 2, generator=generator) for _ in range(2))
    found = paired(noise, x0, condition, "optimal_transport")
    came_from = (found[:, None] == noise[None]).all(dim=-1).int().argmax(dim=1)
    assert sorted(came_from.tolist()) == list(range(NUM))
    same_condition = condition["c"].matches()
    assert all(bool(same_condition[i, j]) for i, j in enumerate(came_from.tolist()))
    assert came_from.tolist() != list(range(NUM))


def test_a_field_reads_what_a_person_gives(kind: str) -> None:
    field, given = FIELDS[kind], GIVEN[kind]
    value = field.parse("c", given, 3)
    assert isinstance(value, field.value)
    assert value.has_condition().all()
    for i, one in enumerate(given):
        assert same(field.parse("c", one, 1), value.select([i]))
        assert same(field.parse("c", one, 2), value.select([i, i]))
    some = field.parse("c", [given[0], None, given[2]], 3)
    assert some.has_condition().tolist() == [True, False, True]
    assert same(some.select([0, 2]), value.select([0, 2]))
    assert same(field.parse("c", value, 3), value)
    assert not field.null(2).has_condition().any()
    assert len(field.parse("c", [], 0)) == 0
    assert len(field.draw(4, None)) == 4
    with pytest.raises(ValueError, match="c has 3 values for 2 samples; give one, or one for each"):
        field.parse("c", given, 2)
    with pytest.raises(ValueError, match="c must be a"):
        field.parse("c", object(), 2)
    assert field.extent
    assert field.choices


@pytest.mark.parametrize("names", [("label", "scalar", "vector", "tokens", "signal")])
def test_requests_give_what_each_gives_alone(names: tuple[str, ...]) -> None:
    fields = {name: FIELDS[name] for name in names} | {"signal": SignalField(shape=(1, 8, 8))}
    given = {name: GIVEN[name] for name in names} | {"signal": list(torch.randn(3, 1, 8, 8).clamp(-1, 1))}
    network = UNetConfig(widths=(8, 16), embedding_dim=16, head_dim=8)
    config = ModelConfig(kind="consistency", network=network, modality=ImageModality(size=8, channels=1), fields=fields)
    config = config.fitted()
    assert from_plain(ModelConfig, to_plain(config)) == config
    torch.manual_seed(0)
    model = config.build()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    generator = Generator(model, config)
    seeds = [7, 2**40, 1]
    conditions = [{name: values[i] for name, values in given.items()} for i in range(3)]
    alone = torch.cat([generator.sample(1, seed=s, **c) for s, c in zip(seeds, conditions, strict=True)])
    together = generator.sample_requests([Request(seed=s, condition=c) for s, c in zip(seeds, conditions, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(generator.sample(3, seed=seeds, **given), alone, rtol=1e-4, atol=1e-5)
    for name in names:
        other = generator.sample(3, seed=seeds, **(given | {name: [None] * 3}))
        assert (other - alone).abs().amax(dim=(1, 2, 3)).min() > 1e-3, name


def test_a_model_declares_fields_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {k: dict(known) for k, known in registry._added.items()})
    config = ModelConfig(
        kind="denoiser",
        network=UNetConfig(widths=(8, 16), embedding_dim=16, head_dim=8),
        modality=ImageModality(size=8, channels=1),
        fields={"wind": DirectionField(turn=90.0)},
    )
    with pytest.raises(ValueError, match=r"DirectionField is not registered: .*register\('field', 'NAME'\)"):
        to_plain(config)
    registry.register("field", "direction", DirectionField)
    plain = to_plain(config)
    assert plain["fields"] == {"wind": {"type": "direction", "turn": 90.0}}
    assert from_plain(ModelConfig, plain) == config


def test_a_data_set_holds_values_of_every_type(kind: str, value: Value, tmp_path: Path) -> None:
    dataset = unistep.Dataset.from_tensors(torch.rand(NUM, 1, 4, 4) * 2 - 1, fields={"c": FIELDS[kind]}, c=value)
    assert same(dataset.batch([5, 0])[1]["c"], value.select([5, 0]))
    assert dataset.fields["c"] == FIELDS[kind]
    other = unistep.Dataset.from_tensors(dataset.batch(range(NUM))[0], fields={"c": FIELDS[kind]}, c=value.null())
    assert other.fingerprint != dataset.fingerprint
    with writing(tmp_path / "cache") as writer:
        writer.append(np.zeros((NUM, 1, 4, 4), np.uint8))
        writer.add_columns("c", [value.select(slice(0, 3)).arrays(), value.select(slice(3, NUM)).arrays()])
        writer.finish({"key": "k"}, [])
    found = read_cache(tmp_path / "cache", "k")
    assert found is not None
    columns = {name.removeprefix("c."): array for name, array in found.arrays.items() if name.startswith("c.")}
    assert same(FIELDS[kind].from_columns(columns, np.arange(NUM)), value)


def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    processes = [forks.process(work, rank, str(tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for kind in MAKE:
        whole = gradient(objective(kind), kind, slice(0, NUM))
        scale = whole.abs().max().item()
        # Means of two halves against one mean: a few roundings of sums of eight terms.
        assert torch.equal(first[kind], second[kind])
        torch.testing.assert_close(first[kind], whole, rtol=1e-4, atol=32 * torch.finfo(torch.float32).eps * scale)


STRANGE = (1, 0.5, "left", [0.0, 0.0], [], {}, None, True, math.nan, "", "a" * 50_000, [[1]], 10**400, [10**400])
"""What a stranger may send as JSON."""


def test_what_a_stranger_gives_is_a_value_and_never_a_file(kind: str, tmp_path: Path) -> None:
    field = FIELDS[kind]
    assert json.loads(json.dumps(field.schema))["kind"]
    there = tmp_path / "there.npy"
    np.save(there, np.zeros((2, 2)))
    taken = 0
    for given in (str(there), *STRANGE):
        with suppress(ValueError):
            assert len(field.parse(kind, field.from_json(kind, given), 1, _no_files)) == 1
            taken += 1
    assert taken < len(STRANGE)


def _no_files(path: Path) -> Tensor:
    raise AssertionError(f"a file was read: {path}")
