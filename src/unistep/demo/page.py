"""The demo's page: one file with its pictures inside, readable anywhere and without a network."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from PIL import Image
from torch import Tensor

from unistep.demo.compare import Shot
from unistep.demo.tune import Tuning
from unistep.demo.written import Written
from unistep.modalities.image import ImageModality
from unistep.provenance import Provenance, mark_content


@dataclass(frozen=True, kw_only=True)
class Story:
    """The contents of the page."""

    written: Written | None
    """Images of texts, if there is an encoder to read them."""
    names: tuple[str, ...]
    """Names of the classes, in the order of the pictures."""
    hero: Shot
    """Many one-step samples."""
    student: Shot
    """One-step samples to compare."""
    teacher: Shot
    """The teacher's samples of the same noise and labels."""
    noise: Tensor
    """What the walk starts from."""
    walk: list[Shot]
    """The same noise after several numbers of steps."""
    tuning: Tuning
    """The training."""
    distances: dict[str, float]
    """Quick Fréchet distances: ``before``, ``after`` and ``shipped``; empty where none were taken."""
    evaluated: int
    """Samples behind each distance."""
    features: str
    """Label of the feature network."""
    parameters: int
    """Parameters of the network."""
    hardware: str
    """What the times were taken on."""
    torch: str
    """Version of PyTorch."""
    date: str
    """When."""
    seed: int
    """Seed of the first sample."""
    total_seconds: float
    """Time of the whole demo."""
    folder: str
    """The demo's folder, as a person would type it."""

    @property
    def ratio(self) -> float:
        """How many times faster the student was."""
        return self.teacher.seconds / self.student.seconds


def duration(seconds: float) -> str:
    """A short time as people say it: ``8.4 ms``, ``31 ms``, ``1.9 s``, ``2 min 3 s``."""
    if seconds < 0.0995:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def times_faster(ratio: float) -> str:
    """A ratio without more digits than a measurement has."""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def mosaic(pictures: Tensor, columns: int, gap: int = 2) -> Image.Image:
    """Pictures at their own size, on black, ``columns`` in a row."""
    pixels = ImageModality.fitted(None, tuple(pictures.shape[1:])).to_stored(pictures)
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    mode = "L" if channels == 1 else "RGB"
    sheet = Image.new(mode, (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for i, picture in enumerate(pixels):
        tile = Image.fromarray((picture[0] if channels == 1 else picture.permute(1, 2, 0)).contiguous().numpy())
        sheet.paste(tile, ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return sheet


def embed(image: Image.Image, words: str, made_by: Provenance | None, *, kind: str = "") -> str:
    """An ``<img>`` with the picture inside, which says what model made it, if one did."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(mark_content(file.getvalue(), ".png", made_by)).decode()
    return (
        f'<img class="plate {kind}" alt="{html.escape(words)}" width="{image.width}" height="{image.height}" '
        f'src="data:image/png;base64,{data}">'
    )


def render(story: Story) -> str:
    """The page."""
    room = files("unistep.demo")
    template = Template((room / "page.html").read_text(encoding="utf-8"))
    student, teacher, tuning = story.student, story.teacher, story.tuning
    values = {
        "style": (room / "page.css").read_text(encoding="utf-8"),
        "date": story.date,
        "hardware": html.escape(story.hardware),
        "torch": html.escape(story.torch),
        "parameters": f"{story.parameters / 1e6:.1f} million",
        "written": _written(story.written),
        "hero": embed(
            mosaic(story.hero.pictures, 24),
            "Pictures of clothes, each made in one step",
            story.hero.made_by,
            kind="hero",
        ),
        "hero_count": str(len(story.hero.pictures)),
        "hero_time": duration(story.hero.seconds),
        "ratio": times_faster(story.ratio),
        "count": str(len(student.pictures)),
        "student": embed(mosaic(student.pictures, 6), "Samples of the one-step model", student.made_by),
        "student_time": duration(student.seconds),
        "teacher": embed(mosaic(teacher.pictures, 6), "Samples of its teacher", teacher.made_by),
        "teacher_time": duration(teacher.seconds),
        "teacher_steps": str(teacher.steps),
        "teacher_calls": str(teacher.calls),
        "classes": html.escape(_listed(story.names)),
        "walk": _walk(story),
        "before": embed(mosaic(tuning.before, 5), "Before: the teacher's weights asked for one step", tuning.teacher),
        "after": embed(mosaic(tuning.after, 5), "After: the student in one step", tuning.student),
        "film": _film(tuning),
        "tuning_time": duration(tuning.seconds),
        "tuning_steps": f"{tuning.steps:,}",
        "tuning_images": f"{tuning.images:,}",
        "tuning_speed": f"{tuning.images / tuning.seconds:,.0f}" if tuning.seconds else "0",
        "distances": _distances(story),
        "folder": html.escape(story.folder),
        "seed": str(story.seed),
        "total": duration(story.total_seconds),
    }
    return template.substitute(values)


def _written(written: Written | None) -> str:
    if written is None:
        return ""
    figures = "\n".join(
        _figure(embed(mosaic(pictures, 2), text, written.made_by), html.escape(text))
        for text, pictures in zip(written.texts, written.pictures, strict=True)
    )
    return (
        f'<div class="film">\n{figures}\n</div>\n'
        f'<p class="note">From these texts: one network call of {duration(written.seconds)} for each image.</p>'
    )


def _figure(picture: str, words: str) -> str:
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"


def _listed(names: tuple[str, ...]) -> str:
    return f"In reading order, over and over: {', '.join(names)}." if names else ""


def _walk(story: Story) -> str:
    count = len(story.noise)
    rows: list[tuple[str, str, Tensor, Provenance | None]] = [("noise", "where every sample starts", story.noise, None)]
    for shot in story.walk:
        unit = "step" if shot.steps == 1 else "steps"
        rows.append((f"{shot.steps} {unit}", duration(shot.seconds), shot.pictures, shot.made_by))
    return "\n".join(
        f'<div class="row"><div class="key"><b>{title}</b><span>{detail}</span></div>'
        f"{embed(mosaic(pictures, count), title, made_by)}</div>"
        for title, detail, pictures, made_by in rows
    )


def _film(tuning: Tuning) -> str:
    return "\n".join(
        _figure(embed(frame, f"Samples after {step} steps", tuning.student), f"step {step:,}")
        for step, frame in tuning.frames
    )


def _distances(story: Story) -> str:
    if not story.distances:
        return ""
    titles = {"before": "before", "after": "after", "shipped": "the shipped model"}
    longest = max(story.distances.values())
    bars = "\n".join(
        f'<tr><th scope="row">{titles[name]}</th>'
        f'<td class="bar"><i style="width:{max(value / longest, 0.004):.1%}"></i></td><td>{value:.3g}</td></tr>'
        for name, value in story.distances.items()
    )
    return (
        f'<table class="bars"><caption>Fréchet distance to the bundled pictures; shorter is better. A quick look: '
        f"{story.evaluated:,} one-step samples each, on the features {html.escape(story.features)}. It reads higher "
        f"than the same figure from 10,000 samples, and cannot be compared with figures on other features.</caption>"
        f"{bars}</table>"
    )
