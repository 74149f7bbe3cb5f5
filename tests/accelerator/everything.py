"""Trains and samples on an accelerator, a simulated or a real one, in a process of its own: a device stays registered.

    python everything.py simulated:0 FOLDER
    python everything.py cuda:0 FOLDER

Prints, as JSON, what went wrong with each part by name, and an empty text where nothing did. Exit status 3: the
simulated device does not compile with this PyTorch.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny import METHODS, assert_same, run_config, steady
from torch.utils.cpp_extension import load as build

from unistep import precision
from unistep.cli import devices
from unistep.cli.main import main as cli
from unistep.core import seeding
from unistep.core.seeding import ShardGenerator
from unistep.data import DataConfig, prepare
from unistep.data.sources.fashion import FashionMnist
from unistep.evaluation import load_features
from unistep.evaluation.note_metrics import NoteMetrics
from unistep.evaluation.reference import signals
from unistep.generation import generator
from unistep.training import build as training_build
from unistep.training import log
from unistep.training import resolve as resolve_module
from unistep.training.run import train
from unistep.training.run_config import RunConfig

SIMULATED, CUDA = "simulated:0", "cuda:0"
COMMANDS = {
    "sample pictures": "sample fashion -n 4 --steps 2 --device cuda -o {folder}/pictures.png",
    "sample with guidance": "sample fashion-teacher -n 2 --steps 2 --guidance 1.5 --device cuda -o {folder}/guided.png",
    "sample notes": "sample notes -n 2 --instrument piano --pitch C4 --device cuda -o {folder}/notes.wav",
    "stream": "stream phrases --seconds 2 --pace fast --device cuda -o {folder}/stream.wav",
    "evaluate": "evaluate fashion --data npz:{folder}/real.npz --num 40 --steps 1 --batch-size 20 --device cuda "
    "--features fashion fashion-vicreg random-convolutions:2 pixels",
}

ON_CUDA = {
    "train": "train fashion/ect --data fashion-mnist:test --max-steps 3 --device cuda --out {folder}/plain",
    "train in bf16, compiled": "train fashion/ect --data fashion-mnist:test --max-steps 3 --device cuda --compile "
    "--precision bf16 --out {folder}/compiled",
    "train a tangent method": "train fashion/sct --data fashion-mnist:test --max-steps 3 --device cuda "
    "--precision bf16 --out {folder}/tangent",
    "train sounds": "train notes/ect --data notes:excerpt --max-steps 3 --device cuda --out {folder}/sounds",
    "train a stream": "train phrases/ect --data notes:excerpt --max-steps 3 --device cuda --out {folder}/stream",
    "train over processes": "train fashion/ect --data fashion-mnist:test --max-steps 3 --device cuda --parallel fsdp "
    "--out {folder}/fsdp",
}
"""What the simulated device cannot do."""


def register(folder: Path) -> None:
    """Compile the device and make it known as ``simulated``."""
    build(
        "simulated_device",
        [str(Path(__file__).with_name("device.cpp"))],
        extra_cflags=["-O0"],
        build_directory=str(folder),
        is_python_module=False,
    )
    torch.utils.rename_privateuse1_backend("simulated")
    module = types.ModuleType("torch.simulated")
    module.is_available = lambda: True  # type: ignore[attr-defined]
    module.device_count = lambda: 1  # type: ignore[attr-defined]
    module.current_device = lambda: 0  # type: ignore[attr-defined]
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
    module._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    module.manual_seed_all = lambda seed: None  # type: ignore[attr-defined]
    torch._register_device_module("simulated", module)
    # Its group normalisation is the one written out, which knows no channels last.
    for user in (precision, generator, training_build):
        user.memory_layout = lambda *_: torch.contiguous_format  # type: ignore[attr-defined]


def draw_on_processor() -> None:
    """Let the GPU's generators give the numbers of the processor's, which are others for the same seed."""
    draw, twins = seeding._draw, dict[torch.Generator, torch.Generator]()

    def twin(generator: torch.Generator) -> torch.Generator:
        if generator not in twins:
            twins[generator] = torch.Generator().manual_seed(generator.initial_seed())
        return twins[generator]

    def drawn(num: int, generator: seeding.Randomness, one: Any) -> torch.Tensor:
        if not isinstance(generator, ShardGenerator) or generator.generator.device.type == "cpu":
            return draw(num, generator, one)
        return draw(num, replace(generator, generator=twin(generator.generator)), one).to(generator.generator.device)

    seeding._draw = drawn


def method(name: str, device: str, folder: Path) -> None:
    """Two steps, a stop, and then two more must lead to the weights of four steps on the processor."""
    config = run_config(name, folder, sample_every="2")
    model = replace(config.model, network=replace(config.model.network, dropout=0.0))  # each device draws its own
    config = replace(config, model=model, max_steps=4)
    outs = {place: folder / f"{name}-{place[:3]}" for place in (device, "cpu")}
    taken = list[int]()
    quiet = Console(file=io.StringIO())
    train(
        *(config, outs[device]),
        device=device,
        console=quiet,
        cancel=lambda: taken[-1:] == [2],
        callback=lambda now: taken.append(now.step),
    )
    assert taken[-1] == 2
    for place, out in outs.items():
        quietly(config, out, place, resume=place == device)
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in outs.values())
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-4)  # Muon enlarges rounding


def quietly(config: RunConfig, out: Path, device: str, *, resume: bool = False) -> None:
    """Train to the end, and show nothing."""
    assert train(config, out, device=device, resume=resume, console=Console(file=io.StringIO()))


def resumed(name: str, device: str, folder: Path) -> None:
    """A run that goes on from an early checkpoint must end with the bits of one that was never interrupted."""
    config = run_config(name, folder, max_steps=6, checkpoint_every="2", keep=10)
    whole, again = (folder / f"{name}-{which}" for which in ("whole", "again"))
    quietly(config, whole, device)
    shutil.copytree(whole, again)
    for made in (again / "checkpoints").glob("[0-9]*"):
        if int(made.name) > 2:
            shutil.rmtree(made)
    quietly(config, again, device, resume=True)
    assert_same(whole, again)


def update(device: str) -> None:
    """The feature network of notes computes where it is."""
    notes = prepare(DataConfig(source="notes:excerpt"), progress=False)
    features = load_features("notes", notes.modality).to(device)
    sounds = signals(notes, range(len(notes)))
    accumulator = NoteMetrics(notes, features, len(sounds), 0).accumulator("test")
    assert accumulator is not None
    accumulator.update(sounds, {features.hash: features(sounds.to(device)).cpu()})
    assert accumulator.compute()["pitch ↑"] == 1


def make_real(path: Path, num: int = 100) -> None:
    """Write a few held-out pictures of clothes as an archive: of all 10,000 features would take this device long."""
    real = FashionMnist(split="test", downloads=path.parent)
    np.savez(path, arr_0=real.images()[:num, ..., None], arr_1=real.labels()[:num])


def command(line: str, folder: Path) -> None:
    """A line of the command line must succeed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = cli(shlex.split(line.format(folder=folder)))
    assert code == 0, said.getvalue()


