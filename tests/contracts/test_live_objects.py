"""Live objects: a network, tensors and an objective made by hand train and sample without a recipe or a folder."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import unistep
from unistep.codecs.autoencoder import AutoencoderConfig
from unistep.core.fields import LabelField
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap
from unistep.core.path import LinearFlow, VarianceExploding
from unistep.evaluation.samplers import as_sampler
from unistep.generation.generator import Generator
from unistep.nets.unet import UNetConfig
from unistep.objectives import CDConfig, CTConfig, DenoisingConfig, MeanFlowConfig, PCMConfig, TCMConfig
from unistep.objectives.pcm import phase_times
from unistep.optimizers import AdamConfig
from unistep.training.autoencoder import train_autoencoder
from unistep.training.health import TrainingStoppedError
from unistep.training.loop import Progress
from unistep.training.trainer import Trainer

QUIET = Console(quiet=True)


class Net(nn.Module):
    """A network from elsewhere, with a class as its condition."""

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.level = nn.Linear(1, 8)
        self.label = nn.Embedding(classes + 1, 8)
        self.last = nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict) -> Tensor:
        h = self.first(x) + self.level(t.reshape(-1, 1))[..., None, None]
        if "label" in condition:
            h = h + self.label(condition["label"].index + 1)[..., None, None]
        return self.last(torch.nn.functional.silu(h))


def pictures(count: int = 40) -> Tensor:
    """Pictures in [-1, 1], [count, 1, 8, 8]."""
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def made(steps: int = 12, **options) -> Trainer:
    """A trainer of a fresh network; without a folder, unless ``out`` names one."""
    objective = CTConfig().build(ConsistencyModel(Net(), VarianceExploding()), None)
    data = unistep.Dataset.from_tensors(pictures(), label=torch.arange(40) % 3)
    settings = {"batch_size": 8, "device": "cpu", "precision": "fp32", "console": QUIET, **options}
    return Trainer(objective, data, steps=steps, **settings)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.objective.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_ten_lines_train_a_network_and_sample_it() -> None:
    """What the README shows."""
    x0 = pictures()
    student = unistep.ConsistencyModel(Net(), unistep.VarianceExploding())
    objective = CTConfig().build(student, None)
    trainer = unistep.Trainer(objective, x0, steps=5, batch_size=8, console=QUIET)
    assert trainer.run()
    samples = trainer.generator().sample(4, seed=7)
    assert tuple(samples.shape) == (4, 1, 8, 8)
    assert samples.isfinite().all()


def test_training_changes_the_student_and_the_generator_has_the_average() -> None:
    trainer = made()
    before = weights(trainer)
    assert trainer.run()
    assert trainer.step == 12
    after = weights(trainer)
    assert not same(before, after)
    generator = trainer.generator()
    assert isinstance(generator, Generator)
    averaged = dict(generator.map.net.named_parameters())
    trained = dict(trainer.objective.student.net.named_parameters())
    assert any(not torch.equal(value, trained[name]) for name, value in averaged.items())
    assert same(after, weights(trainer))  # taking a generator leaves the training as it was
    assert not torch.equal(generator.sample(1, label=0), generator.sample(1, label=2))


@pytest.mark.parametrize(
    "optimizer",
    [
        None,
        AdamConfig(lr=1e-3),
        lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.9),
    ],
    ids=["default", "options", "function"],
)
def test_a_stopped_run_goes_on_to_the_last_bit(optimizer, tmp_path: Path) -> None:
    whole, stop = made(optimizer=optimizer), threading.Event()
    assert whole.run()
    stopped = made(
        optimizer=optimizer, out=tmp_path / "run", cancel=stop, callback=lambda p: p.step == 5 and stop.set()
    )
    assert not stopped.run()
    assert stopped.step == 5
    again = made(optimizer=optimizer, out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"already holds a run; go on with run\(resume=True\)"):
        again.run()
    assert again.run(resume=True)
    assert same(weights(again), weights(whole))
    assert torch.equal(again.generator().sample(2, label=1), whole.generator().sample(2, label=1))
    stop.clear()
    assert stopped.run()  # in memory, too
    assert same(weights(stopped), weights(whole))


def test_a_folder_of_other_data_or_settings_does_not_go_on(tmp_path: Path) -> None:
    assert made(steps=2, out=tmp_path / "run").run()
    for changed in ({"batch_size": 4}, {"seed": 5}, {"steps": 3}):
        with pytest.raises(ValueError, match="the batch size, seed or number of steps has changed since the run"):
            made(out=tmp_path / "run", **{"steps": 2, **changed}).run(resume=True)


def test_numbers_checkpoints_and_samples_lie_in_the_folder(tmp_path: Path) -> None:
    assert made(out=tmp_path / "run", sample_every="6", checkpoint_every="6").run()
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2
    assert {path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")} == {"00000006", "00000012"}
    assert any((tmp_path / "run" / "samples").glob("00000012*"))


def test_a_callback_sees_every_step() -> None:
    seen: list[Progress] = []
    assert made(steps=4, callback=seen.append).run()
    assert [(p.step, p.total) for p in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [p.share for p in seen] == [0.25, 0.5, 0.75, 1.0]


def test_a_denoiser_of_a_live_optimizer() -> None:
    denoiser = Denoiser(Net(), VarianceExploding())
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-2)
    trainer = Trainer(
        DenoisingConfig().build(denoiser, None), pictures(), steps=3, batch_size=8, optimizer=optimizer, console=QUIET
    )
    assert trainer.run()
    assert trainer.generator().sample(2, steps=2).shape == (2, 1, 8, 8)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"objective must be an Objective, such as CTConfig\(\).build\(student, None"):
        Trainer(Net(), pictures())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        made(steps=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        made(batch_size=0)
    for name in ("steps", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got 2.5"):
            made(**{name: 2.5})
    one_time = UNetConfig(widths=(8,), blocks=(1,), embedding_dim=16, head_dim=8).build()
    with pytest.raises(ValueError, match="MeanFlowConfig needs a network that takes the time at which a jump ends"):
        Trainer(MeanFlowConfig().build(FlowMap(one_time, LinearFlow()), None), pictures())
    net = Net()
    with pytest.raises(ValueError, match="student and teacher share weights"):
        CDConfig().build(ConsistencyModel(net, VarianceExploding()), Denoiser(net, VarianceExploding()))


def test_a_network_that_diverges_is_stopped() -> None:
    trainer = made(steps=30)
    with torch.no_grad():
        trainer.objective.student.net.last.weight.fill_(float("nan"))
    with pytest.raises(TrainingStoppedError, match="steps in a row had a non-finite loss"):
        trainer.run()


def test_samples_are_drawn_on_the_times_that_the_objective_trains() -> None:
    """Phases take a step each, and a truncated model none below its transition."""
    phased = PCMConfig(phases=3).build(FlowMap(Net(), VarianceExploding()), None)
    g = Trainer(phased, pictures(), steps=1, batch_size=8, console=QUIET).generator()
    assert g.config.steps == 3
    assert tuple(g.times(3).tolist()) == pytest.approx(phase_times(phased.config, VarianceExploding()))
    first = ConsistencyModel(Net(), VarianceExploding())
    truncated = TCMConfig(transition=1.0).build(ConsistencyModel(Net(), VarianceExploding()), first)
    g = Trainer(truncated, pictures(), steps=1, batch_size=8, console=QUIET).generator()
    assert float(g.times(4)[-1]) >= 1


def test_a_weight_that_the_objective_draws_is_a_condition_of_samples() -> None:
    teacher = Denoiser(Net(), VarianceExploding())
    objective = CDConfig(guidance=2.0, guidance_range=(1, 4)).build(
        ConsistencyModel(Net(), VarianceExploding()), teacher
    )
    data = unistep.Dataset.from_tensors(pictures(), label=torch.arange(40) % 3)
    g = Trainer(objective, data, steps=1, batch_size=8, console=QUIET).generator()
    assert g.guidance == 2.0
    seen: list[float] = []
    g.map.net.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[3]["guidance"].value.tolist()))
    g.sample(2, guidance=[1.5, 3.0], label=1)
    assert seen == [1.5, 3.0]


def test_options_of_a_codec_bring_its_weights(tmp_path: Path) -> None:
    options = AutoencoderConfig(latents=1, widths=(8,))
    trained = train_autoencoder(pictures(), options, steps=1, batch_size=8, out=tmp_path / "codec.safetensors")
    student = ConsistencyModel(Net(), VarianceExploding())
    objective = CTConfig().build(student, None)
    trainer = Trainer(objective, pictures(), codec=trained.config, steps=1, batch_size=8, console=QUIET)
    assert same(trained.state_dict(), trainer.codec.state_dict())
    with pytest.raises(ValueError, match="names no weights"):
        Trainer(objective, pictures(), codec=options, steps=1, batch_size=8, console=QUIET)


def test_an_optimizer_keeps_what_it_remembers() -> None:
    objective = CTConfig().build(ConsistencyModel(Net(), VarianceExploding()), None)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.0, momentum=0.9)
    for p in objective.student.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    before = {p: optimizer.state[p]["momentum_buffer"].clone() for p in objective.student.parameters()}
    Trainer(objective, pictures(), steps=1, batch_size=8, optimizer=optimizer, console=QUIET)
    assert all(torch.equal(optimizer.state[p]["momentum_buffer"], value) for p, value in before.items())


def test_conditions_that_a_network_does_not_take_are_no_fields_of_it() -> None:
    """They would be left out without a word, and a class too many would be no class."""
    plain, path = UNetConfig(widths=(8,), blocks=(1,), embedding_dim=16, head_dim=8), VarianceExploding()
    labelled = replace(plain, num_classes=3).build()
    for net, size in ((plain.build(), 3), (labelled, 4)):
        with pytest.raises(ValueError, match=f"takes no condition 'label' of label values .{size}."):
            Generator(ConsistencyModel(net, path), shape=(1, 8, 8), fields={"label": LabelField(size=size)})
    data = unistep.Dataset.from_tensors(pictures(), label=torch.arange(40) % 3)
    for net, names in ((plain.build(), set()), (labelled, {"label"})):
        objective = CTConfig().build(ConsistencyModel(net, path), None)
        assert Trainer(objective, data, steps=1, batch_size=8, console=QUIET).generator().config.fields.keys() == names
        assert as_sampler(objective.student, data).config.fields.keys() == names  # type: ignore[attr-defined]
    guided = CDConfig(guidance_range=(1, 4)).build(ConsistencyModel(labelled, path), Denoiser(Net(), path))
    with pytest.raises(ValueError, match="gives the student the condition 'guidance'"):
        Trainer(guided, data, steps=1, batch_size=8, console=QUIET)
