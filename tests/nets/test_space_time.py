"""The space-time U-Net: which frames depend on which, and what may differ from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tolerance import rounding
from unistep.core.condition import Action, Signal, SignalField
from unistep.nets.space_time_config import SpaceTimeUNetConfig

SMALL = SpaceTimeUNetConfig(
    channels=2, patch=2, widths=(8, 16), blocks=(1, 1), attention=(1,), head_dim=8, embedding_dim=16
)


def trained(config: SpaceTimeUNetConfig) -> nn.Module:
    torch.manual_seed(0)
    net = config.build().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return net


def clips(frames: int = 8) -> Tensor:
    return torch.randn(2, 2, frames, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def changed_frames(net: nn.Module, x: Tensor, at: int) -> list[int]:
    """Frames whose output changes with frame ``at`` of the input."""
    t = torch.zeros(len(x), dtype=torch.float64)
    other = x.clone()
    other[:, :, at] += 1
    difference = (net(x, t) - net(other, t)).abs().amax(dim=(0, 1, 3, 4))
    return [i for i, value in enumerate(difference.tolist()) if value > 1e-9]


def test_every_frame_depends_on_every_other() -> None:
    assert changed_frames(trained(SMALL), clips(), 5) == list(range(8))


def test_a_frame_of_a_causal_network_depends_on_none_that_is_later() -> None:
    net = trained(replace(SMALL, causal=True))
    assert changed_frames(net, clips(), 5) == [5, 6, 7]
    x, t = clips(), torch.zeros(2, dtype=torch.float64)
    # So the beginning of a clip is what a shorter clip gives.
    whole, beginning = net(x, t), net(x[:, :, :4], t)
    assert (whole[:, :, :4] - beginning).abs().max() < 1e-9


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_any_number_of_frames_will_do(frames: int) -> None:
    net = trained(replace(SMALL, causal=True, vectors={"action": 3}))
    x, t, acted = clips(), torch.zeros(2, dtype=torch.float64), torch.ones(2, 8, 3, dtype=torch.float64)
    whole = net(x, t, None, {"action": Action(acted)})
    beginning = net(x[:, :, :frames], t, None, {"action": Action(acted[:, :frames])})
    assert (whole[:, :, :frames] - beginning).abs().max() < 1e-9
    with pytest.raises(ValueError, match=r"3 spatial sizes that are multiples of 2 and 4 and 4, got \(2, 2, 3, 8, 8\)"):
        trained(replace(SMALL, halve_time=True))(x[:, :, :3], t)
    with pytest.raises(ValueError, match=r"multiples of 1 and 4 and 4, got \(2, 2, 8, 8, 6\)"):
        net(x[..., :6], t)


def test_without_attention_over_time_frames_are_pictures() -> None:
    config = replace(SMALL, time_attention=())
    net = trained(config)
    for block in net.middle:  # the middle always mixes frames
        block.over_time = None
    assert changed_frames(net, clips(), 3) == [3]


def test_what_differs_from_frame_to_frame_changes_that_frame_alone() -> None:
    net = trained(replace(SMALL, causal=True, vectors={"action": 3}))
    x, t = clips(), torch.linspace(-1, 1, 8, dtype=torch.float64).view(1, 1, 8, 1, 1).repeat(2, 1, 1, 1, 1)
    actions = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    base = net(x, t, None, {"action": Action(actions)})
    later = t.clone()
    later[:, :, 6] += 0.5
    acted = actions.clone()
    acted[:, 6] += 1
    for out in (net(x, later, None, {"action": Action(actions)}), net(x, t, None, {"action": Action(acted)})):
        difference = (out - base).detach().abs().amax(dim=(0, 1, 3, 4))
        assert float(difference[:6].max()) < 1e-9
        assert float(difference[6]) > 1e-4
    same = actions[:, :1]
    held = net(x, t, None, {"action": Action(same.expand(-1, 8, -1))})
    assert (net(x, t, None, {"action": Action(same[:, 0])}) - held).abs().max() < 1e-9


@pytest.mark.parametrize(
    "options", [{}, {"halve_time": True}, {"patch": 1, "widths": (8, 16, 16), "blocks": (1, 1, 1)}]
)
def test_levels_for_each_frame_that_are_all_alike_are_one_level(options: dict[str, Any]) -> None:
    net = trained(replace(SMALL, second_time=True, **options))
    x, t = clips(), torch.tensor([0.3, -0.4], dtype=torch.float64)
    one = net(x, t, t - 1)
    wide = t.view(2, 1, 1, 1, 1)
    for shape in ((2, 1, 8, 1, 1), (2, 1, 8, 8, 8), (2, 1, 1, 1, 1)):
        several = net(x, wide.expand(shape), (wide - 1).expand(shape))
        assert (several - one).abs().max() < rounding(10_000, 10, torch.float64)


def test_a_reference_video_is_seen_frame_by_frame() -> None:
    config = replace(SMALL, causal=True, vectors={}).fitted((2, 8, 8, 8), {"source": SignalField(shape=(1, 8, 8, 8))})
    net, x, t = trained(config), clips(), torch.zeros(2, dtype=torch.float64)
    reference = torch.randn(2, 1, 8, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    other = reference.clone()
    other[:, :, 4] += 1
    base, out = (net(x, t, None, {"source": Signal.clean(signal)}) for signal in (reference, other))
    changed = (out - base).abs().amax(dim=(0, 1, 3, 4))
    assert [i for i, value in enumerate(changed.tolist()) if value > 1e-9] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": True, "halve_time": True}, "cannot halve time"),
        ({"dims": 1}, "got dims 1"),
        ({"context": 4}, "no context along the last axis"),
        ({"widths": (8, 12)}, "multiples of head_dim 8"),
        ({"blocks": (1,)}, "the same length"),
        ({"middle_blocks": 0}, "must be positive"),
        ({"head_dim": 7}, "head_dim must be even"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
