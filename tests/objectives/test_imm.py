"""Inductive moment matching: the formulas by hand, one particle as a consistency model, eight modes in the plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, WavyNet
from parity.reference import GivenLevels
from planar import NOISE, shares, train
from two_times import TOY, GaussianFlowMap, TwoTimesNet, gaussian_data, judge, loss_and_slope
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, expand_to
from unistep.core.sampling import sample_gamma
from unistep.core.seeding import ShardGenerator
from unistep.core.timesteps import RatioCurriculum
from unistep.objectives.distance import SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.imm import IMMConfig, MomentMatching, check_groups

VE = VarianceExploding()


@pytest.fixture
def _without_type_checks() -> Iterator[None]:
    """They take as long as the small networks of the toy do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def matching(path: Path = VE, net: nn.Module | None = None, **options: object) -> MomentMatching:
    return IMMConfig(**options).build(FlowMap(net or WavyNet(), path), None)  # type: ignore[arg-type]


def test_the_exact_map_has_no_slope(path: Path) -> None:
    """The two halves of a group have one law, whatever the gap; a gain too small or too large is pulled back."""
    x0, slopes = gaussian_data(32_000, size=1), []
    for gain in (0.5, 1.0, 1.5):
        student = GaussianFlowMap(path).double()
        with torch.no_grad():
            student.gain.fill_(gain)
        slopes.append(loss_and_slope(IMMConfig(particles=32, k=6).build(student, None), student, x0)[1])
    assert slopes[0] < 0 < slopes[2]
    assert abs(slopes[1]) < 0.25 * min(-slopes[0], slopes[2])


