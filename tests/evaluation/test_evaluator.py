from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from unistep.evaluation import Report, Setting, evaluate, load_features, quick_fd, reference_statistics, save_plot
from unistep.evaluation import reference as reference_module
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.reference import batches, reference_path, shown_statistics
from unistep.modalities.image import ImageModality

SHAPE = (1, 6, 6)
IMAGES = ImageModality(size=6, channels=1)


@dataclass(frozen=True)
class Pictures:
    values: np.ndarray
    fingerprint: str = "f" * 64
    source: str = "pictures"
    modality: ImageModality = IMAGES

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Any]]:
        return torch.from_numpy(self.values[list(indices)]), {}

    @property
    def signals(self) -> Tensor:
        return IMAGES.to_signal(torch.from_numpy(self.values))


@dataclass
class Blobs:
    """A "model" whose distance from the data shrinks with its steps; item i belongs to seed + i."""

    name: str = "blobs"
    kind: str = "consistency"
    shape: tuple[int, ...] = SHAPE
    spoil: float = 1.0
    usual: float | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def sample(self, num: int = 1, *, steps=None, seed=0, solver=None, batch_size=64, **condition: Any) -> Tensor:
        self.asked.append({"num": num, "steps": steps, "seed": seed, "solver": solver, **condition})
        items = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(num)]
        return (0.3 * torch.stack(items) + 0.3 / steps).clamp(-1, 1) * self.spoil

    @property
    def guidance(self) -> float | None:
        return self.usual

    def network_calls(self, steps=None, solver=None, guidance=None) -> int:
        return (2 * steps - 1 if solver == "heun" else steps) * (1 if guidance in (None, 1) else 2)


def _pictures(n: int, seed: int, fingerprint: str = "f" * 64) -> Pictures:
    x = 0.3 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return Pictures(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy(), fingerprint)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def network() -> FeatureNetwork:
    return load_features("pixels", IMAGES)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        return evaluate(
            [Blobs(), Blobs(name="teacher", kind="denoiser")],
            _pictures(600, 10_000),
            features=load_features("pixels", IMAGES),
            test=_pictures(500, 20_000),
            num=200,
            progress=False,
        )


def test_the_default_sweep_has_rows_of_model_teacher_and_scale(report: Report) -> None:
    assert [(r.name, r.solver, r.steps, r.calls) for r in report.rows] == [
        ("blobs", None, 1, 1),
        ("blobs", None, 2, 2),
        ("blobs", None, 4, 4),
        ("teacher", "heun", 5, 9),
        ("teacher", "heun", 10, 19),
        ("teacher", "heun", 18, 35),
        ("teacher", "dpmpp2m", 5, 5),
        ("teacher", "dpmpp2m", 10, 10),
        ("teacher", "dpmpp2m", 18, 18),
        ("test split", None, None, None),
        ("noise", None, None, None),
    ]
    assert all(r.num == 200 for r in report.rows)


def test_too_few_real_items_are_refused_before_anything_is_sampled(network: FeatureNetwork) -> None:
    def never(num: int, seed: int) -> Tensor:
        raise AssertionError

    few, enough = _pictures(5, 1), _pictures(6, 1)
    for reference, test, which in ((few, None, "reference"), (enough, few, "test split")):
        with pytest.raises(ValueError, match=f"the {which} needs at least 6 images, got 5; give more data"):
            evaluate(never, reference, test=test, features=network, num=10, progress=False)
    assert evaluate(Blobs(), enough, test=enough, features=network, num=10, progress=False).rows


def test_the_figures_rank_as_they_should(report: Report) -> None:
    one, two, four = report.rows[:3]
    test, noise = report.rows[-2:]
    assert noise.frechet > one.frechet > two.frechet > four.frechet > test.frechet > 0
    assert one.kid > two.kid > four.kid
    assert test.precision > 0.6 > noise.precision
    assert report.noise() is noise
    assert one.images_per_second is not None
    assert one.images_per_second > 0


