"""What every codec keeps: the built-in ones, and one defined here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from contracts.outside_stream import DifferencesConfig
from training.tiny import run_config
from unistep import registry
from unistep.codecs.autoencoder import AutoencoderConfig
from unistep.codecs.base import Codec, CodecConfig, UnfitShapeError, WeightedCodecConfig
from unistep.codecs.identity import IdentityConfig
from unistep.codecs.next_frame import NextFrameConfig
from unistep.codecs.spectrum import SpectrumConfig
from unistep.data import DataConfig, prepare
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.modalities.tensor import TensorModality
from unistep.nets.unet import UNetConfig
from unistep.serialization import from_plain, to_plain
from unistep.training.autoencoder import train_autoencoder
from unistep.training.run import train


@dataclass(frozen=True, kw_only=True)
class RotationConfig(WeightedCodecConfig):
    """A codec from elsewhere: a random rotation of the channels, which is its weight."""

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(signal_shape)

    def build(self, signal_shape: tuple[int, ...]) -> Rotation:
        return Rotation(self, signal_shape)


class Rotation(Codec):
    """An orthogonal matrix."""

    def __init__(self, config: RotationConfig, signal_shape: tuple[int, ...]) -> None:
        super().__init__(config, signal_shape)
        matrix, _ = torch.linalg.qr(torch.randn(signal_shape[0], signal_shape[0]))
        self.matrix = nn.Parameter(matrix)

    def encode(self, signal: Tensor) -> Tensor:
        return torch.einsum("ij,bj...->bi...", self.matrix, signal)

    def decode(self, x: Tensor) -> Tensor:
        return torch.einsum("ji,bj...->bi...", self.matrix, x)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    registry.register("codec", "rotation", RotationConfig)
    yield
    registry._added["codec"].pop("rotation")


WHOLE: dict[str, tuple[CodecConfig, tuple[int, ...], float]] = {
    "identity": (IdentityConfig(), (2, 16), 1e-6),
    "unbounded": (IdentityConfig(scale=0.3, bounded=False), (3, 4, 4, 4), 1e-6),
    "spectrum": (SpectrumConfig(n_fft=16, hop=8), (1, 64), 1e-4),
    "spectrum of one dimension": (SpectrumConfig(n_fft=16, hop=4, dims=1), (2, 50), 1e-4),
    "rotation": (RotationConfig(), (3, 8), 1e-5),
}
"""Codecs that lose nothing, with the shape of a signal and the largest error, from float32 in the transforms."""
CHUNKED: dict[str, tuple[CodecConfig, tuple[int, ...]]] = {
    "identity": (IdentityConfig(chunk=8), (2, 16)),
    "frames of an image": (IdentityConfig(chunk=4, bounded=False), (1, 6, 8)),
    "spectrum": (SpectrumConfig(n_fft=16, hop=8, chunk=4), (1, 64)),
    "from elsewhere": (DifferencesConfig(chunk=8), (2, 16)),
    "frames of a video": (NextFrameConfig(history=3), (2, 5, 4, 6)),
}
AUTOENCODER = AutoencoderConfig(widths=(8,), latents=2)


def signals(shape: tuple[int, ...], count: int = 3) -> Tensor:
    """Values in [-1, 1] with gradients."""
    return (torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9).requires_grad_()


@pytest.mark.parametrize("name", WHOLE)
def test_decoding_is_the_inverse_of_encoding_and_both_have_gradients(name: str) -> None:
    config, shape, tolerance = WHOLE[name]
    codec, x = config.build(shape), signals(shape)
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == codec.shape == config.shape(shape)
    back = codec.decode(z)
    assert back.shape == x.shape
    assert (back - x).abs().max() < tolerance
    (gradient,) = torch.autograd.grad(back.square().sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 8), (3, 8, 4), (2, 4, 4, 4)])
def test_an_autoencoder_has_shape_gradients_and_statistics(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    codec, x = AUTOENCODER.build(shape), signals(shape, 16)
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == codec.shape == (2, *(size // 2 for size in shape[1:]))
    (gradient,) = torch.autograd.grad(codec.decode(z).sum(), x)
    assert gradient.isfinite().all()
    codec.set_statistics(codec.posterior(part)[0] for part in x.split(5))
    for channel in codec.encode(x).detach().transpose(0, 1):
        assert float(channel.mean()) == pytest.approx(0, abs=1e-5)
        assert float(channel.std(correction=0)) == pytest.approx(AUTOENCODER.scale, rel=1e-4)


@pytest.mark.parametrize("name", CHUNKED)
def test_a_chunk_that_is_cut_out_is_encoded_and_decoded_again_or_chunks_overlap(name: str) -> None:
    config, shape = CHUNKED[name]
    codec, x = config.build(shape), signals(shape).detach()
    if name == "spectrum":
        for call in (lambda: codec.cut(x), lambda: codec.encode_next(x, x)):
            with pytest.raises(ValueError, match="overlap"):
                call()
        return
    chunks = codec.cut(x)
    assert len(chunks) == config.chunks(shape)
    assert torch.equal(codec.join(chunks), x)
    assert len(codec.cut(codec.join([*chunks, chunks[0]]))) == len(chunks) + 1  # streams of any length
    state = codec.start(torch.zeros(len(x), *codec.shape))
    for chunk in chunks:
        seen = codec.encode_next(chunk, state)
        assert tuple(seen.shape[1:]) == codec.shape
        back, state = codec.decode_next(seen, state)
        torch.testing.assert_close(back, chunk, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_are_split_and_joined(name: str) -> None:
    config, shape = CHUNKED[name]
    codec, x = config.build(shape), signals(shape)
    past, following = codec.split(x)
    assert codec.chunked
    recent, seen = codec.recent(past, config.past), config.context_field(shape, config.past)
    assert torch.equal(recent, past)
    assert tuple(recent.shape[1:]) == seen.shape
    assert codec.recent(past, 1).shape[1:] == config.context_field(shape, 1).shape
    after = codec.remember(past, following, torch.zeros(len(x), dtype=torch.bool))
    assert codec.recent(after, config.past).shape == recent.shape
    assert codec.no_past(following).shape == after.shape
    assert tuple(following.shape[1:]) == codec.shape
    assert torch.equal(codec.encode(x), following)
    state, parts = codec.start(following), []
    for chunk in (following, following):
        signal, state = codec.decode_next(chunk, state)
        assert tuple(signal.shape[1:]) == config.chunk_shape(shape)
        assert len(state) == len(chunk)
        parts.append(signal)
    # Streams in a batch do not touch each other: each is what it is alone.
    alone, tail = codec.start(following[1:2]), []
    for chunk in (following[1:2], following[1:2]):
        signal, alone = codec.decode_next(chunk, alone)
        tail.append(signal)
    assert torch.allclose(torch.cat(parts, dim=-1)[1:2], torch.cat(tail, dim=-1), atol=1e-6)
    whole = codec.join(parts[:1] * config.chunks(shape))
    assert tuple(whole.shape[1:]) == shape
    with pytest.raises(ValueError, match="in order, by decode_next"):
        codec.decode(following)
    for number in (-2 - len(shape) * 9, 99):
        with pytest.raises(ValueError, match="before it"):
            codec.split(x, number)


@pytest.mark.parametrize("name", CHUNKED)
def test_a_chunk_with_the_end_of_its_past_is_a_part_of_the_signal_or_refused(name: str) -> None:
    config, shape = CHUNKED[name]
    codec, x = config.build(shape), signals(shape)
    past, following = codec.split(x)
    recent = codec.recent(past, config.past)
    pair = config.pair_shape(shape, config.past)
    if pair is None:
        with pytest.raises(ValueError, match="makes no signal of a chunk and what comes before it"):
            codec.preceded(recent, following)
        return
    found = codec.preceded(recent, following)
    assert tuple(found.shape[1:]) == pair
    end = x[tuple(slice(None) if a == b else slice(b - a, None) for a, b in zip((len(x), *pair), x.shape, strict=True))]
    assert torch.allclose(found, end, atol=1e-6)
    assert torch.autograd.grad(found.sum(), following)[0].abs().sum() > 0


@pytest.mark.parametrize("name", CHUNKED)
def test_a_rollout_is_refused_where_a_signal_has_no_past_for_it(name: str) -> None:
    config, shape = CHUNKED[name]
    codec, x, fits = config.build(shape), signals(shape), list[bool]()
    for rollout in range(10):
        try:
            codec.split(x, -1 - rollout)
            fits.append(True)
        except ValueError:
            fits.append(False)
        refused = nullcontext() if fits[-1] else pytest.raises(ValueError, match=r"--model\.context\.rollout")
        with refused:
            config.check_rollout(shape, rollout)
    assert fits[0]
    assert fits == sorted(fits, reverse=True)
    assert not fits[-1]


def test_the_scale_of_unbounded_signals_comes_from_the_data() -> None:
    x = torch.randn(500, 4) * 20 + 3
    config = IdentityConfig(bounded=False).calibrated(iter(x.split(100)), 0.5)
    assert float(config.build((4,)).encode(x).std()) == pytest.approx(0.5, rel=0.01)
    assert IdentityConfig().calibrated(iter([x]), 0.5) == IdentityConfig()
    with pytest.raises(ValueError, match="all values of these signals are the same"):
        IdentityConfig(bounded=False).calibrated(iter([torch.ones(2, 4)]), 0.5)


def test_shapes_that_do_not_fit_name_the_nearest() -> None:
    with pytest.raises(UnfitShapeError, match="30x31 do not fit this network, which needs multiples of 4") as caught:
        IdentityConfig().fitted((3, 30, 31), dims=2, multiples=(4,))
    assert caught.value.nearest == (3, 32, 32)
    clips = (3, 5, 30, 32)  # five frames fit a network that halves space alone
    with pytest.raises(
        UnfitShapeError, match="5x30x32 do not fit this network, which needs multiples of 1x4x4"
    ) as caught:
        IdentityConfig().fitted(clips, dims=3, multiples=(1, 4, 4))
    assert caught.value.nearest == (3, 5, 32, 32)
    assert IdentityConfig().fitted((3, 5, 32, 32), dims=3, multiples=(1, 4, 4)) == IdentityConfig()
    with pytest.raises(UnfitShapeError, match="latents of 3x4 do not fit") as caught:
        AUTOENCODER.fitted((3, 6, 8), dims=2, multiples=(1, 8))
    assert caught.value.nearest == (3, 6, 16)
    with pytest.raises(ValueError, match="takes 2 spatial dimensions, and these signals have 1"):
        IdentityConfig().fitted((3, 30), dims=2, multiples=(1,))
    with pytest.raises(UnfitShapeError, match="multiples of 2, got 7x8") as caught:
        AUTOENCODER.shape((3, 7, 8))
    assert caught.value.nearest == (3, 8, 8)


@pytest.mark.parametrize(
    "config", [*(config for config, *_ in WHOLE.values()), AUTOENCODER], ids=lambda c: repr(c)[:30]
)
def test_a_configuration_is_the_same_after_json(config: CodecConfig) -> None:
    plain = {"type": registry.name_of("codec", config), **to_plain(config)}
    assert from_plain(CodecConfig, json.loads(json.dumps(plain))) == config


def test_spectra_of_earlier_files_were_options_of_the_modality() -> None:
    network = to_plain(ModelConfig(kind="denoiser", network=UNetConfig(), modality=TensorModality(shape=(1, 8, 8))))
    old = {
        "kind": "denoiser",
        "network": network["network"],
        "modality": {"type": "AudioModality", "samples": 1_000, "channels": 2, "n_fft": 64, "hop": 32, "scale": 3.0},
    }
    config = from_plain(ModelConfig, old)
    assert config.modality.shape == (2, 1_000)
    assert config.codec == SpectrumConfig(n_fft=64, hop=32, scale=3.0)


@pytest.mark.parametrize("config", [AUTOENCODER, RotationConfig()], ids=["autoencoder", "rotation"])
def test_weights_lie_beside_the_model(config: CodecConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    modality = TensorModality(shape=(2, 8))
    codec = config.build(modality.shape)
    shape = codec.shape
    network = UNetConfig(channels=shape[0], dims=1, patch=1, widths=(8,), blocks=(1,), head_dim=8, embedding_dim=16)
    model = ModelConfig(kind="consistency", network=network, modality=modality, codec=config)
    save(model, model.build().net.state_dict(), tmp_path / "m", "# m\n", codec=codec)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "README.md", "codec.safetensors", "config.json", "model.safetensors",
    ]  # fmt: skip
    g = load(tmp_path / "m")
    x = signals(modality.shape).detach()
    assert torch.equal(g.codec.encode(x), codec.eval().encode(x))
    assert tuple(g.sample(2).shape) == (2, 2, 8)
    assert not any(parameter.requires_grad for parameter in g.codec.parameters())
    assert g.config.codec.sha256  # type: ignore[attr-defined]
    other = config.build(modality.shape)
    save(model, model.build().net.state_dict(), tmp_path / "other", "# o\n", codec=other)
    (tmp_path / "m" / "codec.safetensors").write_bytes((tmp_path / "other" / "codec.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"codec\.safetensors has other weights than .* names"):
        load(tmp_path / "m")
    (tmp_path / "m" / "codec.safetensors").unlink()
    with pytest.raises(ValueError, match=r"codec\.safetensors: no such file"):
        load(tmp_path / "m")


def test_an_autoencoder_learns_the_bundled_images() -> None:
    """It explains most of the variance of images that it has not seen, in a quarter of their values."""
    data = prepare(DataConfig(source="fashion-mnist:test", limit=400), progress=False)
    x = torch.from_numpy(data.values.copy()).float() / 127.5 - 1
    codec = train_autoencoder(x[:340], AutoencoderConfig(widths=(16,), latents=1), steps=80, batch_size=16, lr=5e-3)
    unseen = x[340:]
    z = codec.encode(unseen)
    assert tuple(z.shape[1:]) == (1, 14, 14)
    assert float((codec.decode(z) - unseen).square().mean()) < 0.3 * float(unseen.var())
    assert float(z.std()) == pytest.approx(0.5, rel=0.15)


def test_a_model_is_trained_in_latent_space_saved_loaded_and_sampled(tmp_path: Path) -> None:
    config = run_config("denoising", tmp_path, max_steps=2)
    data = prepare(config.data, progress=False)
    codec = train_autoencoder(data, AUTOENCODER, steps=3, out=tmp_path / "codec.safetensors")
    network = replace(config.model.network, position_sizes=())  # type: ignore[type-var]
    config = replace(config, model=replace(config.model, network=network, codec=codec.config))
    assert train(config, tmp_path / "run", device="cpu", console=Console(quiet=True))
    g = load(tmp_path / "run")
    assert g.shape == (2, 4, 4)
    assert g.config.network.channels == 2  # type: ignore[attr-defined]
    assert g.config.codec.weights == "codec.safetensors"  # type: ignore[attr-defined]
    assert torch.equal(g.codec.decoder[0].weight, codec.decoder[0].weight)  # type: ignore[index,union-attr]
    x = g.sample(2, steps=2)
    assert tuple(x.shape) == (2, 1, 8, 8)
    assert x.isfinite().all()
    model = replace(g.config, codec=AUTOENCODER)
    with pytest.raises(ValueError, match="names no weights; train them first"):
        model.build_codec()


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_an_autoencoder_needs_a_step_and_signals_in_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        train_autoencoder(torch.zeros(2, 1, 8, 8), AUTOENCODER, **{name: 0})
