"""Two-time recipes: the jump that a sample ends with is one that training gives a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analytic import GaussianDenoiser
from unistep.core.flowmap import FlowMap
from unistep.recipes import reproductions

TWO_TIMES = [name for name, config in reproductions().items() if config.model.kind == "flow_map"]


class Heard(nn.Module):
    """A linear network that remembers which second times it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.1))
        self.codes: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor, condition: object) -> Tensor:
        del t, condition
        if torch.is_grad_enabled():
            self.codes.append(s.detach().flatten())
        return self.gain * x


@pytest.mark.parametrize("name", TWO_TIMES)
def test_the_code_of_the_last_jump_is_trained(name: str) -> None:
    config = reproductions()[name]
    net = Heard()
    student = FlowMap(net, config.model.path, config.model.sigma_data, config.model.boundary)
    objective = config.objective.build(student, GaussianDenoiser(student.path))
    generator = torch.Generator().manual_seed(0)
    for i in range(32):
        x0 = 0.3 + 0.7 * torch.randn(256, 2, generator=generator)
        objective(x0, {}, generator=generator, progress=i / 32)
    seen = torch.cat(net.codes)
    net.codes.clear()
    t = torch.full((1,), student.path.t_max)
    student(torch.randn(1, 2), t)
    (asked,) = net.codes
    assert float((seen - asked).abs().min()) < 1e-3, (
        f"{name} is asked {asked} and has seen {seen.min()} to {seen.max()}"
    )
