"""Two minutes of training on the bundled pictures: a many-step teacher becomes a one-step student."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from torch import Tensor

from unistep.data import DataConfig
from unistep.demo.compare import labels_for
from unistep.generation.generator import Generator
from unistep.generation.saving import provenance_of
from unistep.hub.load import load
from unistep.objectives.ect import ECTConfig
from unistep.provenance import Provenance
from unistep.recipes import recipe as recipe_of
from unistep.training.log import read_metrics
from unistep.training.pace import PLANS
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import ASKED, CONFIG

RECIPE = "fashion/ect"
"""The recipe that is run, with a smaller budget and the bundled test pictures."""
NAME = "demo"
"""What the run calls itself; a folder with such a run may be replaced by the next demo."""
PARTS = {ASKED, CONFIG, PLANS, "metrics.jsonl", "samples", "checkpoints", "model", "tensorboard"}
"""What a run's folder holds."""
FRAMES = 6
"""Most frames of the film of the training."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What became of the training."""

    before: Tensor
    """The teacher's weights asked for one step."""
    after: Tensor
    """The student in one step, from the same noise."""
    frames: list[tuple[int, Image.Image]]
    """Optimizer step and grid of samples, along the training."""
    steps: int
    """Optimizer steps."""
    images: int
    """Pictures shown to the network, repeats counted."""
    seconds: float
    """Time of the training."""
    teacher: Provenance
    """The model that ``before`` is of."""
    student: Provenance
    """The model that the others are of."""


def tuning_config(teacher: str, network_of: Generator, seconds: float, seed: int) -> RunConfig:
    """The recipe with the teacher's network, the bundled pictures and a budget of seconds."""
    recipe = recipe_of(RECIPE)
    objective = recipe.objective
    assert isinstance(objective, ECTConfig)
    return replace(
        recipe,
        recipe=NAME,
        data=DataConfig(source="fashion-mnist", split="test"),
        model=replace(recipe.model, network=network_of.config.network),
        teacher=teacher,
        objective=replace(objective, curriculum=replace(objective.curriculum, anchor=0.6)),
        # A few hundred steps are all there is, on a slow machine a hundred, and the usual warm-up would be a quarter.
        schedule=replace(recipe.schedule, warmup_steps=20, decay=0.5),
        auto=("curriculum",),
        budget=f"{seconds:g}s",
        max_steps=None,
        seed=seed,
        sample_every=f"{max(1.0, seconds / FRAMES):.1f}s",
        checkpoint_every="10m",
        keep=1,
    )


def one_step(teacher: Generator, count: int, seed: int) -> Tensor:
    """The teacher's guess at the picture after a single network call, shape ``[count, *shape]``."""
    return teacher.sample(count, steps=1, solver="euler", seed=seed, **labels_for(teacher, count))


def tune(teacher: str, folder: Path, *, seconds: float, seed: int, count: int, console: Console) -> Tuning | None:
    """Train a one-step student in ``folder`` and show it beside what it started from.

    Args:
        teacher: The denoiser to start from: a zoo name or a folder.
        folder: The run's folder; one of an earlier demo is replaced.
        seconds: Time for training.
        seed: Seed of the training and of the first sample.
        count: Number of samples to show.
        console: Where the training shows its progress.

    Returns:
        The result, or ``None`` after an interruption.

    Raises:
        ValueError: If the folder holds something else than an earlier demo.
    """
    start = load(teacher)
    clear(folder)
    if not train(tuning_config(teacher, start, seconds, seed), folder, console=console, device="cpu"):
        return None
    student = load(folder)
    rows = read_metrics(folder)
    grids = sorted((folder / "samples").glob("*.png"))
    chosen = [grids[i] for i in sorted({round(i * (len(grids) - 1) / (FRAMES - 1)) for i in range(FRAMES)})]
    return Tuning(
        before=one_step(start, count, seed),
        after=student.sample(count, steps=1, seed=seed, **labels_for(student, count)),
        frames=[(int(path.stem), _frame(path, student.shape[1:])) for path in chosen],
        steps=rows[-1]["step"] if rows else 0,
        images=int(rows[-1]["images"]) if rows else 0,
        seconds=float(rows[-1]["seconds"]) if rows else 0.0,
        teacher=provenance_of(start),
        student=provenance_of(student),
    )


def _frame(path: Path, size: tuple[int, ...]) -> Image.Image:
    with Image.open(path) as sheet:
        return native(sheet, size)


def clear(folder: Path) -> None:
    """Remove the run of an earlier demo.

    Raises:
        ValueError: If the folder holds anything else: nothing of a person's is ever deleted.
    """
    import json
    import shutil

    if not folder.exists():
        return
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in PARTS and entry.name[:1] != ".")
    config = next((path for path in (folder / CONFIG, folder / ASKED) if path.is_file()), None)
    if not others and config is not None:
        try:
            recipe = json.loads(config.read_text(encoding="utf-8")).get("recipe")
        except (ValueError, AttributeError):
            recipe = "unreadable"
        others = [] if recipe == NAME else [f"a run of {recipe!r}"]
    if others:
        raise ValueError(f"{folder} holds {others[0]}, which is not of a demo; give another folder with --out")
    shutil.rmtree(folder)


def native(sheet: Image.Image, size: tuple[int, ...], gap: int = 2) -> Image.Image:
    """A sheet of enlarged pictures on white paper, put together again at the pictures' own size on black.

    Args:
        sheet: The sheet, with white lines between the pictures.
        size: Height and width of a picture, in pixels.
        gap: Black pixels between them.
    """
    pixels = np.asarray(sheet.convert("L"))
    inked = pixels < 255
    rows, columns = _spans(inked.max(axis=1)), _spans(inked.max(axis=0))
    height, width = size
    made = Image.new("L", (len(columns) * (width + gap) - gap, len(rows) * (height + gap) - gap))
    for r, (top, bottom) in enumerate(rows):
        for c, (left, right) in enumerate(columns):
            tile = sheet.convert("L").crop((left, top, right, bottom)).resize((width, height), Image.Resampling.BOX)
            made.paste(tile, (c * (width + gap), r * (height + gap)))
    return made


def _spans(inked: np.ndarray) -> list[tuple[int, int]]:
    """Beginnings and ends of the stretches of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inked, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
