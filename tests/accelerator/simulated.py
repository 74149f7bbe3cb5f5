"""Trains and samples on a simulated accelerator, in a process of its own: a device stays registered.

    python simulated.py FOLDER

Prints, as JSON, what went wrong with each part by name, and an empty text where nothing did. Exit status 3: the device
does not compile with this PyTorch.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny import METHODS, run_config
from torch.utils.cpp_extension import load as build

from unistep import cli, generator, precision
from unistep.commands import devices
from unistep.data import DataConfig, prepare
from unistep.evaluation import load_features
from unistep.evaluation.hearing import Hearing
from unistep.evaluation.reference import to_float
from unistep.training import build as training_build
from unistep.training import run as run_module
from unistep.training.run import train

DEVICE = "simulated:0"
COMMANDS = {
    "sample pictures": "sample fashion -n 4 --steps 2 --device cuda -o {folder}/pictures.png",
    "sample with guidance": "sample fashion-teacher -n 2 --steps 2 --guidance 1.5 --device cuda -o {folder}/guided.png",
    "sample notes": "sample notes -n 2 --instrument piano --pitch C4 --device cuda -o {folder}/notes.wav",
    "stream": "stream phrases --seconds 2 --pace fast --device cuda -o {folder}/stream.wav",
    "evaluate": "evaluate fashion --data fashion-mnist:test --num 40 --steps 1 --batch-size 20 --device cuda",
}


def register(folder: Path) -> None:
    """Compile the device and make it known as ``simulated``."""
    build("simulated_device", [str(Path(__file__).with_name("device.cpp"))], build_directory=str(folder))
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


def method(name: str, folder: Path) -> None:
    """Two steps, and then two more, must lead to the weights that they lead to on the processor."""
    config = run_config(name, folder, sample_every="2")
    model = replace(config.model, network=replace(config.model.network, dropout=0.0))  # each device draws its own
    config = replace(config, model=model)
    outs = {device: folder / f"{name}-{device[:3]}" for device in (DEVICE, "cpu")}
    for device, out in outs.items():
        for steps, resume in ((2, False), (4, True)):
            shown = Console(file=io.StringIO())
            assert train(replace(config, max_steps=steps), out, device=device, resume=resume, console=shown)
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in outs.values())
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-4)  # Muon enlarges rounding


def hear() -> None:
    """The network that judges notes listens where it is."""
    notes = prepare(DataConfig(source="notes:excerpt"), progress=False)
    features = load_features("notes", shape=(1, 16_000)).to(DEVICE)
    sounds = to_float(notes.values)
    listening = Hearing(notes, features, len(sounds), 0).listen(real=True)
    listening.hear(sounds, features(sounds.to(DEVICE)).cpu())
    assert listening.figures()["pitch ↑"] == 1


def command(line: str, folder: Path) -> None:
    """A line of the command line must succeed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = cli.main(shlex.split(line.format(folder=folder)))
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


def main(folder: Path) -> None:
    """Do everything."""
    (folder / "build").mkdir()
    try:
        register(folder / "build")
    except RuntimeError as error:  # its interface to PyTorch is not a stable one
        print(error, file=sys.stderr)
        sys.exit(3)
    run_module.images_per_second = lambda *_: 100.0
    devices.choose_device = lambda name: DEVICE
    found = {name: outcome(lambda name=name: method(name, folder)) for name in METHODS}
    found |= {name: outcome(lambda line=line: command(line, folder)) for name, line in COMMANDS.items()}
    found["hear notes"] = outcome(hear)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
