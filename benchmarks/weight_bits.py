"""How small the shipped models' weight files become with fewer bits a value, and how well their samples agree.

    python benchmarks/weight_bits.py [MODEL ...] [--bits 16 8 7 6] [--num 32] [--frechet 1000] [--out FOLDER]

Each model is written with as many bits and loaded again; its samples are compared with those of the shipped file from
the same noise and conditions. ``PSNR`` is the range of the signal, 2, over the root mean square of the differences, in
decibels: at 48 they are one of 255 levels; ``SNR`` has the signal's own deviation in place of the range; ``worst`` is
the smallest PSNR of a sample, ``largest`` the largest difference of a value. ``--frechet`` adds Fréchet distances of
both to the data of the model, or where that is not here to samples of the shipped model from other noise. ``--out``
keeps the folders, with the cards and configurations that ship: ``FOLDER/7/emoji``.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unistep
from unistep.cli.evaluation_data import data_for, trained_on
from unistep.core.condition import TextField
from unistep.data import prepare
from unistep.evaluation import Setting, evaluate, frechet_distance, load_features
from unistep.evaluation.hardware import hardware
from unistep.evaluation.reference import extract
from unistep.evaluation.text_metrics import TextMetrics
from unistep.hub.load import ZOO, find, load, models
from unistep.hub.save import CARD, CONFIG, WEIGHTS
from unistep.weights import write_weights

TEXTS = (
    "Santa Claus",
    "a red apple",
    "flag of Japan",
    "man mechanic, light skin tone",
    "cat with tears of joy",
    "tree",
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far samples are from those of the shipped weights."""

    psnr: float
    snr: float
    worst: float
    largest: float


def decibels(ratio: float) -> float:
    """A ratio of powers in decibels."""
    return 10 * math.log10(ratio) if math.isfinite(ratio) else math.inf


def compare(x: Tensor, reference: Tensor) -> Agreement:
    """The agreement of samples ``[n, ...]`` with others from the same noise."""
    x, reference = x.double(), reference.double()
    error = (x - reference).square().flatten(1).mean(dim=1)
    return Agreement(
        psnr=decibels(4 / max(float(error.mean()), 1e-30)),
        snr=decibels(float(reference.var()) / max(float(error.mean()), 1e-30)),
        worst=decibels(4 / max(float(error.max()), 1e-30)),
        largest=float((x - reference).abs().max()),
    )


def setting(model: unistep.Generator, teacher_steps: int) -> Setting:
    """One call of a one-step model, a few steps of a teacher."""
    return Setting(steps=teacher_steps, solver="dpmpp2m") if model.kind == "denoiser" else Setting(steps=1)


def sample(model: unistep.Generator, num: int, how: Setting, seed: int = 0) -> Tensor:
    """Samples of as many seeds, with texts where the model takes some."""
    texts = [TEXTS[i % len(TEXTS)] for i in range(num)]
    given: dict[str, Any] = {n: texts for n, field in model.config.fields.items() if isinstance(field, TextField)}
    return model.sample(num, seed=seed, steps=how.steps, solver=how.solver, batch_size=16, **given)


def write(name: str, bits: int, folder: Path) -> Path:
    """The shipped model of that name, as a folder with as many bits; its path."""
    source, target = find(name), folder / str(bits) / Path(name).name
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, CARD):
        shutil.copyfile(source / file, target / file)
    write_weights(load(name).map.net.state_dict(), target / WEIGHTS, metadata={"format": "pt"}, bits=bits)
    return target


def megabytes(folder: Path) -> float:
    """Size of a model's weights."""
    return (folder / WEIGHTS).stat().st_size / 1e6


