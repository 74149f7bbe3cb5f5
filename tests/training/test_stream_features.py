"""FD loss of streams: chunks by themselves and after their past, where it is known what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import metrics, run
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.condition import CONTEXT, Condition, Signal
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.data import DataConfig, Dataset, data_config
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.hub import save
from unistep.modalities.video import VideoModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import Objective
from unistep.objectives.fd import FDConfig
from unistep.training.examples import Examples
from unistep.training.materials import RunMaterials
from unistep.training.optim import AdamConfig, Schedule
from unistep.training.run_config import RunConfig
from unistep.training.selection import SelectionConfig
from unistep.training.stream_selection import stream_distance

CLIPS = VideoModality(size=8, channels=1, frames=4)
CODEC = NextFrameConfig(history=2, scale=0.5)
CONTEXT_OF_TWO = Context(frames=2, noise=0.6, level=0.05, missing=0.0, changing=())
CPU = torch.device("cpu")


def sliding(count: int = 240) -> Dataset:
    """Textures that slide by one pixel a frame."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Dataset.from_tensors(torch.stack([texture.roll(j, dims=-1) for j in range(4)], dim=2))


def materials(data: Dataset, context: Context = CONTEXT_OF_TWO) -> RunMaterials:
    model = ModelConfig(
        kind="consistency",
        network=UNetConfig(channels=1, widths=(8, 8), blocks=(1, 1)),
        modality=CLIPS,
        codec=CODEC,
        context=context,
    )
    objective = FDConfig(population=100)
    config = RunConfig(recipe="fd", data=DataConfig(source="moving-fashion"), model=model, objective=objective)
    codec = CODEC.build(CLIPS.shape)
    return RunMaterials(config, data, examples=Examples(CLIPS, codec, context, 0.5, as_in_streams=True))


def drawn(made: RunMaterials, count: int) -> tuple[Tensor, Condition]:
    (found,) = list(made.examples(count))
    return found


def test_real_frames_agree_and_those_of_other_pasts_are_told_apart_in_pairs_alone() -> None:
    made = materials(sliding())
    single, pair = made.representations(["pixels"])
    assert (single.name, pair.name) == ("pixels-single", "pixels-pair")
    x, condition = drawn(made, 240)
    for representation, frames in ((single, 1), (pair, 2)):
        assert representation.given
        real = Moments.of(representation.features(x, condition))  # type: ignore[call-arg]
        data = Moments.known(representation.mean, representation.covariance, 240)
        other = Moments.of(representation.features(x.roll(1, dims=0), condition))  # type: ignore[call-arg]
        spread = float(representation.covariance.trace())
        assert frechet_distance(data, real) < 1e-3 * spread
        assert (frechet_distance(data, other) > 0.05 * spread) == (frames == 2)


def test_the_gradient_reaches_the_frame_and_the_past_is_what_was_shown() -> None:
    made = materials(sliding(), replace(CONTEXT_OF_TWO, level=0.0, noise=0.0))
    single, pair = made.representations(["pixels"])
    x, condition = drawn(made, 20)
    assert isinstance(condition[CONTEXT], Signal)
    stored, _ = sliding().batch([i * 12 for i in range(20)])
    signal = CLIPS.to_signal(stored)
    torch.testing.assert_close(x, signal[:, :, -1] / 2)
    y = (0.9 * x).requires_grad_()
    found = pair.features(y, condition)  # type: ignore[call-arg]
    whole = CLIPS.part((1, 2, 8, 8)).quantised(torch.stack([signal[:, :, 2], 2 * y.detach()], dim=2))
    torch.testing.assert_close(found, pair.features.network(whole), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]
    alone = single.features(y, condition)  # type: ignore[call-arg]
    for features in (found, alone):
        assert torch.autograd.grad(features.square().sum(), y, retain_graph=True)[0].abs().min() > 0


