"""The solver ``mixture`` of ``Generator.edit``: what it restores, what it is made of, what it refuses."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

import unistep
from analytic import WavyNet
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import TrigFlow, VarianceExploding
from unistep.editing.mixture import Mixture, fit_mixture
from unistep.editing.mixture_constraint import MixtureLinear
from unistep.editing.solvers import Settings
from unistep.editing.task import EditOptions
from unistep.generation import mixtures
from unistep.generation.editing import MIXTURE, make_task, settings_key, settings_of
from unistep.generation.mixtures import mixture_of, with_mixture
from unistep.generation.requests import CancelledError
from unistep.generation.tuning import keep, kept, tune_editing, with_settings
from unistep.modalities import AudioModality, ImageModality
from unistep.modalities.tensor import TensorModality

PICTURES = ImageModality(size=(8, 8), channels=3)


def model(kind: str = "denoiser", modality: unistep.Modality = PICTURES, scale: float = 1.0) -> unistep.Generator:
    net = WavyNet()
    net.register_parameter("where", torch.nn.Parameter(torch.full((1,), scale), requires_grad=False))
    maps = {
        "consistency": lambda: ConsistencyModel(net, VarianceExploding(), boundary=0.0),
        "flow map": lambda: FlowMap(net, TrigFlow()),
        "denoiser": lambda: unistep.Denoiser(net, VarianceExploding()),
    }
    return unistep.Generator(maps[kind](), modality=modality)


@pytest.fixture
def prior(generator: torch.Generator) -> Mixture:
    return fit_mixture(torch.rand(60, *PICTURES.shape, generator=generator) - 0.5, clusters=2, rank=5)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few samples and components, and a cache of the test's own."""
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path))
    monkeypatch.setattr(mixtures, "SAMPLES", 150)
    monkeypatch.setattr(mixtures, "fit_mixture", functools.partial(fit_mixture, clusters=2, rank=4))
    return tmp_path


def signals(num: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num, *PICTURES.shape, generator=generator) - 0.5


CASES = [
    ("inpaint", {"mask": "2,2,6,6"}), ("inpaint", {"mask": "left", "sigma": 0.1}), ("outpaint", {"border": "2"}),
    ("colorize", {}), ("upscale", {"factor": 2.0}), ("upscale", {"factor": 2.0, "sigma": 0.2}),
    ("deblur", {"kernel": "gaussian:1"}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "options"), CASES)
def test_a_result_is_that_of_its_seed_in_any_batch(task, options, prior, generator) -> None:
    g, x = model(), signals(3, generator)
    work = make_task(g, task, EditOptions(**options))
    given = work.noisy(work.degraded(x), [0, 1, 2])
    plain = {"steps": 3, "solver": "mixture", "prior": prior}
    together = g.edit(work, given, seed=5, **plain)
    alone = torch.cat([g.edit(work, given[i : i + 1], seed=5 + i, **plain) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(together, g.edit(work, given, seed=5, batch_size=2, **plain), atol=2e-4, rtol=1e-3)
    if "sigma" not in options:
        known = work.problem(given).constraint
        assert float(known.residual(together).abs().max()) < 1e-5
    assert (together != g.edit(work, given, seed=5, steps=3)).any()


@pytest.mark.parametrize("kind", ["consistency", "flow map", "denoiser"])
def test_every_kind_of_model_keeps_what_is_known(kind, prior, generator) -> None:
    g, x = model(kind), signals(2, generator)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :3], mask[1, :, 5:] = 1, 1  # another for each item
    filled = g.edit("inpaint", x, mask=mask, steps=2, solver="mixture", prior=prior)
    assert float(((filled - x) * (1 - mask)).abs().max()) <= 1e-5
    assert float(((filled - x) * mask).abs().max()) > 0.01


def test_a_problem_begins_at_the_mixtures_mean_in_the_networks_scale(prior, generator) -> None:
    modality = TensorModality(shape=(2, 96))
    from unistep.codecs.identity import IdentityConfig

    net = model(modality=modality).map
    g = unistep.Generator(net, modality=modality, codec=IdentityConfig(scale=2.5, bounded=False))
    x = torch.randn(2, 2, 96, generator=generator)
    work = make_task(g, "inpaint", EditOptions(mask="random:0.5"))
    posed = with_mixture(g, work.problem(x), prior)
    assert isinstance(posed.constraint, MixtureLinear)
    assert posed.constraint.scale == pytest.approx(2.5)
    assert posed.start is None
    torch.testing.assert_close(posed.beginning, MixtureLinear(posed.constraint.linear, prior).start)


def test_the_mixture_of_a_model_is_made_once_and_made_anew_where_it_is_damaged(few, monkeypatch, caplog) -> None:
    made = mixture_of(model(), show=False)
    (path,) = (few / "mixtures").iterdir()
    drawn = mixtures._samples
    monkeypatch.setattr(mixtures, "_samples", lambda *given: pytest.fail("samples were made again"))
    again = mixture_of(model(), show=False)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in made.tensors().items())
    monkeypatch.setattr(mixtures, "_samples", drawn)
    mixture_of(model(scale=2.0), show=False)  # another model's weights
    mixture_of(model("consistency"), show=False)  # the same ones, read otherwise
    assert len(list((few / "mixtures").iterdir())) == 3
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"123456789")
    again = mixture_of(model(), show=False)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in made.tensors().items())
    assert path.read_bytes() == whole
    assert "it is made anew" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_and_not_the_result(few, caplog) -> None:
    (few / "mixtures").write_text("in the way")
    assert mixture_of(model(), show=False).weights.sum() == pytest.approx(1)
    assert "was not kept" in caplog.text


