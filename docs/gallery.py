"""Draw the gallery, `docs/gallery.md` with its images, from the shipped models: `make gallery`."""

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
    "phrases": ("The first second of two streams, one call for each half second.", {"num": 2, "steps": 1}),
}
"""What is drawn of each model, with its caption."""
COLUMNS = {"emoji": 6, "fashion": 10, "fashion-teacher": 10}
"""Samples in a row, where each column is a class."""


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
        card = f"../src/unistep/zoo/{name}/README.md"
        lines += ["", f"## {name}", "", f"{caption} [Card]({card}).", "", f"![{name}](images/gallery/{name}.png)"]
    (DOCS / "gallery.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