def test_the_distance_is_the_plain_one_of_all_samples(report: Report, network: FeatureNetwork) -> None:
    from unistep.evaluation.metrics import frechet_distance

    fake = network(IMAGES.quantised(Blobs().sample(200, steps=2)))
    real = network(_pictures(600, 10_000).signals)
    assert report.rows[1].frechet == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_the_batch_size_does_not_change_the_figures(report: Report, network: FeatureNetwork) -> None:
    other = evaluate(
        Blobs(),
        _pictures(600, 10_000),
        features=network,
        num=200,
        batch_size=7,
        noise=False,
        sweep={"consistency": [Setting(steps=2)]},
        progress=False,
    )
    (row,) = other.rows
    assert row.frechet == pytest.approx(report.rows[1].frechet, rel=1e-6)
    assert (row.precision, row.recall) == (report.rows[1].precision, report.rows[1].recall)


def test_seeds_and_conditions_reach_the_model_in_parts(network: FeatureNetwork) -> None:
    model = Blobs()
    labels = [i % 3 for i in range(20)]
    evaluate(
        model,
        _pictures(100, 0),
        features=network,
        num=20,
        seed=40,
        batch_size=8,
        condition={"label": labels, "style": "old"},
        sweep={"consistency": [Setting(steps=1)]},
        noise=False,
        progress=False,
    )
    asked = model.asked[1:]  # the first is the warm-up
    assert [(a["seed"], a["num"]) for a in asked] == [(40, 8), (48, 8), (56, 4)]
    assert [x for a in asked for x in a["label"]] == labels
    assert {a["style"] for a in asked} == {"old"}


