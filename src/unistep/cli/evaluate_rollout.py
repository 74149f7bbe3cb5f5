"""``unistep evaluate --rollout``: how long the frames of a world stay those of the game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from unistep.cli.console import make_console
from unistep.cli.evaluation_data import data_for, test_split, trained_on
from unistep.cli.extras import require
from unistep.cli.outputs import check_file

if TYPE_CHECKING:
    from unistep.cli.evaluate import EvaluateOptions

LONGEST = 100_000
"""More frames than this are taken for a mistake."""


def rollout(options: EvaluateOptions, condition: Mapping[str, str]) -> int:
    """Roll out, print the tables, and write the files that were asked for.

    Raises:
        ValueError: If the model is no world, or an option does not go with one.
    """
    json = None if options.json is None else check_file(options.json, (".json",))
    plot = None if options.plot is None else check_file(options.plot, (".png", ".svg", ".pdf"))
    _check(options, condition)
    if plot is not None:
        require("eval", "--plot", ("matplotlib",))
    from unistep.cli.devices import choose_device
    from unistep.data import prepare
    from unistep.evaluation.feature_loading import check_features
    from unistep.evaluation.real_play import check_world, long_clips
    from unistep.evaluation.world_plot import save_world_plot
    from unistep.evaluation.worlds import STREAMS, evaluate_world
    from unistep.hub.load import load

    for name in options.features:
        check_features(name)
    model = load(options.model, device=choose_device(options.device), precision=options.precision)
    check_world(model)
    assert options.rollout is not None
    shown = replace(data_for(model, options.data), max_bad=options.max_bad)
    known = trained_on(model)
    learned = shown if known is None else replace(data_for(model, known), max_bad=options.max_bad)
    report = evaluate_world(
        model,
        prepare(long_clips(test_split(shown), model, options.rollout)),
        prepare(learned),
        num=STREAMS if options.num is None else options.num,
        features=options.features or None,
        steps=options.steps[0] if options.steps else None,
        solver=options.solver[0] if len(options.solver) == 1 else None,
        seed=options.seed,
    )
    console = make_console(unfolded=True)
    for table in report.tables():
        console.print(table)
    if json is not None:
        report.save_json(json)
        print(f"written to {options.json}")
    if plot is not None:
        save_world_plot(report, plot)
        print(f"written to {options.plot}")
    return 0


def _check(options: EvaluateOptions, condition: Mapping[str, str]) -> None:
    """Refuse options that make no sense before anything is loaded.

    Raises:
        ValueError: Naming the option and the value.
    """
    if options.rollout is None or not 1 <= options.rollout <= LONGEST:
        raise ValueError(f"--rollout must be from 1 to {LONGEST:,} frames, got {options.rollout}")
    if options.num is not None and options.num < 2:
        raise ValueError(f"--num must be at least 2 recordings, got {options.num}")
    if len(options.steps) > 1:
        raise ValueError(f"--rollout takes one number of --steps, got {' '.join(map(str, options.steps))}")
    others = {"--teacher": options.teacher, "--guidance": options.guidance, "--speech": options.speech, **condition}
    for name, value in others.items():
        if value:
            raise ValueError(f"--rollout compares one world with recordings of play; leave {name} out")
