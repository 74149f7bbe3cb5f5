"""A training of live objects, in one process or as one of several: a network, tensors and an optimizer made by hand."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.data import Dataset
from unistep.objectives import CTConfig
from unistep.training.trainer import Trainer

STEPS = 4


class Net(nn.Module):
    """A network from elsewhere, with a class as its condition."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.level = nn.Linear(1, 8)
        self.label = nn.Embedding(4, 8)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Any]) -> Tensor:
        h = self.first(x) + (self.level(t[:, None]) + self.label(condition["label"].index + 1))[..., None, None]
        return self.last(nn.functional.silu(h))


def train(out: Path, *, stop_at: int | None = None, resume: bool = False) -> tuple[bool, str]:
    """Train; the main process alone writes the averaged weights and a sample into ``out``.

    Args:
        out: Folder of the run.
        stop_at: Step after which the main process, and no other, asks to stop.
        resume: Whether to go on.

    Returns:
        Whether the last step was reached, and what was shown.
    """
    main, stop, text = os.environ.get("RANK", "0") == "0", threading.Event(), io.StringIO()
    data = Dataset.from_tensors(
        torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1, label=torch.arange(40) % 3
    )
    trainer = Trainer(
        CTConfig().build(ConsistencyModel(Net(), VarianceExploding()), None),
        data,
        steps=STEPS,
        batch_size=8,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        device="cpu",
        precision="fp32",
        out=out,
        sample_every="2",
        cancel=stop,
        callback=lambda progress: stop.set() if main and progress.step == stop_at else None,
        console=Console(file=text),
    )
    done = trainer.run(resume=resume)
    generator = trainer.generator()
    if main and done:
        made = {"sample": generator.sample(2, seed=3, label=1), **generator.map.net.state_dict()}
        torch.save(made, out / "made.pt")
    elif not main and text.getvalue():
        raise AssertionError(f"a process beside the main one has shown {text.getvalue()!r}")
    return done, text.getvalue()
