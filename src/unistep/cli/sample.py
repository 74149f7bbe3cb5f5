"""``unistep sample``: pictures or sounds from a model, each belonging to its seed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.backend import BackendOptions, check_backend, loaded
from unistep.cli.bulk import MANY, SHARD_SIZE, ModelCall, generate, has_shards, plan_from
from unistep.cli.console import progress
from unistep.cli.marking import MarkingOptions, provenance_for, read_signing
from unistep.cli.memory import check_samples
from unistep.cli.model_options import parse_model_options
from unistep.cli.outputs import check_folder

if TYPE_CHECKING:
    from unistep.provenance import Signing


@dataclass(frozen=True, kw_only=True)
class SampleOptions(MarkingOptions, BackendOptions):
    """Draw samples. Its own conditions, such as --label, are options of a model too: unistep sample MODEL --help."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    num: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """Number of samples."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write: .png, .jpg or .webp (one picture, or a grid of several), .npz, or a folder for single files; of
    sounds also .wav, .flac or .ogg, of videos .mp4, .webm or .gif. Without, samples.png, samples.wav or samples.mp4."""
    steps: int | None = None
    """Sampling steps; the model's default without."""
    times: tuple[float, ...] = ()
    """Decreasing times on the model's path, one for each step, such as 80 2.5; the model's own without."""
    seed: int = 0
    """Seed of the first sample; sample i belongs to seed + i, whichever batch it is drawn in."""
    solver: Literal["heun", "euler", "dpmpp2m"] | None = None
    """ODE solver, for many-step teachers."""
    guidance: float | None = None
    """Guidance weight: of a many-step teacher, 1 (none) without; of a one-step model that was trained for a range of
    weights, its own default without."""
    batch_size: int = 64
    """Samples that go through the network together."""
    shard_size: int | None = None
    """Samples in each tar shard of a folder, in the layout of webdataset. Without, 1000 for more than 10,000 samples
    into a folder, and single files for fewer. The same command goes on where it was interrupted."""
    ray: str | None = None
    """Share the shards among the workers of a Ray cluster: its address, or local for this machine alone."""
    lora: str | None = None
    """A LoRA of MODEL: a folder of one, or of a run that trained one. A LoRA can also be the MODEL."""
    lora_scale: float = 1.0
    """How much of the LoRA there is to be: 0 is its base, 1 what was trained."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(arguments: Sequence[str]) -> int:
    """Sample, save, and say what it took."""
    given = parse_model_options(SampleOptions, "sample", arguments, "Draw samples from a model.")
    from unistep.files import checked_path
    from unistep.modalities.writing import is_folder

    options, modality = given.options, given.config.modality
    if "--times" in arguments and not options.times:
        raise ValueError("--times needs one or more numbers, such as 80 2.5")
    out = Path(modality.example) if options.out is None else options.out
    if str(out):
        checked_path(out)
    in_shards = is_folder(out) and (options.num > MANY or has_shards(out) or bool(options.shard_size or options.ray))
    if (options.shard_size or options.ray) and not in_shards:
        raise ValueError(f"shards go into a folder, such as -o shards/, got {out}")
    signing = read_signing(options, Path(modality.example).suffix if is_folder(out) else out.suffix)
    check_backend(options, shards=in_shards)
    if in_shards:
        _sample_shards(options, out, given.condition, signing)
        return 0
    modality.check_path(out)
    check_samples(options.num, math.prod(modality.shape), options.seed)
    _sample(options, out, given.condition, signing)
    return 0


def _sample_shards(options: Any, out: Path, condition: dict[str, Any], signing: Signing | None) -> None:
    from unistep.cli.devices import choose_device

    check_folder(out)
    plan = plan_from(options, condition, SHARD_SIZE if options.shard_size is None else options.shard_size)
    device = str(choose_device(options.device))
    call = ModelCall(options.model, device, options.precision, options.lora, options.lora_scale)
    generate(call, plan, out.expanduser(), signing, options.ray)


def _sample(options: Any, out: Path, condition: dict[str, Any], signing: Signing | None) -> None:
    generator = loaded(options, lora=options.lora, lora_scale=options.lora_scale)
    began = time.perf_counter()
    with progress("sampling") as callback:
        x = generator.sample(
            options.num,
            steps=options.steps,
            seed=options.seed,
            solver=options.solver,
            guidance=options.guidance,
            times=options.times or None,
            batch_size=options.batch_size,
            callback=callback,
            **condition,
        )
    seconds = time.perf_counter() - began
    known = provenance_for(generator, options, signing, options.num, options.seed, condition)
    generator.save(x, out, provenance=known or False)
    calls = generator.network_calls(len(options.times) or options.steps, options.solver, options.guidance)
    print(
        f"{options.num} sample{'s' if options.num > 1 else ''} of {generator.name} in {seconds:.2f} s "
        f"({options.num / seconds:.1f}/s), {calls} network call{'s' if calls > 1 else ''} each, "
        f"{generator.arithmetic} on {generator.device}"
    )
    print(f"written to {out}")
