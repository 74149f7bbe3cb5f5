"""The demo from beginning to end: images of texts, then sample, walk, train, compare, and show it all on one page."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from unistep.demo.compare import class_names, labels_for, shoot, walk
from unistep.demo.page import Story, duration, render, times_faster
from unistep.demo.tune import clear, one_step, tune
from unistep.demo.written import Written, write
from unistep.evaluation.hardware import hardware
from unistep.files import write_text
from unistep.generation.generator import Generator
from unistep.generation.saving import provenance_of
from unistep.hub.load import load
from unistep.modalities.writing import write_picture
from unistep.provenance.mark import together

HERO, PAIR, WALK, TUNED = 72, 30, 8, 20
"""How many pictures: at the top of the page, of student and teacher, of the walk, before and after the training."""

PICTURES = ("written.png", "one-step.png", "side-by-side.png", "walk.png", "tuning.png")
"""The pictures beside the page."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo does."""

    out: Path = Path("unistep-demo")
    """Folder for the page, the pictures and the trained model."""
    seconds: float = 120
    """Time for training, in seconds."""
    seed: int = 0
    """Seed of the first sample and of the training."""
    writer: str = "emoji"
    """The one-step model that makes images of texts; empty for none."""
    student: str = "fashion"
    """The one-step model that is compared with its teacher."""
    teacher: str = "fashion-teacher"
    """Its teacher, which the training starts from too."""
    teacher_steps: int = 18
    """Heun steps of the teacher."""
    evaluated: int = 1000
    """Samples for the quick Fréchet distance; 0 leaves it out."""

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 86_400:
            raise ValueError(f"seconds must be from 1 to 86400, got {self.seconds:g}")
        if not 0 <= self.seed < 2**62:
            raise ValueError(f"seed must be from 0 to 2**62 - 1, got {self.seed}")


def run_demo(config: DemoConfig, console: Console) -> Path | None:
    """Run the demo.

    Args:
        config: What to do.
        console: Where to say what happens.

    Returns:
        The page, or ``None`` where the training was interrupted.

    Raises:
        ValueError: If a model is missing, or the folder cannot be written or holds something else.
    """
    began = time.perf_counter()
    out, seed = config.out.expanduser(), config.seed
    clear(out / "run")
    student, teacher = load(config.student), load(config.teacher)
    parameters = sum(p.numel() for p in student.map.parameters())
    console.print(
        f"[bold]Unistep[/bold]: a model of {parameters / 1e6:.1f} million parameters on {hardware()}", highlight=False
    )

    written = _written(config, out, console)
    hero = shoot(student, HERO, 1, seed + 1000)
    fast = shoot(student, PAIR, 1, seed)
    slow = shoot(teacher, PAIR, config.teacher_steps, seed, repeats=1)
    _say(console, f"one step:      {PAIR} pictures in {duration(fast.seconds)}, {fast.calls} network call each")
    _say(console, f"its teacher:   the same {PAIR} in {duration(slow.seconds)}, {slow.calls} network calls each")
    _say(console, f"               {times_faster(slow.seconds / fast.seconds)} times faster in one step")
    sheet = student.config.modality.contact_sheet
    _picture(out / "one-step.png", student.config.modality.grid(hero.pictures, columns=12), student)
    titles = (f"one step\n{duration(fast.seconds)}", f"{slow.steps} Heun steps\n{duration(slow.seconds)}")
    _picture(
        out / "side-by-side.png",
        sheet([(titles[0], fast.pictures[:10]), (titles[1], slow.pictures[:10])]),
        student,
        teacher,
    )

    noise, shots = walk(student, WALK, seed)
    rows = [(f"{shot.steps} step{'s' if shot.steps > 1 else ''}", shot.pictures) for shot in shots]
    _picture(out / "walk.png", sheet([("noise", noise), *rows]), student)
    _say(console, "the same noise in " + ", ".join(f"{s.steps} ({duration(s.seconds)})" for s in shots) + " steps")

    console.print(
        f"\nNow a one-step student from that teacher, on the 10,000 bundled pictures, for {duration(config.seconds)}.",
        highlight=False,
    )
    tuning = tune(config.teacher, out / "run", seconds=config.seconds, seed=seed, count=TUNED, console=console)
    if tuning is None:
        return None
    tuned = load(out / "run")
    _picture(out / "tuning.png", sheet([("before", tuning.before[:10]), ("after", tuning.after[:10])]), tuned)
    distances, features = _distances(config, teacher, tuned, student)
    if distances:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in distances.items())
        _say(console, f"quick Fréchet distance, {config.evaluated:,} one-step samples: {figures}")
    story = Story(
        written=written,
        names=class_names(student),
        hero=hero,
        student=fast,
        teacher=slow,
        noise=noise,
        walk=shots,
        tuning=tuning,
        distances=distances,
        evaluated=config.evaluated,
        features=features,
        parameters=parameters,
        hardware=hardware(),
        torch=torch.__version__,
        date=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        seed=seed,
        total_seconds=time.perf_counter() - began,
        folder=str(config.out),
    )
    page = out / "index.html"
    write_text(page, render(story))
    _report(console, out, story)
    return page


def _written(config: DemoConfig, out: Path, console: Console) -> Written | None:
    """Images of texts, with a line that says what they took; ``None`` where there is no encoder to read texts."""
    if not config.writer:
        return None
    try:
        writer = load(config.writer)
        written = write(writer, config.seed)
    except ValueError as error:
        _say(console, f"without images of texts: {error}")
        return None
    count = len(written.texts) * written.pictures.shape[1]
    _say(console, f"from texts:    {count} images of {len(written.texts)} texts, {duration(written.seconds)} each")
    rows = list(zip(written.texts, written.pictures, strict=True))
    _picture(out / "written.png", writer.config.modality.contact_sheet(rows), writer)
    return written


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)


def _picture(path: Path, image: Image.Image, *models: Generator) -> None:
    """Write a picture that says which models made what it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(image, path, together([provenance_of(model) for model in models]))


def _distances(
    config: DemoConfig, teacher: Generator, tuned: Generator, shipped: Generator
) -> tuple[dict[str, float], str]:
    """Fréchet distances to the bundled pictures before and after, and of the shipped model; and the features' label."""
    if not config.evaluated:
        return {}, ""
    from unistep.data import DataConfig, prepare
    from unistep.evaluation import feature_roles, load_features, quick_fd

    data = prepare(DataConfig(source="fashion-mnist", split="test"))
    # One that reports: the shipped model was trained on the network that selects, and looks better on it than it is.
    network = load_features(feature_roles(data).reporting[0], data.modality, data=data)
    seed, count = config.seed + 10_000, config.evaluated
    drawn: Sequence[tuple[str, Tensor]] = (
        ("before", one_step(teacher, count, seed)),
        ("after", tuned.sample(count, steps=1, seed=seed, **labels_for(tuned, count))),
        ("shipped", shipped.sample(count, steps=1, seed=seed, **labels_for(shipped, count))),
    )
    return {name: quick_fd(x, data, features=network) for name, x in drawn}, str(network.label)


def _report(console: Console, out: Path, story: Story) -> None:
    from unistep.training.display import show_table

    rows = {
        "page": f"{out / 'index.html'}  ({(out / 'index.html').absolute().as_uri()})",
        "pictures": ", ".join(str(out / name) for name in PICTURES if (out / name).is_file()),
        "trained model": f"{out / 'run'}  (unistep sample {out / 'run'})",
    }
    console.print()
    show_table(console, f"the demo, in {duration(story.total_seconds)}", rows)