def test_the_loss_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 67 in loops, on the paper's own trajectory with noise of the data's standard deviation.

    Our map is linear in the jump where the paper's is a rotation, with the network's coefficient to match; the times
    of the cosine trajectory are our angles.
    """
    path, sigma_data, m, b = TrigFlow(), 0.5, 3, 5.0
    x0, noise = torch.randn(6, 2, 2, dtype=torch.float64), torch.randn(6, 2, 2, dtype=torch.float64)
    monkeypatch.setattr("unistep.objectives.imm.randn_like", lambda x, generator: noise)
    t, r, s = (torch.tensor(v, dtype=torch.float64) for v in ([1.2, 0.7], [1.1, 0.5], [0.3, 0.5]))
    ratios = torch.stack([v.tan().repeat_interleave(m) for v in (t, r, s)])
    objective = matching(path, trajectory="cosine", particles=m, a=2.0, b=b)
    monkeypatch.setattr(objective, "draw_ratios", lambda num, generator: ratios)
    got = objective(x0, {}, generator=None, progress=0.0).per_example

    def jump(group: int, item: int, start: float, end: float) -> Tensor:
        i = m * group + item
        x = (math.cos(start) * x0[i] + sigma_data * math.sin(start) * noise[i])[None]
        codes = (torch.tensor([math.log(sigma_data * math.tan(v)) / 4], dtype=torch.float64) for v in (start, end))
        out = WavyNet()(x / sigma_data, *codes, None)
        return (x - (end - start) * sigma_data * out)[0]

    for group in range(2):
        c_out = abs(t[group] - s[group]) * sigma_data
        y = [jump(group, j, t[group].item(), s[group].item()) for j in range(m)]
        y_hat = [jump(group, j, r[group].item(), s[group].item()) for j in range(m)]

        def kernel(u: Tensor, v: Tensor, c_out: Tensor = c_out) -> Tensor:
            return torch.exp(-(u - v).norm().clamp(min=1e-8) / c_out / 4)

        total = sum(
            kernel(y[j], y[k]) + kernel(y_hat[j], y_hat[k]) - 2 * kernel(y[j], y_hat[k])
            for j in range(m)
            for k in range(m)
        )
        sine, cosine = math.sin(t[group]), math.cos(t[group])
        log_snr = 2 * math.log(cosine / sine)
        weight = 0.5 / (1 + math.exp(log_snr - b)) * 2 / (sine * cosine) * cosine**2
        torch.testing.assert_close(
            got[m * group : m * group + m], (weight * total / m**2).expand(m), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("trajectory", ["linear", "cosine"])
def test_the_weight_is_that_of_the_paper(trajectory: str) -> None:
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64).requires_grad_()
    alpha, sigma = (1 - t, t) if trajectory == "linear" else ((t * math.pi / 2).cos(), (t * math.pi / 2).sin())
    log_snr = 2 * (alpha / sigma).log()
    (slope,) = torch.autograd.grad(log_snr.sum(), t)
    unit = 1.0 if trajectory == "linear" else math.pi / 2  # our cosine times are angles
    for a in (1.0, 2.0):
        objective = matching(trajectory=trajectory, a=a, b=4.0)
        wanted = 0.5 * (4.0 - log_snr).sigmoid() * -slope * alpha**a / (alpha**2 + sigma**2)
        torch.testing.assert_close(objective.weight(sigma / alpha) * unit, wanted)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_the_output_scale_is_the_slope_of_the_map_in_its_network(name: str) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            return self.value * torch.ones_like(x)

        value = 0.0

    net, path = Constant(), PATHS[name]
    objective = matching(path, net)
    t, s = (
        path.time_at(torch.tensor(v, dtype=torch.float64)) for v in ([0.01, 0.5, 3.0, 70.0], [0.003, 0.4, 0.1, 0.002])
    )
    x = torch.randn(4, 1, dtype=torch.float64)
    answers = []
    for net.value in (0.0, 1.0):
        answers.append(objective.student(x, t, s)[:, 0])
    torch.testing.assert_close((answers[1] - answers[0]).abs(), objective.output_scale(t, s))


@pytest.mark.parametrize("trajectory", ["linear", "cosine"])
def test_times_follow_their_law_and_the_gap(trajectory: str) -> None:
    """On CIFAR-10 the paper has t uniform from 0.006 to 0.994 and a gap of 160 / 2^15."""
    objective = matching(trajectory=trajectory, particles=2, k=12)
    eta_t, eta_r, eta_s = objective.draw_ratios(40_000, torch.Generator().manual_seed(0)).double()
    for eta in (eta_t, eta_r, eta_s):
        assert torch.equal(eta[::2], eta[1::2])
    t, s = ((eta / (1 + eta) if trajectory == "linear" else eta.atan() / (math.pi / 2))[::2] for eta in (eta_t, eta_s))
    low, high = (0.004 / 1.004, 160 / 161) if trajectory == "linear" else (0.002546, 0.996021)
    assert t.min() >= low * (1 - 1e-4)
    assert t.max() <= high * (1 + 1e-4)
    torch.testing.assert_close(t.sort().values, torch.linspace(low, high, len(t)).double(), rtol=0, atol=0.012)
    share = ((s - low) / (t - low)).sort().values
    torch.testing.assert_close(share, torch.linspace(0, 1, len(t)).double(), rtol=0, atol=0.015)
    gap = (160 - 0.004) / 2**12
    torch.testing.assert_close(eta_r, torch.maximum(eta_s, eta_t - gap), rtol=1e-5, atol=1e-6)
    assert ((eta_t > eta_r) & (eta_r >= eta_s)).all()


def test_a_group_shares_its_times_and_a_pair_its_data_and_noise() -> None:
    calls: list[tuple[Tensor, ...]] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            assert s is not None
            calls.append((x, (4 * t).exp(), (4 * s).exp()))
            return WavyNet()(x, t, s, condition)

    x0 = torch.randn(40, 2, dtype=torch.float64)
    objective = matching(net=Spy(), particles=4, k=3)
    objective(x0, {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    (x_t, t, s), (x_r, r, s_again) = calls
    assert torch.equal(s, s_again)
    noises = []
    for x, times in ((x_t, t), (x_r, r)):
        grouped = times.view(10, 4)
        assert torch.equal(grouped, grouped[:, :1].expand(10, 4))
        assert len(grouped[:, 0].unique()) == 10
        noises.append((x * (times.square() + 0.25).sqrt()[:, None] - x0) / times[:, None])
    torch.testing.assert_close(noises[0], noises[1], rtol=1e-3, atol=1e-3)
    assert (r < t).all()
    assert (s <= r).all()


@dataclass(frozen=True, kw_only=True)
class GivenCloser(RatioCurriculum):
    """A curriculum that answers the stored levels."""

    levels: tuple[float, ...] = ()

    def closer(self, t: Tensor, progress: float) -> Tensor:
        return torch.tensor(self.levels, dtype=torch.float64)


def test_one_particle_with_the_energy_kernel_is_a_consistency_model(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lemma 1 of the paper: with one particle, jumps to the boundary and k = -|x - y|^2 / D."""
    x0, noise = gaussian_data(6), torch.randn(6, 4, dtype=torch.float64)
    for module in ("imm", "ect"):
        monkeypatch.setattr(f"unistep.objectives.{module}.randn_like", lambda x, generator: noise)
    levels, closer = (0.01, 0.1, 0.7, 2.0, 9.0, 60.0), (0.004, 0.08, 0.6, 1.0, 8.0, 59.0)
    student = GaussianFlowMap(path).double()
    with torch.no_grad():
        student.gain.fill_(0.9)
    objective = IMMConfig(particles=1, second_time="boundary", kernel="energy").build(student, None)
    ratios = torch.tensor([levels, closer, [0.002] * 6], dtype=torch.float64) / student.sigma_data
    monkeypatch.setattr(objective, "draw_ratios", lambda num, generator: ratios)
    got = objective(x0, {}, generator=None, progress=0.0).per_example

    class AsConsistencyModel(ConsistencyModel):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            return student(x, t)

    config = ECTConfig(
        times=GivenLevels(levels=levels), curriculum=GivenCloser(levels=closer), distance=SquaredL2(), weighting="one"
    )
    wanted = EasyConsistencyTuning(AsConsistencyModel(nn.Identity(), path), None, config)(
        x0, {}, generator=None, progress=0.0
    ).per_example
    torch.testing.assert_close(got, 2 * objective.weight(ratios[0]) * wanted, rtol=1e-6, atol=1e-10)