def distances(name: str, folders: dict[int, Path], num: int, teacher_steps: int, features: list[str]) -> None:
    """Print the Fréchet distances of the shipped weights and of the others."""
    all_models = [load(name), *(load(folder) for folder in folders.values())]
    how = setting(all_models[0], teacher_steps)
    try:
        data = None if trained_on(all_models[0]) is None else prepare(data_for(all_models[0], None), progress=False)
    except ValueError:  # it needs a package that is not installed
        data = None
    if data is None:
        own_distances(all_models, ["shipped", *map(str, folders)], num, how, features)
        return
    fields = [model.config.fields for model in all_models]
    texts = [TextMetrics(data, num, 0)] if TextMetrics.apply_to(data, None, fields) else []
    report = evaluate(
        all_models,
        data,
        features=features or None,
        num=num,
        sweep={all_models[0].kind: (how,)},
        noise=False,
        metrics=texts,
        progress=False,
    )
    print(f"{name}, {report.rows[0].sampler}, {num} samples against {len(data):,} of {data.source}")
    for bits, row in zip(("shipped", *folders), report.rows, strict=False):
        found = [
            f"{network.label.name} {figures.frechet:.4g} ± {figures.margin or 0:.2g}"
            for network, figures in zip(report.networks, row.figures, strict=True)
        ]
        extra = [f"{key} {value:.3f}" for key, value in row.extra_metrics.items()]
        print(f"  {bits!s:>7}: " + ", ".join(found + extra), flush=True)


def own_distances(
    all_models: list[unistep.Generator], titles: list[str], num: int, how: Setting, features: list[str]
) -> None:
    """Print Fréchet distances to samples of the first model from other noise; its own is due to chance."""
    shipped = all_models[0]
    networks = [load_features(x, shipped.modality) for x in features or shipped.modality.feature_roles().evaluation]

    def found(model: unistep.Generator, seed: int) -> list[Tensor]:
        x = sample(model, num, how, seed)
        return [torch.cat(list(extract(network, x.split(64)))) for network in networks]

    others = found(shipped, num)
    print(f"{shipped.name}, {how.steps} steps, {num} samples against {num} others of the shipped model")
    for title, model in zip(titles, all_models, strict=True):
        each = zip(networks, others, found(model, 0), strict=True)
        print(
            f"  {title:>7}: " + ", ".join(f"{net.name} {frechet_distance(y, x):.4g}" for net, y, x in each), flush=True
        )


def main() -> None:
    """Write, load, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="all that ship, without")
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 8, 7, 6])
    parser.add_argument("--num", type=int, default=32, help="samples that are compared; 0 for sizes alone")
    parser.add_argument("--teacher-steps", type=int, default=10)
    parser.add_argument("--frechet", type=int, default=0, metavar="NUM", help="samples of Fréchet distances")
    parser.add_argument("--features", nargs="+", default=[], help="feature networks; those of the data, without")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = args.models or list(models())
    print(f"{hardware(torch.device('cpu'))}, {args.threads} threads; {args.num} samples")
    print("| model | bits | MB | shipped MB | PSNR | SNR | worst | largest | seconds to load |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        written = {name: {bits: write(name, bits, folder) for bits in args.bits} for name in names}
        for name, folders in written.items():
            shipped = load(name)
            reference = sample(shipped, args.num, setting(shipped, args.teacher_steps)) if args.num else None
            for bits, path in folders.items():
                start = time.perf_counter()
                model = load(path)
                seconds = time.perf_counter() - start
                cells = ["", "", "", ""]
                if reference is not None:
                    found = compare(sample(model, args.num, setting(model, args.teacher_steps)), reference)
                    cells = [f"{found.psnr:.1f}", f"{found.snr:.1f}", f"{found.worst:.1f}", f"{found.largest:.3f}"]
                sizes = f"{megabytes(path):.2f} | {megabytes(find(name)):.2f}"
                print(f"| {name} | {bits} | {sizes} | {' | '.join(cells)} | {seconds:.2f} |", flush=True)
        features = sum(file.stat().st_size for file in (ZOO / "features").rglob(WEIGHTS)) / 1e6
        for bits in args.bits:
            total = sum(megabytes(folders[bits]) for folders in written.values())
            before = sum(megabytes(find(name)) for name in names)
            print(f"{bits} bits: {total:.1f} MB in place of {before:.1f}, and {features:.1f} MB of feature networks")
        for name, folders in written.items() if args.frechet else ():
            distances(name, folders, args.frechet, args.teacher_steps, args.features)


if __name__ == "__main__":
    main()
