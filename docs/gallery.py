"""Draw the gallery, `docs/gallery.md` with its images, and the README's picture: `make gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import unistep

DOCS = Path(__file__).parent
CLASSES = {"label": [label for _ in range(6) for label in range(10)]}
TEXTS = (
    "woman firefighter, medium-dark skin tone",
    "man mechanic, light skin tone",
    "couple with heart, woman, man, light skin tone",
    "Santa Claus, light skin tone",
    "the flag of Italy",
    "grinning face",
)
SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "emoji": (
        f"From texts in one network call, four samples of each; in columns: {'; '.join(TEXTS)}.",
        {"num": 24, "steps": 1, "text": [text for _ in range(4) for text in TEXTS]},
    ),
    "fashion": ("Fashion-MNIST in one network call; each column is a class.", {"num": 60, "steps": 1, **CLASSES}),
    "fashion-teacher": (
        "The teacher from the same noise: 18 Heun steps, 35 calls, guidance 1.2.",
        {"num": 60, "steps": 18, "solver": "heun", "guidance": 1.2, **CLASSES},
    ),
    "notes": (
        "A piano, a flute, a vibraphone and an organ play C4, one call each: waveform and spectrogram.",
        {"num": 4, "steps": 1, "pitch": "C4", "instrument": ["piano", "flute", "vibraphone", "organ"]},
    ),
    "drums": (
        "Kick, snare, hihat and tom, one call each.",
        {"num": 4, "steps": 1, "label": ["kick", "snare", "hihat", "tom"]},
    ),
    "moving-fashion": (
        "Clips of 16 frames in one network call each; every row is two clips, every second frame.",
        {"num": 6, "steps": 1},
    ),
    "phrases": ("The first second of two streams, one call for each half second.", {"num": 2, "steps": 1}),
}
"""What is drawn of each model, with its caption."""
DRIVE = 400
"""Frames of the drive."""
COLUMNS = {"emoji": 6, "fashion": 10, "fashion-teacher": 10}
"""Samples in a row, where each column is a class."""


def draw_first_picture(target: Path) -> None:
    """The picture of the README: clothes in one step, and below them the teacher's from the same noise."""
    names, labels = ("fashion", "fashion-teacher"), list(range(10))
    student, teacher = (unistep.load(name) for name in names)
    rows = [
        ("one step", student.sample(10, steps=1, label=labels)),
        ("teacher, 35 calls", teacher.sample(10, steps=18, solver="heun", guidance=1.2, label=labels)),
    ]
    student.modality.contact_sheet(rows).save(target)


def draw_drive(images: Path) -> list[str]:
    """A drive in the world `racing`, driven by sight: a film strip, a GIF that moves, and an MP4.

    Returns:
        Lines of the page.
    """
    from unistep.data.sources.racing_sight import drive_by_sight
    from unistep.demo.moving import drive
    from unistep.modalities.contact_sheet import draw_rows
    from unistep.modalities.image import ImageModality

    generator = unistep.load("racing")
    driven = drive(generator, drive_by_sight, DRIVE, seed=1)
    frames, stills = driven.frames[0].transpose(0, 1), ImageModality(size=64, channels=3)
    rows = [
        (f"{first / 25:.0f} s", [stills.grid(frame[None]) for frame in frames[first : first + 80 : 8]])
        for first in range(0, DRIVE, 80)
    ]
    draw_rows(rows).save(images / "racing.png")
    generator.save(driven.frames[:, :, :150], images / "racing.gif")
    generator.save(driven.frames, images / "racing.mp4")
    return [
        "",
        "## racing",
        "",
        "A world model of a race track, one call a frame, from a seed and the actions of a driver that sees",
        f"the frames alone: {DRIVE} frames at 25 a second, of which the picture has every eighth. Car, track and",
        "instruments are all the model's. [Card](../src/unistep/zoo/racing/README.md);",
        "[as a film](images/gallery/racing.mp4).",
        "`unistep play racing` is for driving in it.",
        "",
        "![racing](images/gallery/racing.png)",
        "",
        "![racing, moving](images/gallery/racing.gif)",
    ]


def main() -> None:
    """Write the images and the page."""
    images = DOCS / "images" / "gallery"
    images.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Gallery",
        "",
        "Samples of the shipped models, seeds from 0 upwards, none selected. `make gallery` draws this page again.",
    ]
    for name, (caption, options) in SAMPLES.items():
        generator = unistep.load(name)
        x, target = generator.sample(**options), images / f"{name}.png"
        if name in COLUMNS:
            generator.modality.grid(x, columns=COLUMNS[name]).save(target)
        else:
            generator.save(x, target)
        if name == "moving-fashion":
            generator.save(x, images / f"{name}.gif")
        card = f"../src/unistep/zoo/{name}/README.md"
        lines += ["", f"## {name}", "", f"{caption} [Card]({card}).", "", f"![{name}](images/gallery/{name}.png)"]
        if (images / f"{name}.gif").exists():
            lines += ["", f"![{name}, moving](images/gallery/{name}.gif)"]
    draw_first_picture(DOCS / "images" / "one-step.png")
    lines += draw_drive(images)
    (DOCS / "gallery.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