def outcome(part: Callable[[], None]) -> str:
    """What went wrong, in a line, or nothing."""
    try:
        part()
    except Exception as error:
        trace, at = error.__traceback__, ""
        while trace is not None:
            if "unistep" in trace.tb_frame.f_code.co_filename:
                at = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return f"{type(error).__name__}: {error} (at {at})"
    return ""


def main(device: str, folder: Path) -> None:
    """Do everything."""
    measured, commands = resolve_module.time_steps, dict(COMMANDS)
    resolve_module.time_steps = steady(100)
    # What is written takes longer than so few steps: as in the tests of training, and no test cuts the power.
    log._event_writer = lambda folder, start: None
    os.fsync = lambda handle: None
    if device == SIMULATED:
        (folder / "build").mkdir()
        try:
            register(folder / "build")
        except RuntimeError as error:  # its interface to PyTorch is not a stable one
            print(error, file=sys.stderr)
            sys.exit(3)
        devices.choose_device = lambda name: SIMULATED
    else:
        torch.backends.cudnn.allow_tf32 = False  # as the processor, with which it is compared
        draw_on_processor()
    found = {name: outcome(lambda name=name: method(name, device, folder)) for name in METHODS}
    found["hear notes"] = outcome(lambda: update(device))
    if device == CUDA:
        found |= {f"{name}, resumed": outcome(lambda name=name: resumed(name, device, folder)) for name in METHODS}
        resolve_module.time_steps = measured
        commands |= ON_CUDA
    make_real(folder / "real.npz")
    found |= {name: outcome(lambda line=line: command(line, folder)) for name, line in commands.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
