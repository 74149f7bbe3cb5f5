"""The smallest runs that still use everything: 40 pictures of 8 by 8, a U-Net of a few thousand parameters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.core.path import LinearFlow, TrigFlow, VarianceExploding
from unistep.core.timesteps import RatioCurriculum
from unistep.data import DataConfig
from unistep.generation.model_config import KINDS, Kind, ModelConfig
from unistep.hub import save
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives import (
    CDConfig,
    CTConfig,
    CTMConfig,
    CTMTrainingConfig,
    DenoisingConfig,
    DriftingConfig,
    ECTConfig,
    ICTConfig,
    IMFConfig,
    IMMConfig,
    MeanFlowConfig,
    MeanFlowDistillationConfig,
    PCMConfig,
    SCMConfig,
    ShortcutConfig,
    TCMConfig,
)
from unistep.objectives.adversarial import AdversarialConfig
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.fd import FDConfig
from unistep.objectives.meanflow import TargetGuidance
from unistep.training import resolve as resolve_module
from unistep.training.ema import ConstantEMA, PowerEMA
from unistep.training.optim import Schedule
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from unistep.training.timing import StepTime

CLASSES = 3
DEEP = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, num_classes=CLASSES, dropout=0.2)
NETWORK = replace(DEEP, widths=(8,), blocks=(1,), middle_blocks=1)
"""All kinds of layers in a third of the time."""
IMAGES = ImageModality(size=8, channels=1)
OBJECTIVES = {
    "denoising": DenoisingConfig(label_dropout=0.3),
    "ct": CTConfig(label_dropout=0.3),
    "cd": CDConfig(target_ema=0.9, guidance=1.5),
    "ect": ECTConfig(curriculum=RatioCurriculum(stages=3), target="heun", weighting="snr_plus_k"),
}
"""One of each, with averaged targets, guided teachers and teacher steps among them."""
GAN = AdversarialConfig(weight=0.5, balance="fixed", widths=(8, 16))
METHODS = OBJECTIVES | {
    "ict": ICTConfig(),
    "sct": SCMConfig(),
    "scd": SCMConfig(target="teacher", guidance=1.5),
    "tcm": TCMConfig(curriculum=RatioCurriculum(q=4.0, stages=1), distance=PseudoHuber()),
    "pcm": PCMConfig(phases=2, target="euler", distance=PseudoHuber(c=0.1)),
    "pcm-gan": PCMConfig(phases=2, adversarial=replace(GAN, kind="hinge")),
    "ctm": CTMConfig(levels=6),
    "ctm-gan": CTMConfig(levels=6, adversarial=GAN),
    "ctm-balanced": CTMConfig(levels=6, balance="adaptive", adversarial=replace(GAN, balance="adaptive")),
    "ctm-self": CTMTrainingConfig(levels=6, max_steps=2),
    "meanflow": MeanFlowConfig(guidance=TargetGuidance(omega=1.5), label_dropout=0.3),
    "meanflow-distilled": MeanFlowDistillationConfig(eps=1.0),  # the teacher's weights leave errors of rounding only
    "imf": IMFConfig(),
    "cd-told": CDConfig(guidance_range=(1.0, 4.0), distance=PseudoHuber(c=0.1)),
    "imf-told": IMFConfig(guidance_range=(1.0, 8.0), label_dropout=0.3),
    "shortcut": ShortcutConfig(sections=8),
    "imm": IMMConfig(particles=2, k=4.0),
    "drifting": DriftingConfig(group=2),
    "fd": FDConfig(representations=("pixels",), population=104, conditional=0.5, anchor=0.1),
}
"""Every method; groups are of two, the share of a process that accumulates two parts.

