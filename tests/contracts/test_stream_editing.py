"""Streams are edited chunk by chunk: what is known stays, what is made follows what was made before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contracts.outside_stream import DifferencesConfig, FollowingConfig
from contracts.test_sessions import UNET, frames_model, world
from unistep.codecs.identity import IdentityConfig
from unistep.editing.solvers import Settings
from unistep.generation.generator import Generator

MODELS = {
    "frames of tensors": lambda: frames_model(UNET, IdentityConfig(chunk=8, bounded=False, scale=0.5)),
    "outside": lambda: frames_model(FollowingConfig(), DifferencesConfig(chunk=8)),
    "world": world,
}


@pytest.fixture(scope="module", params=list(MODELS))
def g(request: pytest.FixtureRequest) -> Generator:
    return MODELS[request.param]()


def signals(g: Generator, num: int) -> Tensor:
    return torch.rand(num, *g.signal_shape, generator=torch.Generator().manual_seed(0)) - 0.5


def end(g: Generator) -> Tensor:
    """A mask of the last chunk."""
    chunks = g.codec.cut(torch.zeros(1, *g.signal_shape))
    return g.codec.join([*chunks[:-1], torch.ones_like(chunks[-1])])[0]


@pytest.mark.parametrize(
    ("task", "options"), [("inpaint", {"mask": "random:0.5"}), ("vary", {"strength": 0.4}), ("denoise", {"sigma": 0.2})]
)
def test_a_result_is_that_of_its_seed_in_any_batch(g, task, options) -> None:
    x = signals(g, 3)
    whole = g.edit(task, x, steps=2, seed=5, label=[0, 1, 2], **options)
    assert whole.shape == x.shape
    assert whole.isfinite().all()
    alone = [g.edit(task, x[i], steps=2, seed=5 + i, label=i, **options) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(alone), atol=2e-4, rtol=1e-3)
    pairs = g.edit(task, x, steps=2, seed=5, label=[0, 1, 2], batch_size=2, **options)
    torch.testing.assert_close(whole, pairs, atol=2e-4, rtol=1e-3)


def test_what_is_known_stays_and_costs_no_call(g) -> None:
    x, mask, calls = signals(g, 2), end(g), []
    hook = g.map.net.register_forward_hook(lambda *given: calls.append(1))
    y = g.edit("inpaint", x, mask=mask, steps=3, label=1)
    hook.remove()
    assert len(calls) == 3  # those of the one chunk that is open
    torch.testing.assert_close(y * (1 - mask), x * (1 - mask), atol=1e-5, rtol=0)
    assert float(((y - x) * mask).abs().max()) > 0.01


def test_a_chunk_of_which_nothing_is_known_is_that_of_a_stream(g) -> None:
    given = {"steps": 2, "seed": 3, "label": 1}
    first = g.codec.cut(g.edit("inpaint", signals(g, 1), mask=1 - end(g), **given))[0]
    sampled = g.codec.cut(g.sample(1, **given))[0]
    inside = sampled.abs() < 1  # others are brought into their range at the end
    torch.testing.assert_close(first[inside], sampled[inside], atol=1e-5, rtol=0)


def test_a_chunk_follows_those_before_it_as_they_were_edited(g) -> None:
    first, second = signals(g, 2)
    mask, settings = end(g), Settings(first=1e3, last=1.0)  # so much noise that the guess does not matter
    given = {"mask": mask, "steps": 1, "settings": settings, "label": 1}
    y = g.edit("inpaint", torch.stack([first, second]), seed=[3, 3], **given)
    assert float(((y[0] - y[1]) * mask).abs().max()) > 1e-3  # the same noise after another past


def test_the_share_of_the_work_that_is_done_is_reported(g) -> None:
    shares: list[float] = []
    g.edit("vary", signals(g, 2), steps=2, label=1, callback=shares.append)
    assert shares == sorted(shares)
    assert len(shares) == 2 * g.chunks
    assert shares[-1] == 1


def test_clips_of_any_length_are_edited_with_an_action_for_each_frame() -> None:
    g = world()
    x = torch.rand(2, 3, 9, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    still = g.edit("colorize", x, steps=1, label=1)
    moved = g.edit("colorize", x, steps=1, label=1, action=torch.ones(9, 1))
    weights = torch.tensor([0.2989, 0.5870, 0.1140]).view(3, 1, 1, 1)
    assert still.shape == x.shape
    for y in (still, moved):
        torch.testing.assert_close((y * weights).sum(1), (x * weights).sum(1), atol=1e-5, rtol=0)
    assert (still != moved).any()
    with pytest.raises(ValueError, match="action has 4 frames, and a sample of world 9"):
        g.edit("colorize", x, action=torch.ones(4, 1))
    with pytest.raises(ValueError, match="there is no interpolate of streams"):
        g.edit("interpolate", steps=1)
    assert torch.equal(g.edit("predict", x, known=4, steps=1, label=1)[:, :, :4], x[:, :, :4])
    assert g.edit("upscale", x[..., ::2, ::2], factor=2, steps=1, label=1).shape == x.shape