def test_the_noise_on_the_past_is_that_of_a_stream() -> None:
    past = torch.randn(400, 2, 4, 4)
    context = replace(CONTEXT_OF_TWO, missing=0.3)
    generator = torch.Generator().manual_seed(0)
    shown = context.in_training({}, past, 0.5, generator, as_in_streams=True)[CONTEXT]
    assert isinstance(shown, Signal)
    has = shown.has_condition()
    assert 0.2 < 1 - float(has.float().mean()) < 0.4
    assert torch.equal(shown.level[has], torch.full((int(has.sum()),), 0.05))
    back = context.past_shown(shown, 0.5)
    assert (back[~has] == 0).all()
    error = (back - past)[has]
    assert float(error.std()) == pytest.approx(0.5 * 0.05, rel=0.1)


def test_chunks_of_other_signals_have_pairs_too() -> None:
    codec = IdentityConfig(chunk=4, scale=0.5)
    assert codec.pair_shape((3, 8), 2) == (3, 6)
    assert IdentityConfig().pair_shape((3, 8), 2) is None
    with pytest.raises(ValueError, match="Identity makes no signal of a chunk"):
        IdentityConfig().build((3, 8)).preceded(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4))


def test_weights_of_a_stream_are_selected_by_what_follows_its_past() -> None:
    """A model that knows the next frame is nearer than one that holds the last, whose single frames are as good."""
    data = sliding()
    examples = Examples(CLIPS, CODEC.build(CLIPS.shape), replace(CONTEXT_OF_TWO, level=0.0, noise=0.0), 0.5)

    class Shifts(ConsistencyModel):
        """Moves the last frame that it is shown."""

        by = 1

        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Any = None) -> Tensor:
            shown = condition[CONTEXT]
            assert isinstance(shown, Signal)
            return shown.signal[:, -1:].roll(self.by, dims=-1) * 0.5

    student = Shifts(torch.nn.Identity(), VarianceExploding())
    seen: list[int] = []

    class Around(Objective):
        """Says how many conditions it is asked for."""

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

        def shown(self, condition: Condition, generator: Any) -> Condition:
            seen.append(len(condition[CONTEXT]))
            return condition

    distance, label = stream_distance("pixels", data, examples, Around(student), 240, CPU)
    assert label == "pixels-pair"
    right = distance()
    assert right == distance()
    assert sum(seen) == 2 * 240
    student.by = 0
    assert distance() > 10 * right + 1


def test_post_training_of_a_stream_brings_its_frames_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run: data, features of frames and pairs, selection."""
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    data = data_config("moving-fashion:test", modality="video", frames=4, size=8, limit=240)
    network = UNetConfig(channels=1, dims=2, widths=(16,), blocks=(1,), middle_blocks=1, head_dim=16, embedding_dim=16)
    options = {"modality": CLIPS, "codec": NextFrameConfig(history=2), "context": replace(CONTEXT_OF_TWO, missing=0.1)}
    start = ModelConfig(kind="consistency", network=network, **options).fitted()  # type: ignore[arg-type]
    torch.manual_seed(0)
    save(start, start.build().net.state_dict(), tmp_path / "start", "# a start\n")
    config = RunConfig(
        recipe="fd",
        data=data,
        model=start,
        objective=FDConfig(representations=("pixels",), population=240),
        init=str(tmp_path / "start"),
        optimizer=AdamConfig(lr=3e-3),
        schedule=Schedule(warmup_steps=1),
        max_steps=30,
        batch_size=24,
        precision="fp32",
        selection=SelectionConfig(every=30, samples=120),
        sample_every="1000",
        checkpoint_every="100",
    )
    done, said = run(config, tmp_path / "run")
    assert done
    assert "step 0: Fréchet distance" in said
    logged = metrics(tmp_path / "run")
    trained = [line for line in logged if "fd/pixels-pair" in line]
    for name in ("fd/pixels-single", "fd/pixels-pair"):
        assert trained[-1][name] < 0.8 * trained[0][name]
