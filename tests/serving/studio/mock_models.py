"""What the mock server says of its models, in the shape of ``GET /v1/models``."""

from __future__ import annotations

from typing import Any

OCTAVE = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
NOTES = [f"{note}{octave}" for octave in (3, 4, 5) for note in OCTAVE] + ["C6"]
PENTATONIC = ["C3", "D3", "E3", "G3", "A3", "C4", "D4", "E4", "G4", "A4", "C5", "D5", "E5", "G5", "A5", "C6"]
CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
EDITING = ["inpaint", "outpaint", "colorize", "upscale", "deblur", "denoise", "sketch", "vary"]


def label(names: list[str]) -> dict[str, Any]:
    return {"kind": "label", "names": names}


MODELS: dict[str, dict[str, Any]] = {
    "emoji": {
        "modality": "image",
        "shape": [3, 64, 64],
        "fields": {"text": {"kind": "text"}, "guidance": {"kind": "scalar", "low": 1, "high": 4, "default": 2.5}},
        "tasks": EDITING,
    },
    "fashion": {
        "modality": "image",
        "shape": [1, 28, 28],
        "fields": {"label": label(CLOTHES)},
        "tasks": [task for task in EDITING if task != "colorize"],
    },
    "wide": {"modality": "image", "shape": [3, 32, 64], "fields": {}, "tasks": EDITING, "max_steps": 2},
    "notes": {
        "modality": "audio",
        "shape": [1, 16000],
        "fields": {
            "instrument": label(["piano", "vibraphone", "organ", "guitar", "flute"]),
            "pitch": label(NOTES),
            "velocity": {"kind": "scalar", "low": 32, "high": 127, "default": 96},
        },
    },
    "drums": {
        "modality": "audio",
        "shape": [1, 16000],
        "fields": {"label": label(["bell", "clap", "cymbal", "hand drum", "hihat", "kick", "shaker", "snare", "tom"])},
    },
    "phrases": {
        "modality": "audio",
        "shape": [1, 8192],
        "streams": True,
        "chunk_seconds": 0.512,
        "fields": {"instrument": label(["piano", "vibraphone", "harp"]), "pitch": label(PENTATONIC)},
    },
    "racing": {
        "modality": "video",
        "shape": [3, 1, 64, 64],
        "streams": True,
        "fields": {
            "action": {
                "kind": "action",
                "names": ["steer", "gas", "brake"],
                "low": [-1, 0, 0],
                "high": [1, 1, 1],
                "presets": {"left": [-1, 0, 0], "right": [1, 0, 0], "gas": [0, 1, 0], "brake": [0, 0, 0.8]},
            }
        },
    },
}


USUAL = tuple(name for name in MODELS if name != "wide")
"""Those that a server has where nothing else is said."""


def listed(name: str) -> dict[str, Any]:
    """A model's entry."""
    model = MODELS[name]
    about = {"noun": model["modality"], "kind": "consistency", "steps": 1, "max_steps": 64, "streams": False}
    about |= {"rate": 16000 if model["modality"] == "audio" else None, "seconds": None, "chunk_seconds": None}
    about |= {"formats": [], "tasks": [], "loaded": True}
    return {"id": name, "object": "model", "created": 0, "owned_by": "unistep", "unistep": about | model}
