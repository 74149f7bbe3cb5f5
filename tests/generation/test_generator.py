"""Sampling from a model: seeds, labels, steps, solvers and times, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from torch import Tensor

from analytic import GaussianDenoiser, GaussianFlow
from unistep.core.condition import LabelField, ScalarField
from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import LinearFlow, Path, VarianceExploding
from unistep.core.solvers import Solver
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.generation.requests import Request
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig

NETWORK = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, num_classes=4)
IMAGES = ImageModality(size=8, channels=1)
LABELS = {"label": LabelField(size=4, names=("shirt", "coat", "bag", "boot"))}


def make(kind: str = "consistency", path: Path | None = None, *, label: bool = True, **options) -> Generator:
    """A model that hears its label and its time loudly."""
    config = ModelConfig(
        kind=kind,  # type: ignore[arg-type]
        network=replace(NETWORK, num_classes=4 if label else 0),
        modality=IMAGES,
        path=path or VarianceExploding(),  # type: ignore[arg-type]
        fields=LABELS if label else {},
        **options,
    )
    torch.manual_seed(3)
    model = config.build()
    with torch.no_grad():
        for name, p in model.net.named_parameters():
            p.add_((0.5 if "label" in name else 0.03) * torch.randn_like(p))
    return Generator(model, config, "tiny")


@pytest.mark.parametrize("kind", ["consistency", "denoiser"])
@pytest.mark.parametrize("steps", [1, 3])
def test_an_item_belongs_to_its_seed_in_any_batch(kind: str, steps: int) -> None:
    g = make(kind)
    together = g.sample(7, seed=40, steps=steps)
    assert together.shape == (7, 1, 8, 8)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert together.std(dim=0).mean() > 1e-3  # seeds differ
    # An untrained teacher hardly shrinks the noise, which begins at 80, nor the rounding error that it brings.
    atol = 1e-4 if kind == "denoiser" and steps > 1 else 1e-5
    for batch_size in (1, 2, 3, 64):
        assert torch.allclose(g.sample(7, seed=40, steps=steps, batch_size=batch_size), together, atol=atol)
    for i in (6, 0, 3):
        assert torch.allclose(g.sample(1, seed=40 + i, steps=steps)[0], together[i], atol=atol)
    assert torch.equal(g.sample(7, seed=40, steps=steps), together)
    assert not torch.allclose(g.sample(7, seed=41, steps=steps), together, atol=1e-3)


def test_more_steps_begin_with_the_same_noise() -> None:
    """And the noise added back belongs to the item as well."""
    flow = GaussianFlow(VarianceExploding())
    g = Generator(flow, make(label=False).config)
    one, two = g.sample(4, seed=9, steps=1), g.sample(4, seed=9, steps=2, batch_size=3)
    assert one.flatten(1).std(dim=1).min() > 0
    assert not torch.equal(one, two)
    assert torch.allclose(two[3:], g.sample(1, seed=12, steps=2), atol=1e-6)


def test_labels_by_number_name_and_sequence() -> None:
    g = make()
    by_number = g.sample(3, seed=1, label=2)
    assert torch.equal(g.sample(3, seed=1, label="bag"), by_number)
    assert torch.equal(g.sample(3, seed=1, label="2"), by_number)
    assert torch.equal(g.sample(3, seed=1, label=["bag", 2, "BAG"]), by_number)
    assert (g.sample(3, seed=1, label=0) - by_number).abs().max() > 1e-3
    mixed = g.sample(3, seed=1, label=[0, 1, 2], batch_size=2)
    for i in range(3):
        assert torch.allclose(mixed[i], g.sample(1, seed=1 + i, label=i)[0], atol=1e-5)


def test_a_label_that_is_not_given_is_drawn_from_the_seed() -> None:
    g = make()
    free = g.sample(40, seed=100)
    told = torch.stack([g.sample(40, seed=100, label=label) for label in range(4)])
    same = (told - free).abs().amax(dim=(2, 3, 4)) < 1e-5  # [label, item]
    assert (same.sum(dim=0) == 1).all()
    assert same.sum(dim=1).min() >= 3  # every label comes up
    # The noise is that of the seed whether or not the label was drawn.
    assert torch.allclose(g.sample(1, seed=105)[0], free[5], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": -3}, "steps must be at least 1, got -3"),
        ({"steps": 1001}, "steps must be at most 1000, got 1001"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"steps": "4"}, "steps must be a whole number, got '4'"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"num": 0}, "num must be at least 1, got 0"),
        ({"num": -1}, "num must be at least 1, got -1"),
        ({"num": 2.0}, "num must be a whole number, got 2.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, r"seed must be from 0 to 2\*\*63"),
        ({"seed": 2**63}, r"seed must be from 0 to 2\*\*63"),
        ({"seed": 1.0}, "seed must be a whole number, or one for each sample, got 1.0"),
        ({"label": 4}, r"label must be 0 to 3 \(0 shirt, 1 coat, 2 bag, 3 boot\), got 4"),
        ({"label": -1}, "label must be 0 to 3"),
        (
            {"label": "shrit"},
            "label must be 0 to 3 \\(0 shirt, 1 coat, 2 bag, 3 boot\\), got 'shrit'; did you mean 'shirt'",
        ),
        ({"num": 2, "label": [1, 2, 3]}, "label has 3 values for 2 samples; give one, or one for each"),
        ({"lable": 1}, "this model has no condition 'lable'; it takes label"),
    ],
)
@pytest.mark.parametrize("kind", ["consistency", "denoiser"])
def test_mistakes_are_one_clear_line(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(kind).sample(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_only_a_teacher_takes() -> None:
    teacher, student = make("denoiser"), make()
    for options in ({"solver": "heun"}, {"guidance": 2.0}):
        with pytest.raises(ValueError, match="tiny is a one-step model: it takes neither a solver nor guidance"):
            student.sample(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown solver 'hein'; did you mean 'heun'"):
        teacher.sample(solver="hein")  # type: ignore[arg-type]
    for guidance in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="guidance must be a finite number"):
            teacher.sample(guidance=guidance)
    with pytest.raises(ValueError, match="tiny takes no condition that guidance could strengthen; leave it at 1"):
        make("denoiser", label=False).sample(guidance=2.0)
    with pytest.raises(ValueError, match="it takes none: it is unconditional"):
        make(label=False).sample(label=1)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
def test_every_solver_follows_every_path(solver: Solver, path: Path) -> None:
    """For Gaussian data the end of the trajectory of each noise is known: the quantile of the same rank."""
    mean, std, steps = 0.1, 0.2, {"euler": 300, "heun": 40, "dpmpp2m": 60}[solver]
    config = replace(make("denoiser", label=False).config, path=path)
    x = Generator(GaussianDenoiser(path, mean, std), config).sample(6, seed=5, steps=steps, solver=solver)
    one = Generator(GaussianFlow(path, mean, std, 0.0), replace(config, kind="consistency")).sample(6, seed=5, steps=1)
    assert (x - one).abs().max() < 0.03
    assert one.std() == pytest.approx(std, rel=0.15)


def test_samples_are_clamped() -> None:
    g = Generator(GaussianFlow(VarianceExploding(), 0.0, 3.0), make(label=False).config)
    x = g.sample(8)
    assert float(x.max()) == 1.0
    assert float(x.min()) == -1.0


class Counting(Denoiser):
    """Counts its calls."""

    calls = 0

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        self.calls += 1
        return x / (1 + t[0])


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m"])
@pytest.mark.parametrize("steps", [1, 5])
def test_network_calls_are_counted_right(solver: Solver, steps: int) -> None:
    config = make("denoiser", label=False, solver=solver, steps=steps).config
    counting = Counting(torch.nn.Linear(1, 1), config.path)
    g = Generator(counting, config)
    g.sample(2)
    assert counting.calls == g.network_calls() == g.network_calls(steps, solver)
    assert g.network_calls(steps, "euler") == steps
    assert make().network_calls() == 1
    assert make().network_calls(4) == 4


class Items(torch.nn.Module):
    """Counts the items that go through the network."""

    items = 0

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        self.items += len(x)
        return torch.zeros_like(x)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5])
def test_guidance_doubles_the_calls(guidance: float) -> None:
    config = make("denoiser").config
    net = Items()
    g = Generator(Denoiser(net, config.path), config)
    g.sample(3, steps=4, solver="heun", guidance=guidance)
    assert net.items == 3 * g.network_calls(4, "heun", guidance)
    assert g.network_calls(4, "heun", guidance) == (7 if guidance == 1 else 14)
    assert make().network_calls(4, guidance=1.0) == 4


def told(kind: str = "consistency", default: float | None = 1.5) -> Generator:
    """A one-step model that takes the guidance weight as a condition, and hears it loudly."""
    config = ModelConfig(
        kind=kind,  # type: ignore[arg-type]
        network=replace(NETWORK, scalars={"guidance": 4.0}, second_time=kind == "flow_map"),
        modality=IMAGES,
        fields={**LABELS, "guidance": ScalarField(low=1, high=4, default=default)},
    )
    torch.manual_seed(3)
    model = config.build()
    with torch.no_grad():
        for name, p in model.net.named_parameters():
            p.add_((0.5 if "label" in name or "scalars" in name else 0.03) * torch.randn_like(p))
    return Generator(model, config, "told")


@pytest.mark.parametrize("kind", ["consistency", "flow_map"])
def test_a_model_that_is_told_the_weight_takes_it_at_no_cost(kind: str) -> None:
    g = told(kind)
    usual = g.sample(3, seed=5, label=1)
    assert torch.equal(usual, g.sample(3, seed=5, label=1, guidance=1.5))
    by_weight = torch.stack([g.sample(3, seed=5, label=1, guidance=w) for w in (1, 2.5, 4.0)])
    assert (by_weight[1:] - by_weight[:-1]).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-3
    mixed = g.sample(3, seed=5, label=1, guidance=[1, 2.5, 4.0], batch_size=2)
    for i in range(3):
        # A flow map subtracts numbers of up to 80 from each other, whose last digit is 8e-6.
        assert torch.allclose(mixed[i], by_weight[i, i], atol=5e-5)
    assert g.guidance == 1.5
    for weight in (None, 1.0, 2.5):
        assert g.network_calls(2, guidance=weight) == 2
    net = Items()
    Generator(type(g.map)(net, g.config.path), g.config).sample(3, steps=2, guidance=2.5)
    assert net.items == 3 * 2


def test_a_weight_belongs_to_the_condition_and_not_to_the_seed() -> None:
    """Labels that are not given are drawn as in a model without the field; a weight without a default as any field."""
    g, plain = told(), make()
    seen: list[dict[str, Tensor]] = []
    for model in (g, plain):
        model.map.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3]))
        model.sample(6, seed=7)
    assert torch.equal(seen[0]["label"].index, seen[1]["label"].index)
    assert seen[0]["guidance"].value.tolist() == [1.5] * 6
    assert "guidance" not in seen[1]
    drawn = told(default=None)
    assert torch.equal(drawn.sample(3, seed=7), drawn.sample(3, seed=7))
    assert drawn.guidance == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": 0.5}, "guidance must be a number from 1 to 4, got '0.5'"),
        ({"guidance": float("nan")}, "guidance must be a number from 1 to 4, got 'nan'"),
        ({"guidance": [2.0, 3.0], "num": 3}, "guidance has 2 values for 3 samples"),
        ({"guidance": 2.0, "solver": "heun"}, "told is a one-step model: it takes no solver"),
    ],
)
def test_a_weight_that_the_model_does_not_know_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        told().sample(**options)
    with pytest.raises(ValueError, match="guidance must be a finite number, got"):
        make("denoiser").sample(guidance=[2.0])


@pytest.mark.parametrize("kind", ["consistency", "denoiser", "flow_map"])
def test_times_of_ones_own_take_the_place_of_the_grid(kind: str, path: Path) -> None:
    config = make("consistency" if kind == "flow_map" else kind, path).config
    network = replace(config.network, second_time=kind == "flow_map")
    config = replace(config, kind=kind, network=network, steps=1)  # type: ignore[arg-type]
    torch.manual_seed(3)
    model = config.build()
    with torch.no_grad():
        for p in model.net.parameters():
            p.add_(0.03 * torch.randn_like(p))
    g = Generator(model, config)
    grid = g.times(3)
    usual = g.sample(2, steps=3, seed=4)
    for times in (grid, grid.tolist(), tuple(grid.tolist())):
        assert torch.equal(g.sample(2, times=times, seed=4), usual)
        assert torch.equal(g.sample(2, times=times, steps=3, seed=4, batch_size=1)[:1], g.sample(1, steps=3, seed=4))
    ours = [float(grid[0]), float(grid[1] * 0.9), float(grid[2])]
    assert (g.sample(2, times=ours, seed=4) - usual).abs().max() > 1e-6
    assert g.sample(2, times=ours[:2]).shape == (2, 1, 8, 8)


def test_the_first_of_ones_own_times_sets_the_noise() -> None:
    """On Gaussian data a map that starts at another time answers another point of its own trajectory."""
    flow = GaussianFlow(VarianceExploding(), 0.0, 0.2, 0.0)
    g = Generator(flow, make(label=False).config)
    high, low = g.sample(4, times=[80.0]), g.sample(4, times=[0.5])
    # f(t z, t) = z t std / sqrt(std^2 + t^2)
    assert torch.allclose(low / high, torch.full_like(high, 0.5 / (0.5**2 + 0.2**2) ** 0.5), atol=1e-3)


@pytest.mark.parametrize("kind", ["consistency", "denoiser"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": []}, r"times must hold one time or more"),
        ({"times": [2.5, 80.0]}, r"times must decrease from step to step, got 2.5, 80"),
        ({"times": [80.0, 2.5, 2.5]}, r"times must decrease from step to step, got 80, 2.5, 2.5"),
        ({"times": [80.0, 80.0 - 1e-9]}, r"times must decrease"),
        ({"times": [80.0, 0.0]}, r"times must be from 0.002 to 80, the path's range, got 80, 0"),
        ({"times": [80.0, -1.0]}, r"times must be from 0.002 to 80"),
        ({"times": [80.0, float("nan")]}, r"times must be from 0.002 to 80"),
        ({"times": [float("inf"), 1.0]}, r"times must be from 0.002 to 80"),
        ({"times": [81.0]}, r"times must be from 0.002 to 80, the path's range, got 81"),
        ({"times": 80.0}, r"times must be a sequence of numbers, such as \(80.0, 2.5\), got 80.0"),
        ({"times": "a b"}, r"times must be a sequence of numbers"),
        ({"times": [80.0, None]}, r"times must be a sequence of numbers"),
        ({"times": [80.0, 2.5], "steps": 3}, r"there are 2 times for 3 steps; give one time for each step, or no"),
        ({"times": [80 - i / 100 for i in range(1001)]}, r"steps must be at most 1000, got 1001"),
    ],
)
def test_times_that_cannot_be_sampled_at(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(kind).sample(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["consistency", "denoiser"])
@pytest.mark.parametrize("steps", [1, 2, 5, 18])
def test_times_fall_from_the_first(kind: str, steps: int, path: Path) -> None:
    times = make(kind, path).times(steps)
    assert times.shape == (steps,)
    assert float(times[0]) == pytest.approx(path.t_max)
    assert (times.diff() < 0).all()
    assert float(times[-1]) >= path.t_min * 0.99
    ratio = path.ratio(times[-1:])
    assert ratio.isfinite().all() or (isinstance(path, LinearFlow) and steps == 1)


def test_times_that_a_search_has_found_are_used() -> None:
    g = make(times={"2": (80.0, 0.6)})
    assert g.times(2).tolist() == pytest.approx([80.0, 0.6])
    assert g.times(3).shape == (3,)
    plain = make()
    assert not torch.allclose(g.sample(2, steps=2), plain.sample(2, steps=2), atol=1e-4)
    assert torch.equal(g.sample(2, steps=3), plain.sample(2, steps=3))
    assert make("denoiser", times={"2": (80.0, 0.6)}).times(2)[1] < 0.1  # of a student only


@pytest.mark.parametrize("times", [{"2": (80.0,)}, {"2": (1.0, 2.0)}, {"0": ()}, {"x": (1.0,)}, {"2": (1.0, 0.0)}])
def test_times_that_cannot_be(times: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="times must hold N decreasing positive times under the key 'N'"):
        make(times=times)


def test_models_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="unknown kind 'teacher'; valid: consistency, denoiser"):
        make("teacher")
    with pytest.raises(ValueError, match="steps must be from 1 to 1000, got 0"):
        make(steps=0)


def test_guidance_moves_away_from_the_unconditional(tmp_path: FilePath) -> None:
    g = make("denoiser")
    free, told, pushed = (g.sample(2, seed=3, steps=3, label=1, guidance=w) for w in (0.0, 1.0, 2.0))
    assert (told - free).abs().max() > 1e-4
    assert (pushed - told).abs().max() > 1e-4
    assert torch.allclose(g.sample(3, seed=3, steps=3, label=1, guidance=2.0)[:2], pushed, atol=1e-5)


def test_what_it_says_of_itself(tmp_path: FilePath) -> None:
    g = make()
    assert (g.kind, g.shape, g.name, g.device) == ("consistency", (1, 8, 8), "tiny", torch.device("cpu"))
    assert g.to("cpu") is g
    assert isinstance(g.map, ConsistencyModel)
    assert not g.map.training
    g.save(g.sample(4), tmp_path / "out.png")
    g.save(g.sample(4), tmp_path / "out.npz")
    assert (tmp_path / "out.png").stat().st_size > 0
    assert np.load(tmp_path / "out.npz")["arr_0"].shape == (4, 8, 8, 1)


def test_dropout_is_off() -> None:
    config = replace(make().config, network=replace(NETWORK, dropout=0.5))
    torch.manual_seed(0)
    model = config.build()
    model.train()
    g = Generator(model, config)
    assert torch.equal(g.sample(2, steps=2), g.sample(2, steps=2))


def test_a_weight_in_the_condition_of_a_request_counts() -> None:
    g = told()
    wanted = g.sample(seed=5, label=1, guidance=4.0)
    asked = g.sample_requests([Request(seed=5, condition={"label": 1, "guidance": 4.0})])
    assert torch.equal(asked, wanted)
    with pytest.raises(ValueError, match=r"given twice, as 2.0 and as 4.0 in the condition"):
        g.sample_requests([Request(seed=5, guidance=2.0, condition={"label": 1, "guidance": 4.0})])


def test_edits_under_a_condition_have_the_weight_that_samples_have() -> None:
    """And none where there is no condition that it could strengthen, as in training."""
    g, x = told(), torch.zeros(2, 1, 8, 8)
    assert torch.equal(g.edit("vary", x, label=1), g.edit("vary", x, label=1, guidance=1.5))
    seen: list[Tensor] = []
    g.map.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3]["guidance"].value))
    g.edit("vary", x, label=[1, None], steps=1)
    assert seen[0].nan_to_num(-1).tolist() == [1.5, -1]


def test_seeds_may_be_numbers_of_any_library() -> None:
    g = make()
    wanted = g.sample(seed=[4, 5], label=1)
    for seeds in (torch.tensor([4, 5]), np.array([4, 5])):
        assert torch.equal(g.sample(seed=seeds, label=1), wanted)
    assert torch.equal(g.sample(2, seed=torch.tensor(4), label=1), wanted)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        g.sample(seed=torch.tensor([4.0]))
