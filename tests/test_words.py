"""The project's own words of earlier versions do not come back; the field has words for all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each retired word, with the one to use. Written in two halves, so that this file does not contain them.
RETIRED = {
    "to" + "ld": "condition, given",
    "unto" + "ld": "null condition",
    "is_to" + "ld": "has_condition",
    "wish" + "es": "requests, schedules",
    "wi" + "sh": "ConditionSchedule",
    "endl" + "ess": "streaming",
    "unhe" + "ard": "minimum matching distance",
    "ea" + "rs": "listeners, metrics",
    "functions of " + "place": "conditioned basis head",
    "closer_" + "point": "target_point",
    "Closer" + "By": "TargetSource",
    "follow_" + "teacher": "validate_teacher",
    "own_" + "rates": "param_groups",
    "time " + "law": "timestep distribution",
    "Step" + "per": "TrainStep",
    "from_" + "main": "run_on_rank_zero",
    "sound" + "ness": "preflight",
    "sett" + "le": "resolve",
    "sett" + "led": "resolved, fixed",
    "hea" + "ring": "metrics",
    "jud" + "ge": "evaluator, evaluate",
    "jud" + "ges": "evaluates",
    "jud" + "ged": "evaluated",
    "sea" + "ms": "chunk boundaries",
    "sea" + "m": "chunk boundary",
}
WORDS = re.compile(r"\b(" + "|".join(map(re.escape, RETIRED)) + r")\b", re.IGNORECASE)
FORMER_NAME = re.compile(r'"(\w+)?\.(un)?to' + r'ld\.?"')
NAMES = re.compile("endl" + "ess-sky")
"""Names of other people's works, which keep their words."""
FOLDERS = ("src", "docs", "examples", "benchmarks")
SUFFIXES = {".py", ".md", ".html", ".toml", ".css"}


def pages() -> list[Path]:
    """Everything that a person reads, except the research notes and what is generated."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder in FOLDERS:
        found += [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    left_out = {"_build", "research", "__pycache__", "api"}
    return [path for path in found if path.is_file() and not left_out & set(path.relative_to(ROOT).parts)]


def retired_words(text: str) -> list[tuple[int, str]]:
    """Line numbers, from 1, and the retired words on them, except names of others and in files of earlier versions."""
    lines = ["" if "FORMER_KEYS:" in line else FORMER_NAME.sub("", line) for line in text.splitlines()]
    lines = [NAMES.sub("", line) for line in lines]
    return [(number, match[0]) for number, line in enumerate(lines, 1) for match in WORDS.finditer(line)]


def test_no_retired_word_is_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r} is retired; use {RETIRED[word.lower()]}"
        for path in pages()
        for number, word in retired_words(path.read_text(encoding="utf-8"))
        if word.lower() in RETIRED
    ]
    assert not found, f"{len(found)} retired words\n" + "\n".join(found)


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_found(word: str) -> None:
    assert retired_words(f"Here is\na {word} again.") == [(2, word)]
    assert not retired_words(f"Not in {word}x or x{word}.")
