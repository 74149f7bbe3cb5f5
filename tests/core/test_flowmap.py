"""Parametrisations: the boundary, the published scalings, both ends of the path, guidance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianDenoiser, GaussianFlow, WavyNet
from unistep.core.condition import as_condition
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser, Map, c_noise
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, expand_to
from unistep.core.values import Tokens
from unistep.nets.dit_config import DiTConfig
from unistep.nets.unet import UNetConfig


class Record(nn.Module):
    """Answers a constant and keeps what it was called with."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        self.calls.append((x, t, s))
        return torch.full_like(x, self.value)


class LabelNet(nn.Module):
    """Answers the label plus one; 0 for an example that has none."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Tensor]) -> Tensor:
        return expand_to((condition["label"].index + 1).float(), x) + 0.1 * x


def loud_unet() -> nn.Module:
    """A U-Net whose output layer is not zero."""
    net = UNetConfig(widths=(16, 32), second_time=True).build()
    nn.init.normal_(net.output.weight)
    nn.init.normal_(net.output.bias)
    return net.eval()


def skip_and_out(model: Map, t: float) -> tuple[float, float, float]:
    """Read ``c_skip``, ``c_out`` and ``c_in`` off a model by calling it."""
    x, time = torch.ones(1, 1, dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
    model.net = Record(0.0)
    skip = model(x, time).item()
    c_in = model.net.calls[0][0].item()
    model.net = Record(1.0)
    return skip, model(x, time).item() - skip, c_in


@pytest.mark.parametrize("boundary", [None, 0.0])
@pytest.mark.parametrize("net", ["unet", "wavy"])
def test_a_consistency_model_is_the_identity_at_its_boundary(path: Path, boundary: float | None, net: str) -> None:
    raw = loud_unet() if net == "unet" else WavyNet()
    second = torch.zeros(3) if net == "unet" else None
    model = ConsistencyModel(WithSecond(raw, second) if second is not None else raw, path, 0.5, boundary)
    x = torch.randn(3, 1, 8, 8)
    t = torch.full((3,), path.t_min if boundary is None else boundary)
    with torch.no_grad():
        torch.testing.assert_close(model(x, t), x, rtol=0, atol=1e-6)
        away = model(x, torch.full((3,), 0.5 * (path.t_min + min(path.t_max, 1.0))))
    assert (away - x).abs().mean() > 0.1


class WithSecond(nn.Module):
    """Feeds a fixed second time to a network that needs one."""

    def __init__(self, net: nn.Module, s: Tensor) -> None:
        super().__init__()
        self.net, self.s = net, s

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return self.net(x, t, self.s[: len(x)], condition)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_a_flow_map_is_the_identity_where_both_times_agree(path: Path, share: float) -> None:
    t = torch.full((3,), path.t_min + share * (path.t_max - path.t_min))
    for net in (loud_unet(), WavyNet()):
        x = torch.randn(3, 1, 8, 8) * (1 + path.sigma(t).max())
        with torch.no_grad():
            torch.testing.assert_close(FlowMap(net, path)(x, t, t), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ve", "trig", "linear"])
def test_a_flow_map_is_finite_at_the_data(name: str) -> None:
    x, zero = torch.randn(2, 4), torch.zeros(2)
    model = FlowMap(WavyNet(), PATHS[name])
    torch.testing.assert_close(model(x, zero, zero), x, rtol=0, atol=1e-6)
    assert model(x, zero, torch.full((2,), 0.5)).isfinite().all()


def test_a_flow_map_without_a_second_time_jumps_to_the_start(path: Path) -> None:
    x, t = torch.randn(2, 3), torch.full((2,), 0.7)
    model = FlowMap(WavyNet(), path)
    torch.testing.assert_close(model(x, t), model(x, t, torch.full((2,), path.t_min)), rtol=0, atol=0)


def test_the_slope_of_a_flow_map_on_the_diagonal_is_the_velocity_of_its_denoiser(path: Path) -> None:
    t = torch.full((2,), 0.6, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)
    model, net = FlowMap(WavyNet(), path), WavyNet()
    _, slope = torch.func.jvp(lambda s: model(x, t, s), (t,), (torch.ones_like(t),))
    code = c_noise(path, t)
    told = Denoiser(WithSecond(net, code), path)
    torch.testing.assert_close(slope, path.velocity_from_denoised(x, told(x, t), t), rtol=1e-9, atol=1e-9)


def test_a_flow_map_on_the_edm_path_is_that_of_ctm() -> None:
    """Kim et al. 2024, equation 4: G(x, t, s) = s/t x + (1 - s/t) g(x, t, s)."""
    t, s = torch.tensor([5.0, 0.7]), torch.tensor([0.1, 0.3])
    x = torch.randn(2, 4)
    skip, out = 0.25 / (t**2 + 0.25), t * 0.5 / (t**2 + 0.25).sqrt()
    g = expand_to(skip, x) * x + expand_to(out, x) * 0.8
    share = expand_to(s / t, x)
    torch.testing.assert_close(FlowMap(Record(0.8), VarianceExploding())(x, t, s), share * x + (1 - share) * g)


@pytest.mark.parametrize("t", [0.002, 0.01, 0.5, 2.0, 80.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_denoiser_scalings_are_those_of_edm(t: float, sigma_data: float) -> None:
    """Karras et al. 2022, table 1, last column."""
    skip, out, c_in = skip_and_out(Denoiser(Record(0), VarianceExploding(), sigma_data), t)
    total = t**2 + sigma_data**2
    assert skip == pytest.approx(sigma_data**2 / total, rel=1e-9)
    assert out == pytest.approx(t * sigma_data / math.sqrt(total), rel=1e-9)
    assert c_in == pytest.approx(1 / math.sqrt(total), rel=1e-9)
    told = c_noise(VarianceExploding(), torch.tensor([t], dtype=torch.float64)).item()
    assert told == pytest.approx(math.log(t) / 4, rel=1e-9)


@pytest.mark.parametrize("t", [0.002, 0.01, 0.5, 2.0, 80.0])
def test_consistency_scalings_are_those_of_the_paper(t: float) -> None:
    """Song et al. 2023, appendix C, with sigma_data = 0.5 and epsilon = 0.002."""
    skip, out, c_in = skip_and_out(ConsistencyModel(Record(0), VarianceExploding()), t)
    assert skip == pytest.approx(0.25 / ((t - 0.002) ** 2 + 0.25), rel=1e-9)
    assert out == pytest.approx(0.5 * (t - 0.002) / math.sqrt(t**2 + 0.25), rel=1e-9, abs=1e-12)
    assert c_in == pytest.approx(1 / math.sqrt(t**2 + 0.25), rel=1e-9)
    easy = skip_and_out(ConsistencyModel(Record(0), VarianceExploding(), boundary=0.0), t)
    assert easy == pytest.approx(skip_and_out(Denoiser(Record(0), VarianceExploding()), t), rel=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.004, 0.8, 1.5, math.pi / 2])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_scalings_on_trigflow_are_a_rotation(t: float, sigma_data: float) -> None:
    """Lu & Song 2024, equation 5: f = cos(t) x - sin(t) sigma_d F(x / sigma_d), up to the sign of F."""
    path = TrigFlow(sigma_data=sigma_data)
    for model in (ConsistencyModel(Record(0), path, sigma_data, 0.0), Denoiser(Record(0), path, sigma_data)):
        skip, out, c_in = skip_and_out(model, t)
        assert skip == pytest.approx(math.cos(t), abs=1e-12)
        assert out == pytest.approx(sigma_data * math.sin(t), abs=1e-12)
        assert c_in == pytest.approx(1 / sigma_data, rel=1e-9)


def test_scalings_give_unit_variance_to_the_network(path: Path, generator: torch.Generator) -> None:
    t = torch.full((4000,), 0.5 * (path.t_min + path.t_max))
    x0 = 0.5 * torch.randn(4000, 4, generator=generator)
    x_t = path.perturb(x0, torch.randn(4000, 4, generator=generator), t)
    net = Record(0.0)
    Denoiser(net, path)(x_t, t)
    assert net.calls[0][0].std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kind", [Denoiser, ConsistencyModel, FlowMap])
def test_maps_are_finite_at_both_ends(path: Path, kind: type[Map]) -> None:
    x = torch.randn(2, 1, 4, 4)
    for t in (path.t_min, path.t_max):
        times = torch.full((2,), t)
        y = kind(WavyNet(), path)(x * (path.sigma(times).max() + 1), times)
        assert y.isfinite().all()
        assert y.shape == x.shape


def test_times_of_infinite_noise_are_told_as_noise_and_zero_as_none() -> None:
    quarter = TrigFlow(), torch.tensor([0.0, math.pi / 2])
    straight = LinearFlow(), torch.tensor([0.0, 1.0])
    for path, ends in (quarter, straight):
        assert c_noise(path, ends).tolist() == [-2.5, 2.5]
        model = Denoiser(WavyNet(), path)
        assert model(torch.randn(2, 3), ends).isfinite().all()


@pytest.mark.parametrize("kind", [Denoiser, ConsistencyModel, FlowMap])
def test_forward_derivatives_agree_with_finite_differences(path: Path, kind: type[Map]) -> None:
    model = kind(WavyNet(), path)
    x, dx = torch.randn(2, 2, 3, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    t, h = torch.full((2,), 0.6, dtype=torch.float64), 1e-6
    _, tangent = torch.func.jvp(lambda x, t: model(x, t), (x, t), (dx, torch.ones_like(t)))
    numeric = (model(x + h * dx, t + h) - model(x - h * dx, t - h)) / (2 * h)
    torch.testing.assert_close(tangent, numeric, rtol=1e-6, atol=1e-6)
    assert tangent.dtype == torch.float64


def test_output_is_single_precision_under_autocast() -> None:
    model = ConsistencyModel(UNetConfig(widths=(16,), blocks=(1,)).build(), VarianceExploding())
    x, t = torch.randn(1, 1, 4, 4), torch.tensor([0.002])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x, t)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6)


def test_only_a_flow_map_takes_a_second_time() -> None:
    x, t = torch.randn(1, 2), torch.ones(1)
    for model in (Denoiser(WavyNet(), VarianceExploding()), ConsistencyModel(WavyNet(), VarianceExploding())):
        with pytest.raises(ValueError, match="FlowMap"):
            model(x, t, t)


def test_sigma_data_must_be_positive() -> None:
    with pytest.raises(ValueError, match="sigma_data must be positive, got 0"):
        Denoiser(WavyNet(), VarianceExploding(), sigma_data=0)


def test_the_second_time_is_coded_like_the_first() -> None:
    net = Record(0.0)
    FlowMap(net, VarianceExploding())(torch.ones(1, 2), torch.tensor([2.0]), torch.tensor([0.5]))
    _, t, s = net.calls[0]
    assert t.item() == pytest.approx(math.log(2) / 4)
    assert s is not None
    assert s.item() == pytest.approx(math.log(0.5) / 4)


def test_guidance_of_one_is_the_conditional_denoiser_in_one_call() -> None:
    net = LabelNet()
    denoiser = Denoiser(net, VarianceExploding())
    x, t, condition = torch.randn(3, 2), torch.ones(3), {"label": torch.tensor([0, 4, 9])}
    torch.testing.assert_close(GuidedDenoiser(denoiser, 1.0)(x, t, None, condition), denoiser(x, t, None, condition))
    assert GuidedDenoiser(denoiser, 2.0).path is denoiser.path


def test_guidance_of_zero_is_the_unconditional_denoiser_and_it_is_linear_between() -> None:
    denoiser = Denoiser(LabelNet(), VarianceExploding())
    x, t, condition = torch.randn(3, 2), torch.full((3,), 2.0), {"label": torch.tensor([0, 4, 9])}
    none = {"label": torch.full((3,), -1)}
    told, untold = denoiser(x, t, None, condition), denoiser(x, t, None, none)
    assert (told - untold).abs().min() > 0.1
    for scale in (0.0, 0.5, 2.0, 7.5):
        guided = GuidedDenoiser(denoiser, scale)(x, t, None, condition)
        torch.testing.assert_close(guided, untold + scale * (told - untold))


def test_each_example_may_bring_a_weight_of_its_own_which_the_denoiser_is_not_shown() -> None:
    net = LabelNet()
    seen: list[object] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(set(inputs[3])))
    denoiser = Denoiser(net, VarianceExploding())
    x, t = torch.randn(5, 2), torch.full((5,), 2.0)
    label = {"label": torch.tensor([0, 4, 9, 3, -1])}
    weights = torch.tensor([0.0, 2.5, 7.5, torch.nan, 3.0])
    together = GuidedDenoiser(denoiser, 5.0)(x, t, None, {**label, "guidance": weights})
    for i, weight in enumerate((0.0, 2.5, 7.5, 1.0, 3.0)):
        alone = GuidedDenoiser(denoiser, weight)(x[i : i + 1], t[:1], None, {"label": label["label"][i : i + 1]})
        torch.testing.assert_close(together[i : i + 1], alone)
    assert (together[:3] - denoiser(x[:3], t[:3], None, {"label": label["label"][:3]})).abs().min() > 0.1
    assert all(names == {"label"} for names in seen)
    bare = Denoiser(WavyNet(), VarianceExploding())
    torch.testing.assert_close(GuidedDenoiser(bare, 5.0)(x, t, None, {"guidance": weights}), bare(x, t))


def test_guidance_without_a_condition_is_the_plain_denoiser() -> None:
    denoiser = Denoiser(WavyNet(), VarianceExploding())
    x, t = torch.randn(2, 3), torch.ones(2)
    for condition in (None, {}):
        torch.testing.assert_close(GuidedDenoiser(denoiser, 3.0)(x, t, None, condition), denoiser(x, t))


def test_the_exact_flow_of_a_gaussian_has_the_properties_of_a_flow_map(path: Path) -> None:
    """The closed form that other tests rely on: semigroup, the right marginal, the velocity of the ODE."""
    flow = GaussianFlow(path)
    t, u, s = (path.time_at(torch.full((3,), r, dtype=torch.float64)) for r in (20.0, 1.0, 0.05))
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(flow(flow(x, t, u), u, s), flow(x, t, s))
    torch.testing.assert_close(flow(x, t, t), x)
    _, slope = torch.func.jvp(lambda v: flow(x, u, v), (u,), (torch.ones_like(u),))
    torch.testing.assert_close(slope, path.velocity_from_denoised(x, GaussianDenoiser(path)(x, u), u))


def test_the_closed_form_denoiser_minimises_the_squared_error(path: Path, generator: torch.Generator) -> None:
    """Regressing the data on the noisy signal finds the same line as the formula."""
    num = 200_000
    t = path.time_at(torch.full((num,), 0.8, dtype=torch.float64))
    x0 = 0.3 + 0.7 * torch.randn(num, 1, generator=generator, dtype=torch.float64)
    x_t = path.perturb(x0, torch.randn(num, 1, generator=generator, dtype=torch.float64), t)
    slope = (x_t - x_t.mean()).mul(x0 - x0.mean()).mean() / x_t.var()
    exact = GaussianDenoiser(path)
    probe = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    values = exact(probe, t[:2])
    assert (values[1] - values[0]).item() == pytest.approx(slope.item(), abs=0.01)
    assert exact(x_t, t).mean().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "config", [UNetConfig(widths=(8,), blocks=(1,), head_dim=8), DiTConfig(width=32, depth=1, head_dim=16)]
)
def test_a_network_is_called_in_the_type_of_its_weights(config: UNetConfig | DiTConfig, dtype: torch.dtype) -> None:
    config = replace(config, channels=1, embedding_dim=16, num_classes=3, scalars={"size": 2.0}, tokens={"text": 8})
    torch.manual_seed(1)
    net = config.build().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p) * 0.1)
    model, x, t = ConsistencyModel(net, VarianceExploding()), torch.randn(2, 1, 8, 8), torch.tensor([2.0, 0.5])
    given = {"label": torch.tensor([1, -1]), "size": torch.tensor([0.5, 1.0])}
    condition = {**as_condition(given), "text": Tokens.whole(torch.randn(2, 4, 8))}
    with torch.inference_mode():
        expected = model(x, t, condition=condition)
        net.to(dtype)
        found = model(x, t, condition=condition)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if dtype == torch.float64 else 0.1)
    assert (expected - x).abs().max() > 0.1  # the network does something