def test_guidance_has_rows_of_its_own_in_every_form(network: FeatureNetwork, tmp_path: Path) -> None:
    teacher = Blobs(name="teacher", kind="denoiser", usual=1.0)
    report = evaluate(
        [Blobs(), teacher],
        _pictures(100, 0),
        features=network,
        num=20,
        condition={"label": "coat"},
        sweep={
            "consistency": [Setting(steps=1)],
            "denoiser": [Setting(steps=n, solver="heun", guidance=w) for w in (1.0, 1.5) for n in (5, 18)],
        },
        noise=False,
        progress=False,
    )
    assert [(r.sampler, r.guidance, r.calls) for r in report.rows] == [
        ("1 step", None, 1),
        ("heun 5", 1.0, 9),
        ("heun 18", 1.0, 35),
        ("heun 5, guidance=1.5", 1.5, 18),
        ("heun 18, guidance=1.5", 1.5, 70),
    ]
    assert [asked.get("guidance") for asked in teacher.asked] == [1.0] * 4 + [1.5] * 4
    assert {asked["label"] for asked in teacher.asked} == {"coat"}
    plain = report.to_plain()
    assert [row["guidance"] for row in plain["rows"]] == [None, 1.0, 1.0, 1.5, 1.5]
    assert Report.from_plain(json.loads(json.dumps(plain))) == report
    assert "heun 18, guidance=1.5" in report.markdown()
    for width in (80, 120):
        screen = Console(file=io.StringIO(), width=width)
        screen.print(*report.tables(width))
        text = screen.file.getvalue()  # type: ignore[attr-defined]
        assert text.count("guidance=1.5") == 4  # in the table of the distances and in that of the speed
        assert max(map(len, text.splitlines())) <= width
        assert "20 samples, label coat, against" in " ".join(text.split())
        assert "these figures compare only with those of samples with the same condition" in " ".join(text.split())
    save_plot(report, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<!-- teacher, Heun -->" in drawn
    assert "<!-- teacher, Heun, guidance 1.5 -->" in drawn


def test_a_model_that_takes_the_weight_has_rows_for_each_and_its_neighbour_one(network: FeatureNetwork) -> None:
    guided, plain = Blobs(name="guided", usual=2.0), Blobs(name="plain")
    settings = [Setting(steps=1, guidance=w) for w in (2.0, 3.0)]
    shared = {"features": network, "num": 20, "noise": False, "progress": False}
    report = evaluate([guided, plain], _pictures(100, 0), sweep={"consistency": settings}, **shared)  # type: ignore[arg-type]
    assert [(r.name, r.sampler, r.guidance) for r in report.rows] == [
        ("guided", "1 step, guidance=2", 2.0),
        ("guided", "1 step, guidance=3", 3.0),
        ("plain", "1 step", None),
    ]
    assert all("guidance" not in asked for asked in plain.asked)
    free = evaluate([guided], _pictures(100, 0), sweep={"consistency": [Setting(steps=1)]}, **shared)  # type: ignore[arg-type]
    assert [(r.sampler, r.guidance) for r in free.rows] == [("1 step, guidance=2", 2.0)]
    assert "guidance" not in guided.asked[-1]


def test_a_plot_of_many_curves_keeps_them_apart(report: Report, tmp_path: Path) -> None:
    from dataclasses import replace

    from PIL import Image

    from unistep.evaluation.plot import _curves

    guided = [replace(row, guidance=w) for row in report.rows if row.solver for w in (1.0, 1.5, 2.0)]
    many = replace(report, rows=(*report.rows[:3], *guided, *report.rows[-2:]))
    styles = [style for _, style in _curves(many).values()]
    assert len({(s["color"], s["marker"], s["linestyle"]) for s in styles}) == len(styles) == 7
    save_plot(many, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] == 1680
        assert picture.size[1] > 784  # the legend has got room above the axes


@pytest.mark.parametrize("kind", ["consistency", "denoiser"])
def test_a_real_generator_is_what_is_sampled(kind: str, network: FeatureNetwork) -> None:
    from unistep.core.condition import LabelField
    from unistep.evaluation.metrics import frechet_distance
    from unistep.generation.generator import Generator
    from unistep.generation.model_config import ModelConfig
    from unistep.modalities.image import ImageModality
    from unistep.nets.unet import UNetConfig

    config = ModelConfig(
        kind=kind,  # type: ignore[arg-type]
        network=UNetConfig(patch=1, widths=(8,), blocks=(1,), middle_blocks=1, embedding_dim=16, num_classes=3),
        modality=ImageModality(channels=1, size=6),
        fields={"label": LabelField(size=3)},
    )
    model = Generator(config.build(), config, "tiny")
    setting = Setting(steps=2, solver="heun" if kind == "denoiser" else None)
    data = _pictures(100, 0)
    report = evaluate(
        model,
        data,
        features=network,
        num=90,
        batch_size=32,
        seed=5,
        sweep={kind: [setting]},
        noise=False,
        progress=False,
    )
    samples = model.sample(90, steps=2, seed=5, solver=setting.solver)
    expected = frechet_distance(network(data.signals), network(IMAGES.quantised(samples)))
    assert report.rows[0].frechet == pytest.approx(expected, rel=1e-3)
    assert report.rows[0].calls == (3 if kind == "denoiser" else 2)


def test_every_form_of_the_report_carries_its_label(report: Report) -> None:
    screen = Console(file=io.StringIO(), width=140)
    screen.print(*report.tables(140))
    narrow = Console(file=io.StringIO(), width=80)
    narrow.print(*report.tables(80))
    forms = [screen.file.getvalue(), narrow.file.getvalue(), report.markdown()]  # type: ignore[attr-defined]
    for form in forms:
        for part in ("pixels v1", report.features.hash[:8], "200 samples", "600", "f" * 12, "2026"[:2]):
            assert part in form, f"{part!r} is missing in\n{form}"
        for row in report.rows:
            assert f"{row.frechet:.3f}" in form
    assert max(len(line) for line in forms[1].splitlines()) <= 80
    tables = [part for part in forms[2].split("\n\n") if part.startswith("|")]
    assert [{line.count("|") for line in table.splitlines()} for table in tables] == [{10}, {4}]


def test_json_comes_back_whole(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "report.json"
    report.save_json(file)
    plain = json.loads(file.read_text())
    assert Report.from_plain(plain) == report
    label = {"name": "pixels", "version": "1", "hash": report.features.hash, "dim": 36}
    assert [network["label"] for network in plain["networks"]] == [label]
    assert plain["rows"][0]["images_per_second"] == pytest.approx(report.rows[0].images_per_second)
    assert [p.name for p in file.parent.iterdir()] == ["report.json"]
    with pytest.raises(ValueError, match="not an evaluation report"):
        Report.from_plain({"format": "other"})
    with pytest.raises(ValueError, match="not an evaluation report"):
        Report.from_plain(plain | {"colour": "red"})


def test_a_report_that_cannot_be_written_is_one_line(report: Report, tmp_path: Path) -> None:
    target = tmp_path / "taken.png"
    target.mkdir()
    for write in (report.save_json, lambda p: save_plot(report, p)):
        with pytest.raises(ValueError, match="cannot write") as caught:
            write(target)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]


def test_the_plot_is_a_picture_with_every_curve(report: Report, tmp_path: Path) -> None:
    from PIL import Image

    save_plot(report, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (1680, 784)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0xE4, 0x57, 0x2E), (0x2E, 0x6F, 0x9E), (0x4A, 0xA3, 0xA2)} <= colours
    save_plot(report, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.startswith("<?xml")
    assert "<!-- network calls per image -->" in drawn
    assert r"\times" not in drawn  # plain numbers beside the axis, no powers of ten
    save_plot(replace(report, noun="sounds"), tmp_path / "plot.svg")
    assert "<!-- network calls per sound -->" in (tmp_path / "plot.svg").read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["plot.png", "plot.svg"]


def test_a_report_without_models_has_no_plot(report: Report, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="nothing to plot"):
        save_plot(replace(report, rows=report.rows[-2:]), tmp_path / "plot.png")


def test_progress_is_shown_where_it_is_asked_for(network: FeatureNetwork) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    evaluate(
        Blobs(),
        _pictures(100, 0),
        features=network,
        num=20,
        sweep={"consistency": [Setting(steps=1)]},
        console=console,
    )
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("reference", "100/100", "blobs, 1", "20/20", "noise", "images/s"):
        assert part in shown


def test_too_few_samples_are_warned_of(network: FeatureNetwork, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="unistep"):
        found = evaluate(Blobs(), _pictures(100, 0), features=network, num=50, noise=False, progress=False)
    assert "50 samples are too few for 36 features" in caplog.text
    assert len(found.notes) == 1
    assert found.notes[0] in found.markdown()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Blobs(), {"num": 5}, "num must be at least 10"),
        (Blobs(), {"batch_size": 0}, "batch_size must be at least 1"),
        (Blobs(shape=(3, 6, 6)), {}, "samples of 3x6x6, the data has 1x6x6"),
        (Blobs(spoil=float("nan")), {}, "not finite"),
        (lambda num, seed: torch.zeros(3, *SHAPE), {}, "must return a tensor of 64 samples, got shape"),
        (3, {}, "a model to evaluate is a generator, a map, a function .* got int"),
        (Blobs(), {"condition": {"label": [1, 2]}}, "label has 2 values for 80 samples"),
        (torch.zeros(79, *SHAPE), {}, "samples has 79 images, and num is 80: they would count .*; give num=79"),
        (torch.zeros(80, *SHAPE), {"condition": {"label": 1}}, "samples takes no condition, got label; give samples"),
    ],
)
def test_bad_input_is_one_line(network: FeatureNetwork, model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model, _pictures(100, 0), features=network, **{"num": 80, "progress": False, **options})


