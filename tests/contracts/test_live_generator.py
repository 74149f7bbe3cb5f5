"""A generator from objects made by hand, and requests of several clients in one batch."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unistep.codecs.autoencoder import AutoencoderConfig
from unistep.core.condition import LabelField
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, Map
from unistep.core.path import LinearFlow, VarianceExploding
from unistep.generation.generator import Generator
from unistep.generation.requests import CancelledError, Request
from unistep.hub import save
from unistep.modalities.image import ImageModality

IMAGES = ImageModality(size=4, channels=3)


class Net(nn.Module):
    """A network from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)
        self.label = nn.Embedding(4, 3)

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict) -> Tensor:
        shift = self.label(condition["label"].index.clamp(min=0))[..., None, None] if "label" in condition else 0
        return torch.tanh(self.mix(x) + shift) * t.view(-1, 1, 1, 1).cos()


def denoiser() -> Generator:
    return Generator(Denoiser(Net(), VarianceExploding()), modality=IMAGES, fields={"label": LabelField(size=4)})


@pytest.mark.parametrize(
    "flow",
    [ConsistencyModel(Net(), VarianceExploding()), FlowMap(Net(), LinearFlow()), Denoiser(Net(), VarianceExploding())],
    ids=["consistency", "flow map", "denoiser"],
)
def test_a_map_and_a_modality_are_enough(flow: Map) -> None:
    g = Generator(flow, modality=IMAGES)
    x = g.sample(3, steps=2)
    assert tuple(x.shape) == (3, 3, 4, 4)
    assert x.abs().max() <= 1
    assert "images, 4 x 4 pixels, RGB; conditions: none; 1 step; " in repr(g)
    assert torch.equal(Generator(flow, shape=(3, 4, 4)).sample(1, seed=7).clamp(-1, 1), g.sample(seed=[7]))


def test_a_live_codec_and_settings() -> None:
    torch.manual_seed(1)
    codec = AutoencoderConfig(widths=(8,), latents=3).build((3, 8, 8))
    g = Generator(ConsistencyModel(Net(), VarianceExploding()), codec=codec, steps=2, name="latent")
    assert g.shape == (3, 4, 4)
    assert tuple(g.sample(2).shape) == (2, 3, 8, 8)
    assert g.network_calls() == 2
    assert repr(g).startswith("<Generator 'latent': consistency model of tensors, 3 x 8 x 8; ")


def test_what_is_missing_or_too_much_is_said() -> None:
    flow = ConsistencyModel(Net(), VarianceExploding())
    with pytest.raises(ValueError, match="say what a sample is: modality="):
        Generator(flow)
    with pytest.raises(ValueError, match="needs a ConsistencyModel, FlowMap or Denoiser around the network, got Net"):
        Generator(Net(), modality=IMAGES)  # type: ignore[arg-type]
    g = Generator(flow, modality=IMAGES)
    with pytest.raises(ValueError, match="not both"):
        Generator(flow, g.config, modality=IMAGES)
    with pytest.raises(ValueError, match="cannot be written to a file: give it"):
        save(g.config, {}, "never", "")


def test_requests_are_what_each_gives_alone() -> None:
    g = denoiser()
    requests = [
        Request(seed=2**63 - 1, steps=2, condition={"label": 1}),
        Request(seed=5, steps=3),
        Request(seed=5, steps=2, guidance=2.0, condition={"label": 3}),
        Request(seed=9, steps=2),
        Request(seed=9, times=(80.0, 2.5), condition={"label": 0}),
        Request(seed=1, steps=2, solver="euler"),
    ]
    x = g.sample_requests(requests)
    assert tuple(x.shape) == (6, 3, 4, 4)
    for request, found in zip(requests, x, strict=True):
        given = dict(request.condition)
        alone = g.sample(
            seed=[request.seed], steps=request.steps, times=request.times, solver=request.solver,  # type: ignore[arg-type]
            guidance=request.guidance, **given,
        )  # fmt: skip
        assert (alone[0] - found).abs().max() < 1e-6
    assert torch.allclose(g.sample_requests(requests, batch_size=1), x, atol=1e-6)


def test_seeds_are_a_number_of_any_library_or_one_for_each() -> None:
    g = denoiser()
    x = g.sample(3, seed=10, steps=2)
    assert torch.equal(g.sample(np.int64(3), seed=np.int32(10), steps=np.int64(2)), x)  # type: ignore[arg-type]
    assert torch.allclose(g.sample(seed=[12, 10], steps=2), x[[2, 0]], atol=1e-6)
    assert torch.allclose(g.sample(2, seed=np.array([11, 12]), steps=2), x[1:], atol=1e-6)
    for seed, words in (([1, 2], "2 seeds for 3 samples"), ([-1, 0, 1], "seed must be from 0"), ("a", "whole number")):
        with pytest.raises(ValueError, match=words):
            g.sample(3, seed=seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num 1000000000000 needs .* GiB of memory, and there are .*; draw them in"):
        g.sample(10**12)


def test_progress_is_told_and_sampling_can_be_cancelled() -> None:
    g, shares = denoiser(), list[float]()
    g.sample(5, steps=3, batch_size=2, callback=shares.append)
    assert shares == pytest.approx([(i + 1) / 9 for i in range(9)])
    stop = threading.Event()
    with pytest.raises(CancelledError):
        g.sample(5, steps=3, batch_size=2, callback=lambda share: stop.set() if share > 0.5 else None, cancel=stop)
    with pytest.raises(CancelledError):
        g.sample_requests([Request()], cancel=lambda: True)


def test_eight_threads_sample_from_one_generator() -> None:
    g = denoiser()
    expected = [g.sample(seed=seed, steps=3, label=seed % 4) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: g.sample(seed=seed, steps=3, label=seed % 4), range(24)))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_samples_go_to_bytes_and_to_open_files() -> None:
    g = denoiser()
    x, buffer = g.sample(2, steps=2), io.BytesIO()
    g.save(x, buffer, format="png")
    assert buffer.getvalue() == g.encode(x, "png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="give one, such as format='png'"):
        g.save(x, io.BytesIO())
    with pytest.raises(ValueError, match="unknown format 'pgn' of images; did you mean 'png'"):
        g.encode(x, "pgn")
