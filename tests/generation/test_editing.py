"""``Generator.edit`` on every kind of signal, each result its seed's, whatever it is edited with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import unistep
from analytic import WavyNet
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import TrigFlow, VarianceExploding
from unistep.editing.operators import Mask, MatrixFree, random_operator
from unistep.editing.solvers import Settings
from unistep.generation.tuning import keep, kept, tune_editing, with_settings
from unistep.modalities import AudioModality, ImageModality
from unistep.modalities.tensor import TensorModality
from unistep.modalities.video import VideoModality
from unistep.registry import entries

MODALITIES = {
    "image": ImageModality(size=(16, 12), channels=3),
    "grey": ImageModality(size=16, channels=1),
    "video": VideoModality(size=8, channels=3, frames=5),
    "sound": AudioModality(sample_rate=8_000, samples=2_000),
    "tensor": TensorModality(shape=(2, 30)),
}


def model(name: str, kind: str = "consistency") -> unistep.Generator:
    """A fixed nonlinear function of everything that it is given."""
    net = WavyNet()
    net.register_parameter("where", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    maps = {
        "consistency": lambda: ConsistencyModel(net, VarianceExploding(), boundary=0.0),
        "flow map": lambda: FlowMap(net, TrigFlow()),
        "denoiser": lambda: unistep.Denoiser(net, VarianceExploding()),
    }
    return unistep.Generator(maps[kind](), modality=MODALITIES[name])


def signals(name: str, num: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num, *MODALITIES[name].shape, generator=generator) - 0.5


CASES = {
    "image": [
        ("inpaint", {"mask": "2,2,9,9"}), ("inpaint", {"mask": "left", "sigma": 0.1}), ("colorize", {}),
        ("upscale", {"factor": 3}), ("deblur", {"kernel": "gaussian:1"}), ("denoise", {}), ("denoise", {"sigma": 0.2}),
        ("declip", {"level": 0.3}), ("outpaint", {"border": "3"}), ("vary", {"strength": 0.4}), ("sketch", {}),
    ],
    "grey": [("upscale", {"factor": 2, "sigma": 0.1}), ("deblur", {"kernel": "box:3", "sigma": 0.1})],
    "video": [
        ("inpaint", {"mask": "1:4"}), ("inpaint", {"mask": "2:3+left"}), ("predict", {"known": 2}), ("colorize", {}),
        ("upscale", {"factor": 2}), ("denoise", {}), ("vary", {}), ("deblur", {"kernel": "box:3"}),
    ],
    "sound": [
        ("inpaint", {"mask": "0.05s:0.1s"}), ("predict", {"known": 0.1}), ("extend", {"cutoff": 900}), ("denoise", {}),
        ("declip", {}), ("vary", {"mask": "0:500"}),
    ],
    "tensor": [
        ("inpaint", {"mask": "random:0.5"}), ("denoise", {"sigma": 0.1}), ("vary", {}), ("declip", {"level": 0.2}),
    ],
}  # fmt: skip
ALL = [(name, task, options) for name, cases in CASES.items() for task, options in cases]


@pytest.mark.parametrize("solver", ["back-projection", "replacement"])
@pytest.mark.parametrize(("name", "task", "options"), ALL)
def test_a_result_is_that_of_its_seed_in_any_batch(name, task, options, solver, generator) -> None:
    g, x = model(name), signals(name, 3, generator)
    whole = g.edit(task, x, degrade="strength" not in options and task not in ("vary", "sketch") and (
        "level" in options or task not in ("declip", "denoise") or "sigma" in options
    ), steps=3, seed=5, solver=solver, **options)  # fmt: skip
    assert whole.shape == x.shape
    assert whole.isfinite().all()
    plain = {"steps": 2, "seed": 5, "solver": solver}
    if task in ("upscale", "outpaint"):
        return  # inputs of another shape come from the degradation above
    together = g.edit(task, x, batch_size=3, **plain, **options)
    alone = torch.cat([g.edit(task, x[i : i + 1], **{**plain, "seed": 5 + i}, **options) for i in range(3)])
    pairs = g.edit(task, x, batch_size=2, **plain, **options)
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(together, pairs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["consistency", "flow map", "denoiser"])
def test_what_is_known_is_exact_with_every_kind_of_model(kind, generator) -> None:
    g, x = model("image", kind), signals("image", 2, generator)
    colours = g.edit("colorize", x, steps=3)
    weights = torch.tensor([0.2989, 0.5870, 0.1140]).view(3, 1, 1)
    torch.testing.assert_close((colours * weights).sum(1), (x * weights).sum(1), atol=1e-5, rtol=0)
    small = torch.nn.functional.avg_pool2d(x, 4)
    large = g.edit("upscale", small, steps=3)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 4), small, atol=1e-5, rtol=0)
    mask = torch.zeros(2, 1, 16, 12)
    mask[0, :, :5] = 1
    mask[1, :, 9:] = 1  # another for each item
    filled = g.edit("inpaint", x, mask=mask, steps=3)
    assert float(((filled - x) * (1 - mask)).abs().max()) <= 1e-5
    assert float(((filled - x) * mask).abs().max()) > 0.01


def test_video_frames_are_kept_and_the_others_made(generator) -> None:
    g, x = model("video"), signals("video", 2, generator)
    between = g.edit("inpaint", x, mask="1:4", steps=2)
    assert torch.equal(between[:, :, [0, 4]], x[:, :, [0, 4]])
    after = g.edit("predict", x, known=2, steps=2)
    assert torch.equal(after[:, :, :2], x[:, :, :2])
    assert not torch.equal(after[:, :, 2:], x[:, :, 2:])


class SumOfAll:
    """A measurement from outside, as one of another library is."""

    def A(self, x: Tensor, **kwargs: object) -> Tensor:  # noqa: N802
        return x.flatten(1).sum(dim=1, keepdim=True)

    def A_dagger(self, y: Tensor, **kwargs: object) -> Tensor:  # noqa: N802
        return (y / (3 * 16 * 12)).view(-1, 1, 1, 1).expand(-1, 3, 16, 12)


def test_an_operator_of_ones_own(generator) -> None:
    g, x = model("image"), signals("image", 2, generator)
    for operator in (random_operator((3, 16, 12), 200), SumOfAll(), Mask(torch.rand(3, 16, 12) > 0.5)):
        found = g.edit("restore", operator.A(x), operator=operator, steps=3)
        assert float((operator.A(found) - operator.A(x)).abs().max()) < 1e-4
        assert g.edit("restore", x, operator=operator, degrade=True, sigma=0.1, steps=2).isfinite().all()
    spectra = MatrixFree(torch.fft.fft2, lambda y: torch.fft.ifft2(y).real)
    torch.testing.assert_close(g.edit("restore", spectra.A(x), operator=spectra, steps=2), x, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="A_dagger of MatrixFree is no pseudo-inverse"):
        g.edit("restore", x, operator=MatrixFree(lambda x: x, lambda y: 3 * y))


@pytest.mark.parametrize(
    ("task", "options", "line"),
    [
        ("inpaint", {"mask": torch.zeros(3, 5, 5)}, r"a mask of shape \[3, 5, 5\] does not fit signals of shape"),
        ("inpaint", {"mask": "0.1s:0.2s"}, "do not last in time"),
        ("deblur", {"kernel": torch.ones(3, 3)}, "a kernel must sum to one, and this one sums to 9"),
        ("colorise", {}, "there is no task 'colorise'; did you mean 'colorize'"),
        ("inpaint", {"mask": "left", "colour": 3}, "this model has no condition 'colour'"),
        ("vary", {"solver": "ddrm"}, "unknown solver 'ddrm' of editing; valid: back-projection, mixture, replacement"),
        ("vary", {"steps": 2000}, "steps must be at most 1000"),
        ("extend", {"cutoff": 100.0}, "there is no extend of images: they are no waveforms"),
        ("compose", {"mask": "left"}, "compose needs 2 inputs, got 1"),
        ("predict", {"known": float("inf")}, "known must be a finite number, got inf"),
        ("inpaint", {"mask": np.ones((16, 12))}, "mask must be a text or a torch tensor, got ndarray"),
        ("inpaint", {"mask": torch.full((16, 12), torch.nan)}, "a mask must be truth values or real numbers"),
        ("denoise", {"sigma": 1e39}, r"sigma must be at most 1e\+06, got 1e\+39"),
        ("denoise", {"sigma": "0.1"}, "sigma must be a number, got '0.1'"),
        ("restore", {"operator": object()}, "has no method A and no method A_dagger"),
    ],
)
def test_mistakes(task, options, line, generator) -> None:
    with pytest.raises(ValueError, match=line):
        model("image").edit(task, signals("image", 2, generator), **options)


def test_inputs_of_another_shape_or_without_numbers_are_refused(generator) -> None:
    g, x = model("image"), signals("image", 2, generator)
    with pytest.raises(ValueError, match=r"vary needs signals of shape \[3, 16, 12\], got \[2, 3, 16, 10\]"):
        g.edit("vary", x[..., :10])
    with pytest.raises(ValueError, match="1 values of the input are not numbers"):
        g.edit("vary", x.masked_fill(torch.arange(x.numel()).view_as(x) == 3, float("nan")))
    with pytest.raises(ValueError, match="vary needs signals of real numbers, got complex ones"):
        g.edit("vary", x + 0j)
    with pytest.raises(ValueError, match="vary needs signals to edit"):
        g.edit("vary")
    with pytest.raises(ValueError, match="compose needs as many second inputs as first ones"):
        g.edit("compose", [x, x[:1]], mask="left")
    with pytest.raises(ValueError, match="there is no colorize of these images: they have 1 channel"):
        model("grey").edit("colorize", signals("grey", 1, generator))


def test_one_signal_is_a_batch_of_one(generator) -> None:
    g, x = model("grey"), signals("grey", 1, generator)
    torch.testing.assert_close(g.edit("vary", x[0], seed=3), g.edit("vary", x, seed=3))
    torch.testing.assert_close(g.edit("vary", x, seed=[3]), g.edit("vary", x, seed=3))


def test_parameters_are_searched_kept_and_saved_with_a_model(generator, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path))
    g, x = model("grey"), signals("grey", 2, generator)
    before = g.edit("upscale", x, degrade=True, steps=2)
    monkeypatch.setattr("unistep.editing.search.COARSE", {"first": (0.3,)})
    found, decibels = tune_editing(g, "upscale", x, steps=2, rounds=1)
    assert decibels > 0
    other = Settings(first=0.02, last=0.01)
    tuned = with_settings(g, "upscale", 2, other)
    assert (tuned.edit("upscale", x, degrade=True, steps=2) != before).any()
    assert (tuned.edit("upscale", x, degrade=True, steps=3) != g.edit("upscale", x, degrade=True, steps=3)).any()
    keep(g, "upscale", 2, found)
    assert kept(g) == {"upscale/2": found}
    assert kept(tuned) == kept(g)  # what is kept belongs to the model, however its configuration was tuned
    with pytest.raises(ValueError, match="vary undoes nothing"):
        tune_editing(g, "vary", x, steps=2)
    with pytest.raises(ValueError, match="editing must hold parameters under a task and its steps"):
        unistep.Generator(g.map, modality=MODALITIES["grey"], editing={"inpaint": other})


def test_parameters_lie_in_the_folder_of_their_model_and_go_where_it_goes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    g, found = unistep.load("fashion"), Settings(first=0.02, last=0.01)
    unistep.save(g.config, g.map.net.state_dict(), tmp_path / "mine" / "model", card="# mine\n", bits=16)
    path = keep(unistep.load(tmp_path / "mine"), "upscale", 2, found)
    assert path == tmp_path / "mine" / "model" / "editing.json"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "mine").rename(tmp_path / "moved")
    moved = unistep.load(tmp_path / "moved" / "model")
    assert kept(moved) == {"upscale/2": found}
    assert keep(moved, "upscale", 4, found).parent == tmp_path / "moved" / "model"
    assert set(kept(moved)) == {"upscale/2", "upscale/4"}
    with monkeypatch.context() as read_only:  # what is found now goes into the cache, and counts
        read_only.setattr("unistep.generation.tuning.os.access", lambda *rest: False)
        newer = Settings(first=0.04, last=0.03)
        assert keep(moved, "upscale", 2, newer).parent == tmp_path / "cache" / "editing"
        assert kept(moved) == {"upscale/2": newer, "upscale/4": found}
    assert kept(moved)["upscale/2"] == found
    with torch.no_grad():  # trained further: what was found for the former weights is none of these
        next(moved.map.net.parameters()).add_(1.0)
    assert kept(moved) == {}
    assert keep(moved, "upscale", 2, found).parent == tmp_path / "cache" / "editing"
    moved.name = "~nobody-of-that-name/" + 300 * "x"  # no folder
    assert kept(moved) == {"upscale/2": found}
    moved.name = str(tmp_path / "moved" / "model")
    (tmp_path / "moved" / "model" / "editing.json").write_text("{")
    with pytest.raises(ValueError, match=r"editing.json cannot be read \(.*; delete it, or tune again"):
        kept(moved)


def test_every_task_says_what_it_does_and_takes_options_that_there_are() -> None:
    from unistep.editing.task import OPTIONS

    for name, task in entries("task").items():
        assert task.name() == name
        assert task.summary
        assert set(task.takes) <= set(OPTIONS)
        assert set(task.needs) <= set(task.takes)