def test_statistics_are_those_of_all_images_and_kept(network: FeatureNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _pictures(700, 3)
    first = reference_statistics(data, network)
    features = network(data.signals)
    torch.testing.assert_close(first.moments.mean, features.double().mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(first.moments.covariance, torch.cov(features.double().T), rtol=1e-5, atol=1e-7)
    assert len(first.subset) == 700
    torch.testing.assert_close(first.subset.sort(0).values, features.sort(0).values)
    monkeypatch.setattr(FeatureNetwork, "forward", lambda *_: pytest.fail("looked at the images again"))
    again = reference_statistics(data, network)
    assert torch.equal(again.moments.mean, first.moments.mean)
    assert torch.equal(again.moments.covariance, first.moments.covariance)
    assert torch.equal(again.subset, first.subset)
    assert again.moments.count == 700


def test_a_terminal_shows_how_far_the_data_is_while_it_is_looked_at(network: FeatureNetwork) -> None:
    data = _pictures(300, 3)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    found = shown_statistics(data, network, console=console)
    assert f"data on {network.name}" in console.file.getvalue()
    assert "300/300" in console.file.getvalue()
    console.file = io.StringIO()
    assert torch.equal(shown_statistics(data, network, console=console).subset, found.subset)
    assert "data on" not in console.file.getvalue()


def test_the_subset_is_bounded_random_and_fixed(network: FeatureNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_module, "_SUBSET", 50)
    data = _pictures(300, 3)
    one, two = (reference_statistics(data, network, use_cache=False).subset for _ in range(2))
    assert one.shape == (50, 36)
    assert torch.equal(one, two)
    features = network(data.signals)
    place = torch.cdist(one, features).argmin(1)
    torch.testing.assert_close(features[place], one)
    assert len(place.unique()) == 50
    assert place.tolist() != sorted(place.tolist())


def test_of_large_signals_few_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _pictures(20, 0)
    monkeypatch.setattr("unistep.evaluation.reference._LARGEST", 8 * 36)
    assert [len(batch) for batch in batches(data)] == [8, 8, 4]
    monkeypatch.setattr("unistep.evaluation.reference._LARGEST", 1)
    assert [len(batch) for batch in batches(data, [3, 5])] == [1, 1]


def test_data_and_network_have_statistics_of_their_own(network: FeatureNetwork) -> None:
    other = load_features("pixels", IMAGES)
    other.hash = "0" * 64
    data, same_again, changed = _pictures(9, 0), _pictures(9, 1), _pictures(9, 0, "e" * 64)
    assert reference_path(data, network) == reference_path(same_again, network)
    assert len({reference_path(data, network), reference_path(changed, network), reference_path(data, other)}) == 3


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "another's"])
def test_damaged_statistics_are_made_again(network: FeatureNetwork, damage: str) -> None:
    data = _pictures(100, 3)
    first = reference_statistics(data, network)
    path = reference_path(data, network)
    content = bytearray(path.read_bytes())
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[:-9])
        case "flipped":
            content[-3] ^= 0x40
            path.write_bytes(content)
        case "another's":
            reference_statistics(_pictures(50, 4, "e" * 64), network)
            reference_path(_pictures(1, 0, "e" * 64), network).replace(path)
    again = reference_statistics(data, network)
    assert torch.equal(again.subset, first.subset)
    assert again.moments.count == 100
    assert path.stat().st_size == len(content)
    assert [p for p in path.parent.iterdir() if p.suffix == ".tmp"] == []


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    network: FeatureNetwork, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    (cache / "statistics").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING, logger="unistep"):
        assert reference_statistics(_pictures(50, 0), network).moments.count == 50
    assert "were not kept" in caplog.text