def test_one_particle_with_the_laplace_kernel_falls_with_the_distance() -> None:
    y, y_hat, scale = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    got = matching(particles=1).discrepancy(y, y_hat, scale)
    torch.testing.assert_close(got, 2 - 2 * (-(y - y_hat).norm(dim=1) / scale / 3).exp())


def test_equal_points_have_no_loss_and_a_finite_gradient() -> None:
    y = torch.randn(4, 3)
    y[1] = y[0]
    y.requires_grad_()
    loss = matching(particles=4).discrepancy(y, y.detach().clone(), torch.tensor([0.0]))
    loss.sum().backward()
    assert abs(loss.item()) < 1e-6
    assert y.grad is not None
    assert y.grad.isfinite().all()


def test_the_loss_keeps_its_digits_where_the_halves_nearly_agree() -> None:
    y = torch.randn(64, 784, dtype=torch.float64)
    objective, scale = matching(particles=4), torch.full((16,), 0.4, dtype=torch.float64)
    near = y + 1e-2 * torch.randn_like(y)
    got = objective.discrepancy(y.float(), near.float(), scale.float())
    torch.testing.assert_close(got.double(), objective.discrepancy(y, near, scale), rtol=1e-2, atol=0)


def test_shares_that_hold_whole_groups_have_the_losses_of_the_whole() -> None:
    objective = matching(net=TwoTimesNet(8), particles=2)
    x0, label = torch.randn(12, 2), torch.arange(12)
    whole = objective(x0, {"label": label}, generator=torch.Generator().manual_seed(5), progress=0.4).per_example
    parts = [
        objective(
            x0[start : start + 4],
            {"label": label[start : start + 4]},
            generator=ShardGenerator(torch.Generator().manual_seed(5), start, start + 4, 12),
            progress=0.4,
        ).per_example
        for start in (0, 4, 8)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-6)
    assert len(whole.unique()) == 6


def test_a_batch_of_broken_groups_is_refused() -> None:
    message = "particles 4 does not divide the 6 examples that a process takes at once; use a --batch-size"
    with pytest.raises(ValueError, match=message):
        matching()(torch.zeros(6, 2), {}, generator=None, progress=0.0)
    check_groups(8, 4, "particles")


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize("boundary", [None, 0.0])
def test_losses_are_finite_and_reach_every_weight_on_every_path(name: str, boundary: float | None) -> None:
    student = FlowMap(TwoTimesNet(8), PATHS[name], boundary=boundary)
    for second_time in ("uniform", "boundary"):
        objective = IMMConfig(second_time=second_time).build(student, None)  # type: ignore[arg-type]
        for seed in range(8):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = objective(
                    torch.randn(64, 2), {}, generator=torch.Generator().manual_seed(seed), progress=0.0
                ).per_example
            assert loss.dtype == torch.float32
            assert loss.isfinite().all()
            loss.mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in student.parameters())


def test_the_branches_share_their_dropout_mask_and_their_labels() -> None:
    calls: list[tuple[Tensor, object]] = []

    class Masked(nn.Module):
        dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            calls.append((self.dropout(torch.ones_like(x)), condition))
            return expand_to(t, x) * calls[-1][0]

    objective = matching(net=Masked(), label_dropout=0.5)
    label = {"label": torch.zeros(40, dtype=torch.long)}
    objective.train()(torch.zeros(40, 2), label, generator=torch.Generator().manual_seed(0), progress=0.0)
    (first, told), (second, told_again) = calls
    assert torch.equal(first, second)
    assert torch.equal(told["label"].index, told_again["label"].index)  # type: ignore[index]
    assert 5 < int((told["label"].index == -1).sum()) < 35  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 0}, "particles must be at least 1, got 0"),
        ({"k": 0.0}, "k must be above 0 and at most 20, got 0.0"),
        ({"k": 40.0}, "k must be above 0"),
        ({"floor": 0.0}, "floor must be positive, got 0.0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IMMConfig(**options)  # type: ignore[arg-type]


def test_a_path_without_a_largest_noise_level_is_refused() -> None:
    with pytest.raises(ValueError, match="finite sigma_max"):
        matching(LinearFlow(sigma_max=math.inf))


@pytest.mark.timeout(900)  # about eight seconds of CPU, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
def test_eight_modes_are_found_in_one_step_and_in_two() -> None:
    student = FlowMap(TwoTimesNet(64), TOY)
    untrained = judge(student, [])
    assert untrained[0] < 0.02
    assert untrained[1] > 0.7
    trained = train(IMMConfig(particles=32, k=7).build(student, None), student, steps=300)
    for times in ([], [0.5]):
        smallest, outside, same = judge(trained, times)
        assert smallest > 0.02
        assert outside < 0.6
        assert same > 0.75
    assert shares(sample_gamma(trained, NOISE, torch.tensor([TOY.t_max, 0.5]), gamma=1.0))[0] > 0.02
