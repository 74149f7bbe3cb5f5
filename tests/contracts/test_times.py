"""Times broadcast: each frame of a signal may have its own, in every path, map, solver, sampler, objective and network.

Equal times give what one time gives, and a network that treats frames independently gives each frame what its own time
alone gives. Both sides compute the same numbers in the same order, save that vectorised functions may round the last
digit otherwise; a bound is that digit times the operations of a chain.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from analytic import ANY_PATH
from unistep import registry
from unistep.core.condition import as_condition
from unistep.core.flowmap import AnyDenoiser, ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser, c_noise
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, expand_to, match_snr
from unistep.core.sampling import sample_gamma, sample_multistep, sample_one_step, trace_gamma, trace_multistep
from unistep.core.solvers import ODESolver, network_calls, sample_ode, trace_ode
from unistep.nets.unet import UNetConfig
from unistep.objectives.adversarial import AdversarialConfig
from unistep.objectives.base import ObjectiveConfig, item_level
from unistep.objectives.distance import L1, PseudoHuber, SquaredL2, weighted_distance

BATCH, FRAMES = 2, 3
SHAPE = (BATCH, 1, FRAMES, 2, 2)
DOUBLE = torch.float64
EPS = torch.finfo(DOUBLE).eps


@pytest.fixture(params=ANY_PATH)
def path(request: pytest.FixtureRequest) -> Path:
    """Each path of the package, and one from elsewhere, in turn."""
    return ANY_PATH[request.param]


class FrameNet(nn.Module):
    """A network from elsewhere: each element of the signal by itself, at its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.3, dtype=DOUBLE))
        self.shape: torch.Size | None = None

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        if torch.is_grad_enabled() or self.shape is None:  # targets may be asked for a part of the batch
            self.shape = t.shape
        phase = expand_to(t, x) if s is None else expand_to(t, x) + 0.5 * expand_to(s, x)
        shift = 0.0
        if isinstance(condition, dict) and "label" in condition:
            shift = expand_to(condition["label"].index.to(x), x)
        return self.gain * (x + phase + shift).sin() + 0.2


def close(found: Tensor, wanted: Tensor, operations: int = 100) -> None:
    """Equal up to a last digit in each of a number of operations."""
    scale = wanted.detach().abs().max().item()
    torch.testing.assert_close(found, wanted, rtol=operations * EPS, atol=operations * EPS * scale)