def test_a_reference_of_one_image_is_refused(network: FeatureNetwork) -> None:
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        reference_statistics(_pictures(1, 0), network)


def test_anything_that_samples_is_evaluated(network: FeatureNetwork) -> None:
    """A function, a tensor of samples and a bare map have the figures of a generator with the same samples."""
    from unistep.core.flowmap import ConsistencyModel
    from unistep.core.path import VarianceExploding

    data, model = _pictures(200, 0), Blobs()
    samples = model.sample(50, steps=1, seed=3)
    options = {"features": network, "num": 50, "seed": 3, "noise": False, "progress": False}
    sweep = {"consistency": (Setting(steps=1),)}
    expected = evaluate(model, data, sweep=sweep, **options).rows[0].frechet

    def blobs(num: int, seed: int) -> Tensor:
        return Blobs().sample(num, steps=1, seed=seed)

    function, given = evaluate([blobs, torch.cat([torch.zeros(3, *SHAPE), samples])], data, **options).rows
    assert function.frechet == pytest.approx(expected, rel=1e-6)
    assert given.frechet == pytest.approx(expected, rel=1e-6)
    assert (function.name, function.sampler, given.name) == ("blobs", "", "samples")

    class Zero(torch.nn.Module):
        def forward(self, x, t, s=None, condition=None):
            return torch.zeros_like(x)

    (row,) = evaluate(ConsistencyModel(Zero(), VarianceExploding(), 0.5), data, sweep=sweep, **options).rows
    assert (row.name, row.kind, row.calls) == ("ConsistencyModel", "consistency", 1)


