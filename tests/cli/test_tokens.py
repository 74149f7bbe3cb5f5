"""Sequences of vectors as a condition on the command line: they come from a file of any of three kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import unistep
from cli.standins import NETWORK
from unistep.core.condition import TokensField
from unistep.generation.model_config import ModelConfig
from unistep.hub.save import save
from unistep.modalities.image import ImageModality

TEXT = np.random.default_rng(0).standard_normal((3, 5), np.float32)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 8x8 images that takes up to four vectors of five features as its text."""
    torch.manual_seed(1)
    config = ModelConfig(
        kind="consistency",
        network=replace(NETWORK, num_classes=0, tokens={"text": 5}),
        modality=ImageModality(size=8, channels=1),
        fields={"text": TokensField(length=4, dim=5)},
        steps=1,
        provenance={"recipe": "none: random weights"},
    )
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    folder = tmp_path_factory.mktemp("captioned") / "model"
    save(config, net.state_dict(), folder, "# captioned\n\nA card of a stand-in.\n")
    return folder


@pytest.mark.parametrize("name", ["text.npy", "text.npz", "text.safetensors"])
def test_tokens_come_from_a_file(run, captioned, name):
    if name.endswith(".npy"):
        np.save(name, TEXT)
    elif name.endswith(".npz"):
        np.savez(name, only=TEXT)
    else:
        save_file({"only": TEXT}, name)
    outcome = run(["sample", str(captioned), "-n", "2", "--device", "cpu", "--text", name, "-o", "out.npz"])
    assert outcome.code == 0, outcome.err
    generator = unistep.load(captioned, device="cpu")
    wanted = generator.sample(2, text=torch.from_numpy(TEXT))
    assert (wanted - generator.sample(2)).abs().amax(dim=(1, 2, 3)).min() > 0.05  # the text matters to both
    stored = torch.from_numpy(np.load("out.npz")["arr_0"]).permute(0, 3, 1, 2)
    half_a_level = 0.5 / 127.5
    assert (stored / 127.5 - 1 - wanted.clamp(-1, 1)).abs().max() <= half_a_level + 1e-5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "text: text.npy cannot be read: No such file or directory"),
        (TEXT[:, :4], "text must be [n, 5] with n up to 4, got [3, 4]"),
        (np.zeros((5, 5), np.float32), "text must be [n, 5] with n up to 4, got [5, 5]"),
        (np.full((2, 5), np.nan, np.float32), "text must have finite values; 10 are not"),
        (b"a caption", "text.npy is no .npy, .npz or .safetensors file"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(run, captioned, content, words, place):
    if isinstance(content, bytes):
        Path("text.npy").write_bytes(content)
    elif content is not None:
        np.save("text.npy", content)
    before = sorted(place.iterdir())
    outcome = run(["sample", str(captioned), "--device", "cpu", "--text", "text.npy", "-o", "out.png"])
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert sorted(place.iterdir()) == before


def test_the_help_says_what_a_text_is(run, captioned):
    with_help = run(["sample", str(captioned), "--help"])
    assert with_help.code == 0
    words = " ".join(with_help.out.replace("│", " ").split())
    assert "up to 4 vectors of 5 features, as a .npy, .npz or .safetensors file; without, no condition" in words
