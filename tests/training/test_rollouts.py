"""Students that make the end of their past themselves in training: the same in any share of a batch, on any process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.action_fields import ActionField
from unistep.core.condition import Condition, select
from unistep.core.flowmap import Map
from unistep.core.seeding import ShardGenerator
from unistep.data import Dataset, Loader
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.modalities.video import VideoModality
from unistep.nets.unet import UNetConfig
from unistep.objectives import ECTConfig
from unistep.objectives.reuse import WINDOW
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.parallel import World
from unistep.training.step import TrainStep

BATCH, ROLLOUT = 8, 3
FRAMES = 2 + 1 + ROLLOUT
CONFIG = ModelConfig(
    kind="consistency",
    network=UNetConfig(
        patch=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16, channels=3, dropout=0.5
    ),
    modality=VideoModality(size=8, channels=3, frames=FRAMES),
    codec=NextFrameConfig(history=2),
    context=Context(frames=2, noise=0.1, missing=0.0, rollout=ROLLOUT),
    fields={"action": ActionField(names=("go",), low=(-1,), high=(1,))},
).fitted()
EXAMPLES = Examples(CONFIG.modality, CONFIG.build_codec(), CONFIG.context, CONFIG.sigma_data)


@pytest.fixture(scope="module")
def student() -> Map:
    """A student with random weights, none of them zero, in training."""
    torch.manual_seed(0)
    model = CONFIG.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.train()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Condition]:
    """Stored clips, and an action for each of their frames."""
    generator = torch.Generator().manual_seed(1)
    stored = torch.randint(0, 256, (BATCH, *CONFIG.modality.shape), generator=generator, dtype=torch.uint8)
    actions = torch.rand(BATCH, FRAMES, 1, generator=generator) * 2 - 1
    return stored, {"action": CONFIG.fields["action"].parse("action", list(actions), BATCH)}


def shown(
    batch: tuple[Tensor, Condition], student: Map | None, rows: slice = slice(0, BATCH), examples: Examples = EXAMPLES
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a share of the batch is: clean inputs, and all conditions as tensors."""
    stored, condition = batch
    generator = ShardGenerator(torch.Generator().manual_seed(2), rows.start, rows.stop, BATCH)
    x0, known = examples(stored[rows], select(condition, rows), torch.device("cpu"), generator, student)
    return x0, {f"{name}/{key}": tensor for name, value in known.items() for key, tensor in value.tensors.items()}


@pytest.mark.parametrize("parts", [2, 8])
def test_shares_of_a_batch_are_shown_what_the_whole_is(parts: int, student: Map, batch: Any) -> None:
    x0, known = shown(batch, student)
    size = BATCH // parts
    shares = [shown(batch, student, slice(start, start + size)) for start in range(0, BATCH, size)]
    assert torch.equal(torch.cat([share[0] for share in shares]), x0)
    for name, tensor in known.items():
        together = torch.cat([share[1][name] for share in shares])
        assert (together - tensor).abs().max() < 1e-5, name
    _, other = shown(batch, CONFIG.build())
    differs = (other["context/signal"] != known["context/signal"]).flatten(1).any(1)
    assert 0 < differs.sum() < BATCH  # of the others all that is shown is the data's


def test_frames_that_are_rolled_out_follow_from_their_own_actions(student: Map, batch: Any) -> None:
    """Those of the frame that is to come do not change the past, and those of the frames before it do."""
    stored, condition = batch
    _, before = shown(batch, student)
    for number, changes in ((FRAMES - 1, False), (FRAMES - 2, True), (FRAMES - 1 - ROLLOUT, True), (1, False)):
        vector = condition["action"].tensors["vector"].clone()
        vector[:, number] = 1.0
        other = {"action": replace(condition["action"], vector=vector)}
        _, after = shown((stored, other), student)
        assert torch.equal(before["context/signal"], after["context/signal"]) != changes, number


def test_the_student_is_left_as_it_was(student: Map, batch: Any) -> None:
    state = torch.get_rng_state()
    x0, known = shown(batch, student)
    assert all(part.training for part in student.modules())
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in (x0, *known.values()))
    assert torch.equal(torch.get_rng_state(), state)


def test_rolling_out_compiles_nothing(batch: Any) -> None:
    """A part of the batch goes through the network, of another size each time, and each size would be compiled anew."""
    torch.manual_seed(0)
    model, compiled = CONFIG.build(), list[int]()

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    plain = shown(batch, model)
    model.net.compile(backend=count)
    x0, known = shown(batch, model)
    assert compiled == []
    assert torch.equal(x0, plain[0])
    assert all(torch.equal(known[name], plain[1][name]) for name in known)
    model.net(torch.zeros(2, 3, 8, 8), torch.zeros(2), None, {})
    assert compiled  # in training it is


@pytest.mark.parametrize("rollout", [0, ROLLOUT])
def test_answers_of_a_teacher_are_not_kept_for_frames_that_change(rollout: int, student: Map, batch: Any) -> None:
    """The same draw shows other frames when the student that made them has learned."""
    teacher = replace(CONFIG, kind="denoiser").build()
    objective = ECTConfig(target="euler", teacher_reuse=2).build(student, teacher)  # type: ignore[arg-type]
    answered: list[int] = []
    teacher.register_forward_hook(lambda *_: answered.append(1))
    data = Dataset.from_tensors(batch[0], modality=CONFIG.modality, fields=CONFIG.fields, **batch[1])
    examples = replace(EXAMPLES, context=replace(EXAMPLES.context, rollout=rollout))  # type: ignore[type-var]
    step = TrainStep(objective, Loader(data, BATCH, 0), examples, LoopOptions(batch_size=BATCH), World())
    for number in (0, WINDOW):
        assert objective.draw(number) == 0
        step.gradient(number, 0.0)
    assert len(answered) == (2 if rollout else 1)
