"""Models in fewer bits on the command line: written, described, sampled, trained from, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cli.standins import save_instrument, save_pictures
from unistep.hub import load
from unistep.hub.adapters import base_hash

SHORT = ["--max-steps", "2", "--batch-size", "8", "--start-report", "0", "--precision", "fp32", "--device", "cpu"]


def test_seven_bits_are_read_wherever_a_model_is(run, place: Path) -> None:
    for name in ("fashion", "fashion-teacher"):
        done = run(f"convert {name} -o {name}-7 --bits 7")
        assert (done.code, done.err) == (0, "")
        assert "- weights: 7 bits a value" in (place / f"{name}-7/README.md").read_text()
    exact, small = run("info fashion").out, " ".join(run("info fashion-7").out.split())
    assert "float32" in exact
    assert "weights 7 bits a value" in small
    parameters = next(line.split()[-1] for line in exact.splitlines() if "parameters" in line)
    assert f"parameters {parameters}" in small
    assert run("sample fashion-7 -n 2 -o out.png").code == 0

    save_pictures(place / "mine", side=20)
    tuned = run("train ect --init fashion-7 --data folder:mine --lora.rank 1 --out lora", SHORT)
    assert tuned.code == 0, tuned.err
    assert load("lora").config.provenance["adapter"].startswith(f"LoRA of rank 1 of {place / 'fashion-7'}")
    assert base_hash(load("fashion-7")) != base_hash(load("fashion"))
    other = run("sample fashion --lora lora -n 1 -o out.png")
    assert other.code == 2
    assert "its base must have the same weights" in other.err

    save_npz(place / "ten.npz", classes=10)
    taught = run("train ect --teacher fashion-teacher-7 --data npz:ten.npz --out student", SHORT)
    assert taught.code == 0, taught.err
    assert run("info student").out.count("float32") == 1


def test_a_mixed_model_has_weights_between_two(run, place: Path) -> None:
    save_npz(place / "ten.npz", classes=10)
    assert run("train ect --init fashion --data npz:ten.npz --out tuned", [*SHORT, "--optimizer.lr", "0.01"]).code == 0
    tuned = load("tuned")
    for share, at in (("0", 0.0), ("0.25", 0.25), ("1", 1.0)):
        done = run(f"convert fashion --mix tuned --share {share} -o {share}")
        assert (done.code, done.err) == (0, "")
        made = load(place / share)
        assert made.config.provenance["mixed with"] == f"tuned, {share} of the weights"
        assert f"- mixed with: tuned, {share} of the weights" in (place / share / "README.md").read_text()
        ours, theirs, between = (g.map.net.state_dict() for g in (load("fashion"), tuned, made))
        assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
        for name, value in between.items():
            wanted = (1 - at) * ours[name].double() + at * theirs[name].double()
            assert torch.allclose(value.double(), wanted, rtol=1e-5, atol=1e-6), name
    assert run("sample 0.25 -n 2 -o out.png").code == 0


def save_npz(path: Path, classes: int) -> None:
    """Grey noise of 28 pixels with labels."""
    images = np.random.default_rng(0).integers(0, 256, (2 * classes, 28, 28), np.uint8)
    np.savez(path, images=images, labels=np.arange(2 * classes) % classes)


def test_another_network_is_not_mixed_in(run, place: Path) -> None:
    save_instrument(place / "piano")
    done = run("convert fashion --mix piano -o out")
    assert done.code == 2
    assert "fashion and piano differ in their network, so their weights have no mean; mix a model with" in done.err
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-o x.onnx", "x.onnx names a .onnx file, and convert writes a folder, such as x: config.json"),
        ("-o x.safetensors", "convert writes a folder, such as x"),
        ("--bits 9", "bits must be from 4 to 8, 16 (half precision) or 32 (exact), got 9"),
        ("--bits 0", "bits must be from 4 to 8, 16 (half precision) or 32 (exact), got 0"),
        ("--bits seven", "seven"),
        ("--mix fashion-teacher", "fashion and fashion-teacher differ in their kind, so their weights have no mean"),
        ("--mix fashion --share 1.5", "the share of the other model must be from 0 to 1, got 1.5"),
        ("--mix nowhere", "nowhere"),
        ("--share 0.3", "--share 0.3 is that of another model; name it with --mix"),
        ("--bits 7 --half", "--half is --bits 16, got --bits 7 beside it; give one of them"),
    ],
)
def test_mistakes_are_one_line(run, place: Path, words: str, message: str) -> None:
    outcome = run(f"convert fashion {words}" if words.startswith("-o") else f"convert fashion -o out {words}")
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []
