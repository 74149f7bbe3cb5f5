"""Before training a run says what its budget is too short for, and at its end what goes on with it."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from tiny import steady

from unistep.cli.main import main
from unistep.data import data_config
from unistep.modalities.enough import EnoughItems
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.ect import ECTConfig
from unistep.recipes import recipe
from unistep.training import finish
from unistep.training import resolve as resolve_module
from unistep.training.advice import _data_options as data_options_of
from unistep.training.advice import still_falling
from unistep.training.log import MetricsLog
from unistep.training.outlook import needs
from unistep.training.run import train
from unistep.training.run_config import RunConfig

NETWORK = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(resolve_module, "time_steps", steady(100))
    (tmp_path / "data").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / "data" / f"{i}.png")
    made = recipe("ect", f"folder:{tmp_path / 'data'}")
    data = replace(made.data, options=type(made.model.modality).options(size=8))  # type: ignore[call-arg]
    model = replace(made.model, network=NETWORK)
    return replace(
        made, data=data, model=model, batch_size=8, auto=("curriculum",), precision="fp32", checkpoint_every="1h"
    )


def printed(config: RunConfig, out: Path, **options: object) -> str:
    file = io.StringIO()
    train(config, out, device="cpu", console=Console(file=file, width=400), **options)  # type: ignore[arg-type]
    return file.getvalue()


def wanting(denoiser: int | None, student: int) -> Callable[..., EnoughItems]:
    return lambda self, *, from_base: EnoughItems(denoiser=denoiser, student=student)


def test_the_need_of_each_stage_is_named(config: RunConfig) -> None:
    enough = EnoughItems(denoiser=1000, student=500)
    found = needs(config, "image", enough, teacher=100, items=250, batch_size=8)
    assert [str(need) for need in found] == [
        "the teacher gets about 100 images and wants 1.0k",
        "the student gets about 250 images and wants 500",
        "the student gets about 31 steps and wants 300",
    ]
    assert needs(config, "image", None, teacher=None, items=2400, batch_size=8)[0].share == 1
    begun = replace(config, init="fashion")  # a one-step model goes on, and what it wants is not known
    assert [need.unit for need in needs(begun, "image", enough, teacher=None, items=1, batch_size=1)] == ["steps"]


def test_a_short_run_is_told_before_and_how_to_go_on_after(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageModality, "enough_items", wanting(100, 320))
    out = tmp_path / "run"
    text = printed(replace(config, budget="0.4k"), out, command=f"unistep train ect --out {out}")
    before = text.partition("done:")[0]
    # 160 images are 20 steps, and the curriculum wants 300: 400 images times 15.
    assert "the student gets about 20 steps and wants 300; try --budget 6k" in before
    assert "4 images are few: samples will repeat the data" in before
    assert text.count("are few") == 1
    end = text.partition("where everything is")[2]
    assert re.search(rf"samples +{out}/samples/00000020.png", end)
    assert f"unistep sample {out} -n 16 -o samples.png" in end
    assert f"unistep evaluate {out}" in end
    assert "-fd" not in end  # post-training would learn four images by heart
    assert "the student got 20 steps and wants 300; go on with:" in end
    assert f"  unistep train ect --out {out} --budget 6k" in end
    monkeypatch.setattr(finish, "FEWEST", 4)
    text = printed(replace(config, budget="0.4k"), out, resume=True)  # nothing is left to do; now from Python
    assert f"unistep.train(dataclasses.replace(config, budget='6k'), '{out}', resume=True)" in text
    assert f"--init {out} --budget 5m --out {out}-fd" in text


def test_a_poor_teacher_is_gone_on_with(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageModality, "enough_items", wanting(5_000, 100))
    out = tmp_path / "run"
    text = printed(replace(config, budget="0.2k"), out, command=f"unistep train ect --out {out}")
    line, command = text.strip().splitlines()[-2:]
    assert line.startswith(f"the teacher saw 120 images and wants 5.0k: look at {out}/teacher/samples/00000015.png")
    # What 120 of 5,000 lack, in a budget of which the teacher has the same share.
    assert command.strip() == (
        f"unistep train ect --data folder:{tmp_path / 'data'} --data.size 8 --init {out / 'teacher'} --budget 9k "
        f"--out {out}-2"
    )
    words = shlex.split(command)[1:]
    budget = words.index("--budget")
    words[budget : budget + 2] = ["--max-steps", "4", "--batch-size", "4"]
    assert main([*words, "--device", "cpu", "--precision", "fp32"]) == 0


def test_enough_says_nothing(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageModality, "enough_items", wanting(100, 100))
    monkeypatch.setattr(ECTConfig, "fewest_steps", 0)
    text = printed(replace(config, budget="0.3k"), tmp_path / "run")
    assert "1 of 3 stages" in text
    assert "too short" not in text
    assert "go on" not in text


def test_a_loss_that_falls_is_told_from_noise(tmp_path: Path) -> None:
    for name, slope in (("flat", 0.0), ("falling", 0.004)):
        (tmp_path / name).mkdir()
        log = MetricsLog(tmp_path / name, 0)
        for step in range(100):
            log.write(step, {"loss": 1.0 - slope * step + 0.02 * (-1) ** step})
        log.close()
    assert still_falling(tmp_path / "flat") == 0
    assert still_falling(tmp_path / "falling") == pytest.approx(0.08 / (1 - 0.004 * 69.5), rel=1e-6)


def test_a_command_to_copy_reads_the_data_as_the_run_did(config: RunConfig) -> None:
    """A text as a condition, or files that are refused, would make it another run or none."""
    plain = data_options_of(config)
    assert plain == f"--data {config.data.source} --data.size 8"
    data = replace(config.data, captions=False, max_bad=0.5, limit=3, augment=("flip",))
    changed = data_options_of(replace(config, data=data))
    expected = "--data.limit 3 --data.max-bad 0.5 --data.size 8 --data.no-captions --data.augment flip"
    assert sorted(changed.split()) == sorted(f"--data {config.data.source} {expected}".split())
    tensors = data_config(config.data.source, modality="tensor", shape=(2, 8))
    assert data_options_of(replace(config, data=tensors)).endswith(" --data.modality tensor --data.shape 2 8")