def signal(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def levels(path: Path, low: float, high: float) -> Tensor:
    """A time for each frame, shape ``[b, 1, frames, 1, 1]``, with noise to signal ratios from ``low`` to ``high``."""
    ratios = torch.logspace(0, 1, BATCH * FRAMES, high / low, dtype=DOUBLE) * low
    return path.time_at(ratios).view(BATCH, 1, FRAMES, 1, 1)


def check(fn: Callable[..., Tensor], *times: Tensor) -> None:
    """``fn`` of times that differ from frame to frame, and of times that do not."""
    alone = [fn(*(t[:, 0, k, 0, 0] for t in times))[:, :, k] for k in range(FRAMES)]
    close(fn(*times), torch.stack(alone, dim=2))
    one = [t[:, 0, 0, 0, 0] for t in times]
    close(fn(*(t.view(BATCH, 1, 1, 1, 1).expand(BATCH, 1, FRAMES, 1, 1) for t in one)), fn(*one))


@pytest.mark.parametrize("target", ANY_PATH)
def test_paths(path: Path, target: str) -> None:
    x0, noise, t = signal(), signal(1), levels(path, 0.1, 5.0)
    check(lambda t: path.perturb(x0, noise, t), t)
    check(lambda t: path.velocity(x0, noise, t), t)
    check(lambda t: path.velocity_from_denoised(noise, x0, t), t)
    check(lambda t: path.denoised_from_velocity(noise, x0, t), t)
    check(lambda t: match_snr(x0, t, path, ANY_PATH[target])[0], t)
    moved = match_snr(x0, t, path, ANY_PATH[target])[1]
    assert moved.shape == t.shape
    assert c_noise(path, t).shape == t.shape


def test_times_of_another_shape_are_refused() -> None:
    x = signal()
    for wrong in ((BATCH, 1, 2, 1, 1), (BATCH, FRAMES), (BATCH, 2, 1, 1, 1)):
        with pytest.raises(ValueError, match=r"times must have shape \[2\] or broadcast against a signal of shape"):
            expand_to(torch.ones(wrong), x)


def test_maps(path: Path) -> None:
    x, t, s = signal(), levels(path, 0.1, 5.0), levels(path, 0.05, 3.0)
    condition = as_condition({"label": torch.tensor([0, 2])})
    for model in (Denoiser(FrameNet(), path), ConsistencyModel(FrameNet(), path), FlowMap(FrameNet(), path)):
        check(lambda t, model=model: model(x, t, None, condition), t)
    guided = GuidedDenoiser(Denoiser(FrameNet(), path), 1.7)
    check(lambda t: guided(x, t, None, condition), t)
    flow = FlowMap(FrameNet(), path)
    check(lambda t, s: flow(x, t, s, condition), t, s)
    check(lambda t, s: flow.velocity(x, t, s, condition), t, s)
    # One of the two times may be common to all frames.
    common = s[:, 0, 0, 0, 0]
    close(flow(x, t, common), flow(x, t, common.view(BATCH, 1, 1, 1, 1)))
    close(flow(x, t, t), x)


class Midpoint(ODESolver):
    """A solver from elsewhere."""

    calls = 2

    def step(self, denoiser: AnyDenoiser, x: Tensor, t: Tensor, s: Tensor, condition: object) -> Tensor:
        path, half = denoiser.path, (t + s) / 2
        v = path.velocity_from_denoised(x, denoiser(x, t), t)
        middle = x + (expand_to(half, x) - expand_to(t, x)) * v
        v = path.velocity_from_denoised(middle, denoiser(middle, half), half)
        return x + (expand_to(s, x) - expand_to(t, x)) * v


@pytest.fixture
def midpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(registry._added["solver"], "midpoint", Midpoint)
    return "midpoint"


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m", "midpoint"])
def test_solvers(path: Path, solver: str, midpoint: str) -> None:
    denoiser, noise = Denoiser(FrameNet(), path), signal()
    times = [levels(path, *ends) for ends in ((2.0, 9.0), (0.5, 2.0), (0.2, 0.9))]
    check(lambda *times: sample_ode(denoiser, noise, times, solver=solver), *times)
    assert network_calls(solver, 3) == (5 if solver in ("heun", midpoint) else 3)


def test_a_frame_may_wait_for_the_others() -> None:
    """As in generation from frame to frame: a frame that stays at its time is left as it is."""
    path = VarianceExploding()
    denoiser, noise = Denoiser(FrameNet(), path), signal()
    grid = [5.0, 2.0, 1.0, 0.4]
    for solver in ("euler", "heun", "dpmpp2m"):
        alone = sample_ode(denoiser, noise, grid, solver=solver)
        times = torch.tensor([[5.0, 5.0, 5.0], [2.0, 5.0, 5.0], [1.0, 2.0, 5.0], [0.4, 1.0, 5.0]], dtype=DOUBLE)
        rest = torch.tensor([[0.4, 0.4, 2.0], [0.4, 0.4, 1.0], [0.4, 0.4, 0.4]], dtype=DOUBLE)
        steps = [t.view(1, 1, FRAMES, 1, 1).expand(BATCH, 1, FRAMES, 1, 1) for t in torch.cat([times, rest])]
        close(sample_ode(denoiser, noise, steps, solver=solver), alone, 200)


def samplers(path: Path) -> dict[str, Callable[..., Tensor]]:
    """Every sampler as a function of noise, times and hooks, its randomness fixed."""
    consistency, flow, denoiser = (kind(FrameNet(), path) for kind in (ConsistencyModel, FlowMap, Denoiser))

    def seeded(sampler: Callable[..., Tensor], model: object, **options: float) -> Callable[..., Tensor]:
        def run(noise: Tensor, times: object, **hooks: object) -> Tensor:
            return sampler(model, noise, times, generator=torch.Generator().manual_seed(5), **options, **hooks)

        return run

    return {
        "multistep": seeded(sample_multistep, consistency),
        "ode": seeded(sample_ode, denoiser),
        **{f"gamma {gamma}": seeded(sample_gamma, flow, gamma=gamma) for gamma in (0.0, 0.5, 1.0)},
    }


SAMPLERS = sorted(samplers(VarianceExploding()))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(path: Path, name: str) -> None:
    sample, noise = samplers(path)[name], signal()
    times = [levels(path, *ends) for ends in ((2.0, 9.0), (0.5, 2.0), (0.2, 0.9))]
    check(lambda *times: sample(noise, times), *times)
    check(lambda *times: sample(noise, times, start=signal(7), project=lambda x0, t: x0.clamp(-0.4, 0.4)), *times)


@pytest.mark.parametrize("name", SAMPLERS)
def test_times_may_be_numbers_or_tensors(name: str) -> None:
    sample, noise = samplers(VarianceExploding())[name], signal()
    wanted = sample(noise, torch.tensor([80.0, 1.0], dtype=DOUBLE))
    for times in ([80.0, 1.0], (80, torch.tensor(1.0)), [torch.full((BATCH,), 80.0), 1.0]):
        assert torch.equal(sample(noise, times), wanted)
    for wrong, message in (
        ([], "times must hold one time or more"),
        ([torch.ones(BATCH + 1)], "times must have one entry for each of the 2 items, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(noise, wrong)


@pytest.mark.parametrize("name", SAMPLERS)
def test_hooks(path: Path, name: str) -> None:
    sample, noise, x0 = samplers(path)[name], signal(), signal(1)
    times = path.time_at(torch.tensor([9.0, 2.0, 0.5], dtype=DOUBLE))
    plain = sample(noise, times)
    asked: list[Tensor] = []

    def same(x0: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return x0

    assert torch.equal(sample(noise, times, project=same), plain)
    assert len(asked) == (network_calls("heun", 3) if name == "ode" else 3)
    known = torch.zeros(SHAPE, dtype=torch.bool)
    known[..., 0] = True
    held = sample(noise, times, project=lambda estimate, t: torch.where(known, x0, estimate))
    assert torch.equal(held[known], x0[known])
    # From a signal at little noise a sampler ends near what the map makes of that signal, not of pure noise.
    first = times[-1:]
    by_hand = {"multistep": ConsistencyModel, "ode": Denoiser}.get(name, FlowMap)(FrameNet(), path)
    t = first.expand(BATCH)
    close(sample(noise, first, start=x0), by_hand(path.perturb(x0, noise, t), t))
    with pytest.raises(ValueError, match="start must have the shape of the noise"):
        sample(noise, times, start=x0[:1])


def test_gamma_of_one_is_multistep_sampling() -> None:
    """With every jump to the boundary, gamma sampling and multistep sampling are one method, hooks included."""
    path = VarianceExploding()
    options = {"start": signal(2), "project": lambda x0, t: x0.clamp(-0.5, 0.5)}
    same = FrameNet()
    source = [torch.Generator().manual_seed(1) for _ in range(2)]
    times = [9.0, 2.0, 0.5]
    flow = sample_gamma(FlowMap(same, path, boundary=0.0), signal(), times, gamma=1.0, generator=source[0], **options)

    class Jumps(ConsistencyModel):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            return FlowMap(same, path, boundary=0.0)(x, t)

    jumps = sample_multistep(Jumps(same, path, boundary=0.0), signal(), times, generator=source[1], **options)
    close(flow, jumps)


def test_traces_end_with_the_sample() -> None:
    path, noise, times = VarianceExploding(), signal(), [9.0, 2.0, 0.5]
    hooks = {"start": signal(1), "project": lambda x0, t: 0.9 * x0}
    for trace, sample, kind in (
        (trace_multistep, sample_multistep, ConsistencyModel),
        (trace_gamma, sample_gamma, FlowMap),
        (trace_ode, sample_ode, Denoiser),
    ):
        model = kind(FrameNet(), path)
        states = list(trace(model, noise, times, generator=torch.Generator().manual_seed(3), **hooks))
        assert len(states) == 3
        assert torch.equal(states[-1], sample(model, noise, times, generator=torch.Generator().manual_seed(3), **hooks))
    model = ConsistencyModel(FrameNet(), path)
    assert torch.equal(sample_one_step(model, noise, **hooks), sample_multistep(model, noise, [path.t_max], **hooks))


@pytest.mark.parametrize("distance", [SquaredL2(), L1(), PseudoHuber(c=0.3), PseudoHuber()], ids=repr)
def test_distances(distance: Callable[..., Tensor]) -> None:
    x, y, weight = signal(), signal(1), torch.tensor([0.5, 7.0], dtype=DOUBLE)
    each = weight.view(BATCH, 1, 1, 1, 1).expand(BATCH, 1, FRAMES, 1, 1)
    close(weighted_distance(distance, x, y, each)[0], weight * distance(x, y))
    close(weighted_distance(distance, x, y, weight)[0], weight * distance(x, y))
    only = torch.zeros(BATCH, 1, FRAMES, 1, 1, dtype=DOUBLE)
    only[:, :, 1] = 3
    moved = x.clone()
    moved[:, :, [0, 2]] += 1
    close(distance(moved, y, only), distance(x, y, only))
    assert (distance(x + only, y, only) - distance(x, y, only)).abs().min() > 0


def config_of(name: str, **options: object) -> ObjectiveConfig:
    return registry.lookup("objective", name)(**options)


def maps_for(config: ObjectiveConfig, path: Path) -> tuple[nn.Module, nn.Module]:
    boundary = 0.0 if config.trains is not Denoiser else None
    made = [
        kind(FrameNet(), path, *((0.5, boundary) if kind is not Denoiser else ()))
        for kind in (config.trains, config.teacher_kind)
    ]
    with torch.no_grad():
        made[1].net.gain.fill_(0.9)
    return made[0], made[1]


OBJECTIVES = registry.names("objective")
SUPPORTED = [name for name in OBJECTIVES if registry.lookup("objective", name).supports_level_axes]
ON = {"scm": TrigFlow(), "meanflow": LinearFlow(), "meanflow-distillation": LinearFlow(), "imf": LinearFlow()}
EXTRA = {"ect": {"target": "heun"}, "pcm": {"target": "euler"}, "scm": {"target": "teacher"}, "ctm": {"levels": 6}}


@pytest.mark.parametrize("name", SUPPORTED)
def test_objectives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x0 = ON.get(name, VarianceExploding()), signal()
    found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for case, axes in (("one", ()), ("equal", (1,)), ("different", (1,))):
        config = config_of(name, level_axes=axes, **EXTRA.get(name, {}))
        student, teacher = maps_for(config, path)
        objective = config.build(student, teacher)
        with monkeypatch.context() as patch:
            if case == "equal":  # the same draws, one for each item, in the shape of levels
                patch.setattr(ObjectiveConfig, "level_shape", lambda self, x0: (len(x0), 1, 1, 1, 1))
            loss = objective(x0, {}, generator=torch.Generator().manual_seed(4), progress=0.4)
        gradient = torch.autograd.grad(loss.per_example.sum(), student.net.gain)[0]
        assert loss.per_example.shape == (BATCH,)
        assert loss.per_example.isfinite().all()
        assert gradient.isfinite()
        assert loss.level is not None
        assert loss.level.shape == (BATCH,)
        found[case] = (loss.per_example.detach(), loss.level, gradient)
        wanted = {"one": (BATCH,), "equal": (BATCH, 1, 1, 1, 1), "different": (BATCH, 1, FRAMES, 1, 1)}
        assert student.net.shape == wanted[case]
    for one, equal in zip(found["one"], found["equal"], strict=True):
        # Differences of close answers keep the roundings of both: the times themselves are drawn in float32.
        torch.testing.assert_close(equal, one, rtol=1e5 * EPS, atol=1e5 * EPS)
    assert not torch.equal(found["one"][0], found["different"][0])


def test_denoising_of_different_levels_is_the_mean_over_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    path, x0, t = VarianceExploding(), signal(), levels(VarianceExploding(), 0.1, 5.0)
    config = config_of("denoising", level_axes=(1,))
    laws = type(config.times)  # type: ignore[attr-defined]

    def loss(sigma: Tensor, x0: Tensor, axes: tuple[int, ...]) -> Tensor:
        monkeypatch.setattr(laws, "draw", lambda *_: sigma)
        config = config_of("denoising", level_axes=axes)
        torch.manual_seed(0)
        return config.build(Denoiser(FrameNet(), path), None)(x0, {}, generator=None, progress=0.0).per_example

    monkeypatch.setattr("unistep.objectives.denoising.randn_like", lambda x, _: 0.5 * x.roll(1, 0))
    alone = [loss(t[:, 0, k, 0, 0], x0[:, :, k : k + 1], ()) for k in range(FRAMES)]
    close(loss(t, x0, (1,)), torch.stack(alone).mean(dim=0))


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in SUPPORTED])
def test_objectives_of_one_level_say_so(name: str) -> None:
    with pytest.raises(ValueError, match=r"Config has one noise level for each item, so level_axes must be empty"):
        config_of(name, level_axes=(1,))


def test_impossible_axes_are_refused() -> None:
    for wrong in ((1, 1), (-1,)):
        with pytest.raises(ValueError, match="level_axes must be different axes, 0 for the channels"):
            config_of("ect", level_axes=wrong)
    with pytest.raises(ValueError, match=r"level_axes must be axes of a signal of shape \(1, 3, 2, 2\), from 0 to 3"):
        config_of("ect", level_axes=(4,)).level_shape(signal())
    assert config_of("ect", level_axes=(1, 3)).level_shape(signal()) == (BATCH, 1, FRAMES, 1, 2)
    assert config_of("pcm", level_axes=(1,), adversarial=AdversarialConfig()).level_shape(signal())[2] == FRAMES
    assert item_level(torch.tensor([[[1.0, 4.0]]])).tolist() == pytest.approx([2.0])


def unet(dims: int, **options: object) -> nn.Module:
    torch.manual_seed(0)
    net = UNetConfig(
        channels=2, dims=dims, widths=(8, 12), blocks=(1, 1), embedding_dim=8, head_dim=4, second_time=True, **options
    ).build()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.double().eval()


@pytest.mark.parametrize(
    ("dims", "options"),
    [
        (1, {}),
        (2, {"double_norm": True, "position_sizes": (8, 8), "basis_functions": 4}),
        (2, {"margin": 4, "patch": 1}),
        (3, {"patch": 2}),
    ],
)
def test_the_unet(dims: int, options: dict[str, object]) -> None:
    net, sizes = unet(dims, **options), (8,) * dims
    x = torch.randn(BATCH, 2, *sizes, dtype=DOUBLE)
    t, s = torch.tensor([0.3, -0.7], dtype=DOUBLE), torch.tensor([-0.9, 0.1], dtype=DOUBLE)

    def spread(t: Tensor, axis: int | None) -> Tensor:
        each = [n if axis is None or axis == a else 1 for a, n in enumerate(sizes)]
        return t.view(BATCH, *[1] * (dims + 1)).expand(BATCH, 1, *each)

    wanted = net(x, t, s)
    for axis in (*range(dims), None):
        # Every sum over the channels and taps of a layer rounds once a term: some thousand in all.
        close(net(x, spread(t, axis), spread(s, axis)), wanted, 5000)
        close(net(x, spread(t, axis), s), wanted, 5000)
    moved = spread(t, 0).clone()
    moved[:, :, 0] += 0.5
    assert (net(x, moved, s) - wanted).abs().amax() > 1e-6
    with pytest.raises(ValueError, match=r"times of shape \[2\] or \[2, 1, \.\.\.\] that broadcast"):
        net(x, torch.ones(BATCH, 1, *(n // 2 for n in sizes), dtype=DOUBLE), s)


@pytest.mark.parametrize("name", ["scm", "meanflow"])
def test_a_unet_follows_tangents_with_a_level_for_each_frame(name: str) -> None:
    """The exact derivative and the difference quotient agree: all times move, each at its own rate."""
    losses = []
    tangent = {"scm": "derivative", "meanflow": "tangent"}[name]
    for method in ("exact", "finite"):
        config = config_of(name, level_axes=(1,), **{tangent: method})
        net = (
            unet(1)
            if name == "meanflow"
            else UNetConfig(channels=2, dims=1, widths=(8, 12), blocks=(1, 1), embedding_dim=8, head_dim=4)
            .build()
            .double()
        )
        torch.manual_seed(1)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(0.3 * torch.randn_like(p))
        student = config.trains(net, ON[name], 0.5, 0.0)
        x0 = torch.randn(BATCH, 2, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
        loss = config.build(student, None)(x0, {}, generator=torch.Generator().manual_seed(4), progress=0.5)
        losses.append(loss.per_example)
    # The quotient's error is of the order of its step's square, 1e-6, times third derivatives of order one to ten.
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-3)
