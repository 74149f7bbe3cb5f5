"""A LoRA on the command line: trained, sampled at a scale, merged, and refused where it does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.standins import save_pictures

SHORT = ["--max-steps", "2", "--batch-size", "8", "--start-report", "10", "--precision", "fp32", "--device", "cpu"]


def test_trained_sampled_and_merged(run, place: Path) -> None:
    save_pictures(place / "mine", side=20)
    tuned = run("train ect --init fashion --data folder:mine --lora.rank 1 --out mine-lora", SHORT)
    assert tuned.code == 0, tuned.err
    assert "24 images of 28 x 28 pixels, grey" in " ".join(tuned.out.split())  # the size is that of fashion
    assert "one step" in tuned.out
    assert "four steps" in tuned.out
    for words in ("mine-lora", "mine-lora --lora-scale 0.7", "fashion --lora mine-lora --label left"):
        assert run(f"sample {words} -n 2 -o out.png").code == 0
    done = run("convert mine-lora -o merged --lora-scale 0.7 --half")
    assert (done.code, done.err) == (0, "")
    assert "at a scale of 0.7" in (place / "merged/README.md").read_text()
    assert run("sample merged -n 2 -o out.png").code == 0
    assert "LoRA of rank 1 of fashion" in run("info mine-lora").out

    refused = run("train ect --init mine-lora --data folder:mine --lora.rank 1 --out again", SHORT)
    assert refused.code == 2
    assert "mine-lora is a LoRA itself; merge it first" in refused.err
    assert not (place / "again").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample fashion --lora-scale 0.5", "fashion is a whole model: lora_scale has nothing to scale"),
        ("sample fashion --lora fashion-teacher", "fashion-teacher is a whole model: it is no LoRA of fashion"),
        ("convert fashion --lora nowhere -o out", "there is no model 'nowhere'"),
        ("train fashion/ect --lora.rank 8", "a LoRA (lora.rank 8) is of a trained model; name it, such as --init"),
    ],
)
def test_mistakes_are_one_line(run, place: Path, words: str, message: str) -> None:
    outcome = run(words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []
