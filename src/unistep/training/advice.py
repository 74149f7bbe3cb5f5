"""What to do when a run has ended: look, draw, measure, and what goes on where it was short, as commands to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unistep import registry
from unistep.core.condition import AnyField
from unistep.core.flowmap import Denoiser
from unistep.data import DataConfig
from unistep.serialization import read_json
from unistep.training.budget import parse_amount, rounded_up
from unistep.training.checkpoint import newest_progress
from unistep.training.finish import suits
from unistep.training.log import read_metrics
from unistep.training.outlook import Need, counted, enough_of, least_met, needs
from unistep.training.resolved import ResolvedRun
from unistep.training.run_config import RunConfig
from unistep.training.run_directory import CONFIG
from unistep.training.run_paths import START_FOLDER, TEACHER_FOLDER

FALLING = 0.03
"""Share of the loss from which on its fall over the last fifth of a run is worth going on for."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that reached its last step."""

    out: Path
    """Its folder."""
    post_training: Path | None = None
    """The folder of its last stage, where that was post-training."""
    whole: RunConfig
    """The run as it was requested, its teacher's stage included."""
    resolved: ResolvedRun
    """Its last stage."""
    items: int
    """Items that this stage saw."""
    seconds: float
    """Seconds that this stage took."""
    spent: float
    """Seconds of an earlier stage."""
    resume: str
    """The command that goes on with it after a stop."""
    typed: bool
    """Whether that is a command line, which takes a longer budget as an option, and no call in Python."""

    @property
    def name(self) -> str:
        """The folder as a word of a command."""
        return shlex.quote(str(self.out))

    def longer(self, budget: str) -> str:
        """What goes on with a longer budget."""
        if self.typed:
            return f"{self.resume} --budget {budget}"
        return f"unistep.train(dataclasses.replace(config, budget={budget!r}), {str(self.out)!r}, resume=True)"


def where_everything_is(out: Path, post_training: Path | None = None) -> dict[str, str]:
    """The files of a run in ``out``; of its samples the newest, which show what the model makes.

    Args:
        out: The folder.
        post_training: That of its last stage, where that was post-training.
    """
    shown = (post_training or out) / "samples"
    previews = newest_previews(shown)
    before = {} if post_training is None else {"model before post-training": str(post_training / START_FOLDER)}
    return {
        "model": str(out / "model"),
        **before,
        "samples": " and ".join(map(str, previews)) if previews else str(shown),
        "numbers": str(out / "metrics.jsonl"),
        "checkpoints": str(out / "checkpoints"),
    }


def newest_previews(folder: Path) -> list[Path]:
    """The preview files of the last step that has some, such as a picture and a sound file."""
    names = sorted(path for path in folder.glob("*") if path.stem.isdigit())
    return [path for path in names if path.stem == names[-1].stem]


def next_commands(ended: Ended) -> dict[str, str]:
    """What to do with a finished run, as commands."""
    model, name = ended.resolved.config.model, ended.name
    given = [f"--{field} {shlex.quote(value)}" for field, value in _examples(ended.resolved).items()]
    draw = " ".join([f"unistep sample {name} -n 16", *given, f"-o {model.modality.example}"])
    rows = {"draw samples": draw, "measure the quality": f"unistep evaluate {name}"}
    if model.is_world:
        rows = {"play": f"unistep play {name}", "measure the quality": f"unistep evaluate {name} --rollout 300"}
    if ended.resolved.config.objective.trains is Denoiser:
        data = _data_options(ended.whole)
        rows["make it one-step"] = (
            f"unistep train {_tuned_by(ended)} {data} --teacher {name} --budget {ended.whole.budget}"
        )
    elif suits(ended.resolved.config, len(ended.resolved.data)):
        data, out = _data_options(ended.whole), shlex.quote(f"{ended.out}-fd")
        rows["sharpen it"] = f"unistep train fd {data} --init {name} --budget 5m --out {out}"
    kept = [f"--{field} {shlex.quote(value)}" for field, value in _kept_examples(ended.resolved).items()]
    if kept:
        rows["draw what it knew"] = " ".join([f"unistep sample {name} -n 16", *kept, f"-o {model.modality.example}"])
    if model.adapter is not None:
        rows["take less of it"] = f"unistep sample {name} --lora-scale 0.7 -n 16 -o {model.modality.example}"
        rows["make it a whole model"] = f"unistep convert {name} -o {shlex.quote(f'{ended.out}-merged')}"
    return rows


def _tuned_by(ended: Ended) -> str:
    """The recipe that makes a teacher one-step: that of the same model, where there is one."""
    model, slash, _ = ended.whole.recipe.partition("/")
    own = f"{model}/ect"
    return own if slash and own in registry.names("recipe") else "ect"


def how_it_went(ended: Ended) -> list[str]:
    """Lines on what the run was short of, each with the command that mends it; none where it was enough.

    A teacher that saw too little comes first, as no student is better than what it learns from.
    """
    found = measured_needs(ended)
    teacher = least_met([need for need in found if need.who == "the teacher"])
    own = least_met([need for need in found if need.who != "the teacher"])
    if teacher is not None and teacher.share < min(1.0, 1.0 if own is None else own.share):
        return _teacher_lines(ended, teacher)
    if own is not None and own.share < 1 and ended.whole.max_steps is None:
        got = parse_amount(ended.whole.budget, "budget")
        plain = got.unit != "seconds" or ended.post_training is not None
        value = got.value / own.share if plain else ended.spent + ended.seconds / own.share
        line = f"{own.who} got {counted(own.gets)} {own.unit} and wants {counted(own.wants)}; go on with:"
        return [line, f"  {ended.longer(rounded_up(value, got.unit))}"]
    fall = still_falling(ended.out)
    if fall >= FALLING and ended.whole.max_steps is None and not ended.resolved.config.objective.continues:
        got = parse_amount(ended.whole.budget, "budget")
        line = f"the loss was still falling, by {fall:.0%} over the last fifth; longer training helps:"
        return [line, f"  {ended.longer(rounded_up(1.5 * got.value, got.unit))}"]
    return []


def measured_needs(ended: Ended) -> list[Need]:
    """What the models of the run got, as far as it is known what they want."""
    config, modality, items = ended.resolved.config, ended.resolved.data.modality, ended.items
    if ended.post_training is not None:  # what counts is what its student got
        config = read_json(RunConfig, ended.out / CONFIG)
        items = int((newest_progress(ended.out / "checkpoints") or {}).get("step", 0)) * config.batch_size
    own = ended.out / TEACHER_FOLDER
    progress = newest_progress(own / "checkpoints") if (own / CONFIG).is_file() else None
    seen, enough = None, enough_of(modality, config)
    if progress is not None:
        first = read_json(RunConfig, own / CONFIG)
        seen, enough = int(progress.get("step", 0)) * first.batch_size, enough_of(modality, first)
    return needs(config, modality.noun, enough, teacher=seen, items=items, batch_size=config.batch_size)


def still_falling(out: Path) -> float:
    """The share by which the mean loss fell from the last fifth but one of a run to its last; 0 where that is noise."""
    losses = [line["loss"] for line in read_metrics(out) if isinstance(line.get("loss"), float)]
    part = len(losses) // 5
    if part < 5:
        return 0.0
    before, last = losses[-2 * part : -part], losses[-part:]
    (m0, v0), (m1, v1) = _moments(before), _moments(last)
    clear = m0 - m1 > 3 * ((v0 + v1) / part) ** 0.5
    return (m0 - m1) / m0 if clear and m0 > 0 else 0.0


def _teacher_lines(ended: Ended, teacher: Need) -> list[str]:
    """The teacher is short: look at its samples, and begin again from its weights."""
    own = ended.out / TEACHER_FOLDER
    look = newest_previews(own / "samples")
    where = f"look at {look[0]}; if those are poor, " if look else ""
    line = f"the teacher saw {counted(teacher.gets)} {teacher.unit} and wants {counted(teacher.wants)}: {where}"
    got = parse_amount(ended.whole.budget, "budget") if ended.whole.max_steps is None else None
    if got is None:
        return [f"{line}train it for longer"]
    # Its weights are the start of the next one, so what it saw counts.
    budget = rounded_up(got.value * (1 / teacher.share - 1), got.unit)
    out = shlex.quote(f"{ended.out}-2")
    data, start = _data_options(ended.whole), shlex.quote(str(own))
    command = f"unistep train {ended.whole.recipe} {data} --init {start} --budget {budget} --out {out}"
    return [f"{line}go on from its weights with:", f"  {command}"]


def _examples(resolved: ResolvedRun) -> Mapping[str, str]:
    """Values of the data's conditions that have to be given, such as a text, each an example."""
    return _with_example(resolved.data.fields)


def _kept_examples(resolved: ResolvedRun) -> Mapping[str, str]:
    """Those of the conditions that only the model has which the run went on with, and whose data was rehearsed."""
    if not resolved.config.rehearsal:
        return {}
    fields = resolved.config.model.fields.items()
    return _with_example({name: spec for name, spec in fields if name not in resolved.data.fields})


def _with_example(fields: Mapping[str, AnyField]) -> Mapping[str, str]:
    examples = {name: getattr(spec, "example", "") for name, spec in fields.items() if not spec.drawn}
    return {name: example for name, example in examples.items() if example}


def _data_options(config: RunConfig) -> str:
    """The options that name the data again."""
    data = config.data
    words = ["--data", data.source]
    plain: dict[str, Any] = {} if data.options is None else data.options.given
    usual = DataConfig()
    changed = {
        name: getattr(data, name)
        for name in ("split", "max_bad", "balance")
        if getattr(data, name) != getattr(usual, name)
    }
    extra = {"modality": data.modality, "limit": data.limit, **changed}
    for name, value in {**{key: value for key, value in extra.items() if value is not None}, **plain}.items():
        words += [f"--data.{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    words += [] if data.captions else ["--data.no-captions"]
    return shlex.join([*words, *(["--data.augment", *data.augment] if data.augment else [])])


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
