"""Configurations to JSON and back: nothing is lost, nothing is guessed, every mistake is named."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unistep.core.condition import LabelField, ScalarField
from unistep.core.path import LinearFlow, TrigFlow, VarianceExploding, VariancePreserving
from unistep.core.timesteps import (
    ConstantLevels,
    DiscretisedLogNormal,
    DoublingCurriculum,
    SqrtCurriculum,
    UniformIndex,
)
from unistep.data import DataConfig
from unistep.generation.model_config import AnyPath, ModelConfig
from unistep.modalities.image import ImageModality
from unistep.modalities.image_options import ImageOptions
from unistep.nets.unet import UNetConfig
from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.distance import L1, PseudoHuber, SquaredL2
from unistep.objectives.ect import ECTConfig
from unistep.recipes import reproductions
from unistep.serialization import from_plain, read_json, to_plain
from unistep.spelling import nearest
from unistep.training.ema import ConstantEMA, PowerEMA
from unistep.training.optim import AdamConfig, MuonConfig, Schedule
from unistep.training.run_config import RunConfig


def through_json(value: Any) -> Any:
    return from_plain(type(value), json.loads(json.dumps(to_plain(value), allow_nan=False)))


@pytest.mark.parametrize("name", reproductions())
def test_every_recipe_comes_back(name: str) -> None:
    config = reproductions()[name]
    assert through_json(config) == config


finite = st.floats(0.01, 100)
NETWORKS = st.builds(
    UNetConfig,
    channels=st.sampled_from([1, 3]),
    widths=st.just((8, 16)),
    blocks=st.just((1, 2)),
    attention=st.sampled_from([(), (0,), (0, 1)]),
    num_classes=st.integers(0, 5),
    dropout=st.floats(0, 0.9),
)
PATHS = st.one_of(
    st.builds(VarianceExploding, sigma_max=finite),
    st.builds(TrigFlow, sigma_data=finite),
    st.just(LinearFlow()),
    st.builds(VariancePreserving, beta_min=finite),
)
SIDES = st.integers(1, 64)
FIELDS = st.one_of(
    st.builds(LabelField, size=st.integers(1, 9), first=st.integers(-9, 9)),
    st.builds(LabelField, size=st.just(1), names=st.tuples(st.text(max_size=3))),
    st.builds(ScalarField, low=st.floats(-9, 0), high=st.floats(1, 9), default=st.none() | st.floats(0, 1)),
)
MODELS = st.builds(
    ModelConfig,
    kind=st.sampled_from(["consistency", "denoiser"]),
    network=NETWORKS,
    modality=st.builds(ImageModality, size=st.one_of(SIDES, st.tuples(SIDES, SIDES)), channels=st.sampled_from([1, 3])),
    path=PATHS,
    fields=st.dictionaries(st.text(max_size=5), FIELDS, max_size=2),
    times=st.sampled_from([{}, {"1": (80.0,)}, {"1": (80.0,), "2": (80.0, 0.75)}]),
    provenance=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
DISTANCES = st.one_of(st.just(SquaredL2()), st.just(L1()), st.builds(PseudoHuber, c=st.one_of(st.none(), finite)))
LAWS = st.sampled_from([UniformIndex(), DiscretisedLogNormal(mean=-1.0)])
OBJECTIVES = st.one_of(
    st.builds(DenoisingConfig, label_dropout=st.floats(0, 1)),
    st.builds(
        CTConfig,
        curriculum=st.sampled_from([SqrtCurriculum(), DoublingCurriculum(end=640), ConstantLevels(target_ema=0.9)]),
        law=LAWS,
        distance=DISTANCES,
    ),
    st.builds(CDConfig, levels=st.integers(2, 40), solver=st.sampled_from(["euler", "heun"]), law=LAWS),
    st.builds(ECTConfig, distance=DISTANCES, target=st.sampled_from(["data", "euler", "heun"])),
)
RUNS = st.builds(
    RunConfig,
    recipe=st.text(max_size=8),
    data=st.builds(
        DataConfig,
        source=st.text(max_size=8),
        options=st.one_of(st.none(), st.builds(ImageOptions, size=st.one_of(st.none(), st.integers(1, 64)))),
    ),
    model=MODELS,
    objective=OBJECTIVES,
    teacher=st.one_of(st.none(), st.text(max_size=5)),
    optimizer=st.one_of(st.builds(MuonConfig, lr=finite), st.builds(AdamConfig, betas=st.just((0.5, 0.75)))),
    schedule=st.builds(Schedule, decay=st.floats(0, 1)),
    emas=st.sampled_from([(PowerEMA(),), (ConstantEMA(half_life=5), PowerEMA(sigma_rel=0.2))]),
    max_steps=st.one_of(st.none(), st.integers(1, 10**9)),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
    seed=st.integers(0, 2**63 - 1),
)


# The run-time type checker of the tests draws which items of a tuple it looks at.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(max_examples=60)
@given(RUNS)
def test_any_run_comes_back(config: RunConfig) -> None:
    assert through_json(config) == config


PLAIN = to_plain(reproductions()["fashion/ect"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested plain data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else dict(enumerate(data))
    copy[path[0]] = put(copy[path[0]], path[1:], value)
    return copy if isinstance(data, dict) else list(copy.values())


@settings(max_examples=200)
@given(place=st.sampled_from(places(PLAIN)), value=JSON)
@example(place=("model", "network", "vocabularies"), value={"\n": None})
def test_anything_in_any_place_is_read_or_refused_in_one_line(place: tuple[Any, ...], value: Any) -> None:
    """Never another error, never something that is written back differently."""
    changed = put(PLAIN, place, value)
    config, message = None, ""
    try:
        config = from_plain(RunConfig, changed)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    assert config is None or from_plain(RunConfig, to_plain(config)) == config


@dataclass(frozen=True, kw_only=True)
class Leaf:
    number: int = 1
    share: float = 0.5
    flag: bool = False
    word: str = "x"
    kind: Literal["a", "bee", 3] = "a"
    size: int | tuple[int, int] = 1
    names: tuple[str, ...] = ()
    table: dict[str, tuple[float, ...]] = field(default_factory=dict)
    maybe: float | None = None


@dataclass(frozen=True, kw_only=True)
class Other:
    number: int = 1


@dataclass(frozen=True, kw_only=True)
class Tree:
    needed: str
    either: Leaf | Other | None = None
    many: tuple[Leaf | Other, ...] = ()
    path: AnyPath = VarianceExploding()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"number": 1.5}, "number: expected int, got 1.5"),
        ({"number": "1"}, "number: expected int, got '1'"),
        ({"number": True}, "number: expected int, got True"),
        ({"number": None}, "number: expected int, got None"),
        ({"share": "0.5"}, "share: expected float, got '0.5'"),
        ({"share": True}, "share: expected float, got True"),
        ({"flag": 1}, "flag: expected bool, got 1"),
        ({"word": 5}, "word: expected str, got 5"),
        ({"word": None}, "word: expected str, got None"),
        ({"kind": "be"}, "kind: unknown value 'be'; did you mean 'bee'? valid: 3, a, bee"),
        ({"kind": 3.0}, "kind: unknown value 3.0"),
        ({"kind": []}, "kind: unknown value []"),
        ({"size": [1, 2, 3]}, "size: expected int, got [1, 2, 3], or expected 2 values, got [1, 2, 3]"),
        ({"size": "12"}, "size: expected int, got '12', or expected a list, got '12'"),
        ({"names": "abc"}, "names: expected a list, got 'abc'"),
        ({"names": ["a", 1]}, "names: expected str, got 1"),
        ({"table": {"k": [1, "x"]}}, "table: k: expected float, got 'x'"),
        ({"table": []}, "table: expected a mapping, got []"),
        ({"maybe": "x"}, "maybe: expected float, got 'x'"),
        ({"nubmer": 1}, "Leaf has no key 'nubmer'; did you mean 'number'? valid:"),
        (None, "Leaf needs a mapping of its fields, got None"),
        ("number", "Leaf needs a mapping of its fields, got 'number'"),
    ],
)
def test_wrong_values_are_named(data: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        from_plain(Leaf, data)
    assert str(caught.value).startswith(message)


def test_right_values_are_taken() -> None:
    data = {"share": 1, "size": [2, 3], "names": ["ü"], "table": {"k": [1, 2.5]}, "maybe": 2, "kind": 3}
    leaf = from_plain(Leaf, data)
    assert leaf == Leaf(share=1.0, size=(2, 3), names=("ü",), table={"k": (1.0, 2.5)}, maybe=2.0, kind=3)
    assert isinstance(leaf.share, float)
    assert from_plain(Leaf, {}) == Leaf()
    assert from_plain(Leaf, {"maybe": None}).maybe is None


def test_unions_are_told_apart_by_their_tag() -> None:
    tree = Tree(needed="n", either=Other(number=2), many=(Leaf(), Other()), path=TrigFlow(sigma_data=0.3))
    plain = to_plain(tree)
    assert plain["either"] == {"type": "Other", "number": 2}
    assert [item["type"] for item in plain["many"]] == ["Leaf", "Other"]
    assert from_plain(Tree, json.loads(json.dumps(plain))) == tree
    assert from_plain(Tree, {"needed": "n", "either": None}) == Tree(needed="n")
    for data, message in (
        ({"type": "Othr"}, "either: unknown type 'Othr'; did you mean 'Other'? valid: Leaf, Other"),
        ({"type": "Other", "word": "x"}, "either: Other has no key 'word'"),
        ({"type": ["Other"]}, "either: unknown type"),
        ("Other", "either: needs a mapping with a 'type' key"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
            from_plain(Tree, {"needed": "n", "either": data})
        assert str(caught.value).startswith(message)
    # Without a tag it is the first member: files from before the field was a union can still be read.
    assert from_plain(Tree, {"needed": "n", "either": {"number": 5}}).either == Leaf(number=5)
    with pytest.raises(ValueError, match=r"Tree: .*missing .*'needed'"):
        from_plain(Tree, {})


def test_checks_of_the_dataclass_are_kept() -> None:
    with pytest.raises(ValueError, match="size must be from 1 to 8192 pixels, got 0"):
        from_plain(ImageModality, {"size": 0, "channels": 1})
    with pytest.raises(ValueError, match=r"emas: sigma_rel must be between 0 and 0.28, got 0.5"):
        from_plain(RunConfig, {**PLAIN, "emas": [{"type": "PowerEMA", "sigma_rel": 0.5}]})


def test_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(ValueError, match=r"c.json: no such file"):
        read_json(Leaf, path)
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory"):
        read_json(Leaf, tmp_path)
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"c.json: not readable as JSON"):
            read_json(Leaf, path)
    path.write_text('{"number": 7}', encoding="utf-8")
    assert read_json(Leaf, path) == Leaf(number=7)


def test_the_nearest_choice() -> None:
    assert nearest("denoisr", ["denoiser", "flow"]) == "did you mean 'denoiser'? valid: denoiser, flow"
    assert nearest("zzz", {"b": 1, "a": 2}) == "valid: a, b"


def test_every_field_of_a_run_is_written() -> None:
    assert set(PLAIN) == {f.name for f in dataclasses.fields(RunConfig)}
    assert math.isfinite(PLAIN["clip"])