Where a student with its teacher's weights agrees with its target, a plain norm has the direction of a rounding error
for its gradient: a smooth distance has none.
"""
TAUGHT = (
    *("cd", "cd-told", "ect", "scd", "sct", "tcm", "pcm", "pcm-gan"),
    *("ctm", "ctm-gan", "ctm-balanced", "meanflow-distilled"),
)
"""Those that need a teacher."""
PATHS = {"sct": TrigFlow(), "scd": TrigFlow()} | {
    name: LinearFlow() for name in ("meanflow", "meanflow-distilled", "imf", "imf-told", "shortcut", "imm")
}
"""The paths of those that are not on the variance-exploding one."""


def make_data(path: Path, num: int = 40) -> Path:
    """Write an archive of pictures with labels."""
    source = np.random.default_rng(0)
    np.savez(path, arr_0=source.integers(0, 256, (num, 8, 8, 1), np.uint8), arr_1=np.arange(num) % CLASSES)
    return path


def make_teacher(folder: Path, network: UNetConfig = NETWORK, kind: Kind = "denoiser") -> Path:
    """Write a model, a denoiser without ``kind``, none of whose layers is zero."""
    fields = {"label": LabelField(size=CLASSES)}
    config = ModelConfig(kind=kind, network=replace(network, dropout=0.0), modality=IMAGES, fields=fields)
    torch.manual_seed(1)
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    save(config, net.state_dict(), folder, "# a teacher\n")
    return folder


def run_config(objective: str, folder: Path, *, network: UNetConfig = NETWORK, **changes: Any) -> RunConfig:
    """A run of ``objective`` on data (and a teacher) made in ``folder``, with ``changes`` to its defaults."""
    data, teacher = folder / "data.npz", folder / ("first" if objective == "tcm" else "teacher")
    if not data.exists():
        make_data(data)
    if not teacher.exists():
        make_teacher(teacher, network, kind="consistency" if objective == "tcm" else "denoiser")
    kind = next(kind for kind, made in KINDS.items() if made is METHODS[objective].trains)
    network = replace(network, second_time=kind == "flow_map" and not objective.startswith("pcm"))
    boundary = 0.002 if objective in ("ct", "ict", "ctm", "ctm-gan", "ctm-balanced", "ctm-self") else 0.0
    path = PATHS.get(objective, VarianceExploding())
    settings: dict[str, Any] = {
        "recipe": f"tiny-{objective}",
        "data": DataConfig(source=f"npz:{data}"),
        "model": ModelConfig(kind=kind, network=network, modality=IMAGES, path=path, boundary=boundary),
        "objective": METHODS[objective],
        "teacher": str(teacher) if objective in TAUGHT else None,
        "init": str(teacher) if METHODS[objective].continues else None,
        "schedule": Schedule(warmup_steps=3),
        "emas": (PowerEMA(sigma_rel=0.1), ConstantEMA(half_life=40)),
        "max_steps": 12,
        "batch_size": 8,
        "precision": "fp32",
        "checkpoint_every": "100",  # most of the time of so small a run would go into them
        "sample_every": "1000",
    }
    return RunConfig(**{**settings, **changes})


def steady(speed: float) -> Callable[..., StepTime]:
    """In place of a timing run, one that has found so many items per second, and an optimizer that takes no time."""
    return lambda *_: StepTime(batch_size=1, gradient=1 / speed)


def run(config: RunConfig, out: Path, **options: Any) -> tuple[bool, str]:
    """Train without the timing run, as if it had found 100 images/s; whether it was done, and what was printed."""
    text, measure = io.StringIO(), resolve_module.time_steps
    resolve_module.time_steps = steady(100)
    try:
        done = train(config, out, device="cpu", console=Console(file=text, width=400), **options)
    finally:
        resolve_module.time_steps = measure
    return done, text.getvalue()


def checkpoint(out: Path) -> tuple[int, dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Step, tensors and scalars of a run's newest checkpoint."""
    newest = max((out / "checkpoints").glob("[0-9]*"))
    state = json.loads((newest / "state.json").read_text())
    return state["step"], {path.stem: load_file(path) for path in newest.glob("*.safetensors")}, state["optimizer"]


def assert_same(a: Path, b: Path) -> None:
    """Two runs ended with the same weights, averages, targets and optimizer state, to the last bit."""
    (step_a, files_a, scalars_a), (step_b, files_b, scalars_b) = checkpoint(a), checkpoint(b)
    assert step_a == step_b
    assert scalars_a == scalars_b
    assert files_a.keys() == files_b.keys() >= {"weights", "optimizer"}
    for name, tensors in files_a.items():
        assert tensors.keys() == files_b[name].keys()
        different = [key for key, value in tensors.items() if not torch.equal(value, files_b[name][key])]
        assert not different, f"{name}: {different}"
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (a, b))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def metrics(out: Path) -> list[dict[str, Any]]:
    """The log, every line of which must be whole."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