def test_features_go_by_name_and_by_the_modality_where_none_are_given() -> None:
    data, options = _pictures(100, 0), {"num": 20, "noise": False, "progress": False}
    named = evaluate(Blobs(), data, features="pixels", sweep={"consistency": (Setting(steps=1),)}, **options)
    assert named.features.name == "pixels"


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(20, 1, 5, 5), r"samples must have shape \[n, 1, 6, 6\], got \[20, 1, 5, 5\]"),
        (torch.rand(5, *SHAPE) - 0.5, "at least 10 samples, got 5"),
        (torch.rand(20, *SHAPE), r"must be in \[-1, 1\], and these lie in \[0, 1\]"),
        (255 * torch.rand(20, *SHAPE).round(), r"must be in \[-1, 1\], and these reach 255; give x / 127.5 - 1"),
        (torch.full((20, *SHAPE), float("nan")), "the samples hold values that are not finite"),
    ],
)
def test_samples_that_have_no_distance_are_refused(network: FeatureNetwork, samples: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick_fd(samples, _pictures(100, 0), features=network)


def test_few_samples_are_warned_of_in_the_quick_distance(network: FeatureNetwork) -> None:
    with pytest.warns(UserWarning, match="20 samples are few for 36 features"):
        quick_fd(torch.randn(20, *SHAPE), _pictures(100, 0), features=network)


def test_quick_distance_of_real_images_is_small_and_of_noise_large(tmp_path: Path) -> None:
    from unistep.data import DataConfig, prepare

    test = prepare(DataConfig(source="fashion-mnist", split="test"), progress=False)
    stored, _ = test.batch(range(2000))
    np.savez(tmp_path / "half.npz", images=stored[:1000, 0].numpy())
    data = f"npz:{tmp_path / 'half.npz'}"
    same = quick_fd(stored[1000:], data)
    noise = quick_fd(torch.randn(1000, 1, 28, 28), data)
    assert same < 0.01 * noise
    assert quick_fd(test.modality.to_signal(stored[1000:]), data) == pytest.approx(same, rel=1e-6)


def test_further_columns_have_a_table_of_their_own(report: Report) -> None:
    names = [f"measure {i} ↑" for i in range(5)]
    rows = tuple(replace(row, extra_metrics=dict.fromkeys(names, 0.25)) for row in report.rows)
    wide = replace(report, rows=rows)
    usual, further, _ = wide.tables(80)
    for table in (further, usual):
        narrow = Console(file=io.StringIO(), width=80)
        narrow.print(table)
        text = narrow.file.getvalue()  # type: ignore[attr-defined]
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert all(row.sampler in text for row in rows)
        assert ("0.250" in text) == (table is further)