def test_samples_are_those_of_their_seeds_and_of_few_steps(few) -> None:
    g = model()
    counted: list[int] = []
    found = mixtures._samples(g, counted.append, None)
    assert counted == [64, 64, 22]
    expected = g.sample(2, seed=mixtures.SEED, steps=8, solver="dpmpp2m")
    torch.testing.assert_close(found[:2], expected, atol=2e-4, rtol=1e-3)
    student = model("consistency")
    expected = student.sample(2, seed=mixtures.SEED + 148, steps=1)
    torch.testing.assert_close(mixtures._samples(student, counted.append, None)[-2:], expected, atol=2e-4, rtol=1e-3)
    phased = unistep.Generator(student.map, modality=PICTURES, steps=3)  # a model that was not trained for one
    expected = phased.sample(2, seed=mixtures.SEED + 148, steps=3)
    torch.testing.assert_close(mixtures._samples(phased, counted.append, None)[-2:], expected, atol=2e-4, rtol=1e-3)
    with pytest.raises(CancelledError):
        mixture_of(g, show=False, cancel=lambda: True)


def test_another_model_is_the_prior(few, generator) -> None:
    g, other, x = model(), model("consistency", scale=3.0), signals(2, generator)
    given = {"factor": 2.0, "degrade": True, "steps": 2, "solver": "mixture"}
    found = g.edit("upscale", x, prior=other, **given)
    assert torch.equal(found, g.edit("upscale", x, prior=mixture_of(other), **given))
    assert not torch.equal(found, g.edit("upscale", x, **given))


@pytest.mark.parametrize(
    ("task", "options", "line"),
    [
        (
            "denoise",
            {"sigma": 0.2},
            "mixture undoes linear measurements, and denoise is none; take the solver back-pro",
        ),
        ("vary", {"mask": "left"}, "mixture undoes linear measurements, and vary is none"),
        ("declip", {"level": 0.2}, "mixture undoes linear measurements, and declip is none"),
        ("upscale", {"solver": "replacement"}, "a prior belongs to the solver mixture, not to replacement"),
    ],
)
def test_what_has_no_mixture_is_refused(task, options, line, prior, generator) -> None:
    with pytest.raises(ValueError, match=line):
        model().edit(task, signals(1, generator), **{"solver": "mixture", "prior": prior, **options})


def test_signals_that_make_no_mixture_are_refused_before_any_is_sampled(prior, generator, monkeypatch) -> None:
    given = {"solver": "mixture", "mask": "random:0.5"}
    with pytest.raises(ValueError, match="the prior is of signals of 192 values, and those of model have 60; give one"):
        model(modality=TensorModality(shape=(2, 30))).edit("inpaint", torch.zeros(1, 2, 30), prior=prior, **given)
    monkeypatch.setattr(mixtures, "_samples", lambda *given: pytest.fail("samples were made"))
    with pytest.raises(ValueError, match=r"at most 16,384 values, and those of model have 16,386"):
        model(modality=TensorModality(shape=(2, 8_193))).edit("inpaint", torch.zeros(1, 2, 8_193), **given)
    sound = model(modality=AudioModality(sample_rate=8_000, samples=2_000))
    with pytest.raises(ValueError, match="sees signals as they are, and that of model sees a code of them"):
        sound.edit("extend", torch.zeros(1, 1, 2_000), cutoff=900, solver="mixture")


def test_samples_that_take_too_long_are_refused_early(few, monkeypatch) -> None:
    monkeypatch.setattr(mixtures, "MOST_SECONDS", 0.0)
    counted: list[int] = []
    with pytest.raises(ValueError, match="150 samples of model would take 0 minutes, more than the 0 of the solver"):
        mixtures._samples(model(), counted.append, None)
    assert counted == [64, 64]


def test_it_has_parameters_of_its_own(prior, generator, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path))
    monkeypatch.setattr("unistep.editing.search.COARSE", {"first": (0.3, 2.0)})
    g, x = model(), signals(2, generator)
    work = make_task(g, "colorize", EditOptions())
    assert settings_key("colorize", "mixture") == "colorize-mixture"
    assert settings_of(g, work, 2, None, "mixture") == MIXTURE
    found, decibels = tune_editing(g, work, x, steps=2, rounds=1, solver="mixture", prior=prior)
    assert decibels > 0
    assert found.first < work.least_first  # the limit of guesses that know nothing of colours
    keep(g, settings_key(work.key, "mixture"), 2, found)
    assert kept(g) == {"colorize-mixture/2": found}
    assert settings_of(g, work, 2, None, "mixture") == found
    assert settings_of(g, work, 2) != found
    tuned = with_settings(model(scale=7.0), "colorize-mixture", 4, Settings(first=0.7))
    assert settings_of(tuned, work, 2, None, "mixture") == Settings(first=0.7)
    noisy = make_task(tuned, "colorize", EditOptions(sigma=0.1))
    assert settings_of(tuned, noisy, 2, None, "mixture") == Settings(first=0.7)


def test_one_network_at_two_sizes_or_on_two_paths_has_a_mixture_of_each(few: Path) -> None:
    small = model(modality=ImageModality(size=(4, 4), channels=3))
    other = unistep.Generator(unistep.Denoiser(small.map.net, TrigFlow()), modality=PICTURES)
    assert [mixture_of(g, show=False).means.shape[1] for g in (model(), small)] == [192, 48]
    mixture_of(other, show=False)
    assert len(list((few / "mixtures").iterdir())) == 3
