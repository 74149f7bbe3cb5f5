"""The recipes that ``equal_budget.py`` compares, each one change away from the default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from unistep.core.timesteps import LogNormal, RatioCurriculum, SqrtCurriculum
from unistep.objectives.cd import CDConfig
from unistep.objectives.ct import CTConfig
from unistep.objectives.distance import PseudoHuber, SquaredL2
from unistep.objectives.ect import ECTConfig
from unistep.objectives.imm import IMMConfig
from unistep.objectives.shortcut import ShortcutConfig
from unistep.recipes.measured_fashion import meanflow
from unistep.recipes.shipped_fashion import denoising, ect
from unistep.training.ema import PowerEMA
from unistep.training.optim import AdamConfig, MuonConfig, Schedule
from unistep.training.run_config import RunConfig

TEACHER, STUDENT, FLOW_MAP = denoising().model, ect().model, meanflow().model

_STUDENT: Any = STUDENT.network
DROPPING = replace(_STUDENT, dropout=0.1)

EASY = ECTConfig(curriculum=RatioCurriculum(q=4.0, stages=3), weighting="inverse_gap")

HIGH = LogNormal(mean=0.0, std=2.0)

GUIDED = replace(EASY, times=HIGH, target="euler", guidance=1.3)
"""That of the recipe ``fashion/ect``."""

DISTILLED = CDConfig(levels=18, solver="heun", distance=PseudoHuber(c=0.0))
RADAM = AdamConfig(kind="radam", lr=4e-4)
"""With the target averaged by 0.8 that of the recipe ``fashion/cd``."""

JUMPS = ShortcutConfig(target_ema=0.99, starts="uniform")
"""With 16 sections and a target averaged by 0.9 that of the recipe ``fashion/shortcut``."""
MOMENTS = IMMConfig(particles=16, k=8.0)
"""That of the recipe ``fashion/imm``."""


def tuned(objective: object, **changes: object) -> Callable[[], RunConfig]:
    """A student of the teacher with this objective."""
    base = replace(
        denoising(),
        recipe="variant",
        model=STUDENT,
        teacher="teacher",
        optimizer=MuonConfig(lr=5e-4, adam_lr=2e-4),
        schedule=Schedule(warmup_steps=20, decay=0.5),
        emas=(PowerEMA(sigma_rel=0.1),),
    )
    return lambda: replace(base, objective=objective, **changes)


def denoiser(
    *, patch: int = 2, widths: tuple[int, ...] = (24, 64), dropout: float = 0.0, **changes: object
) -> Callable[[], RunConfig]:
    """A teacher from fresh weights, small enough to be measured after minutes."""
    network: Any = TEACHER.network
    network = replace(network, patch=patch, widths=widths, dropout=dropout)
    base = replace(denoising(), model=replace(TEACHER, network=network), emas=(PowerEMA(sigma_rel=0.1),))
    return lambda: replace(base, **changes)


VARIANTS: dict[str, Callable[[], RunConfig]] = {
    "ect": tuned(EASY),
    "ect-radam": tuned(EASY, optimizer=AdamConfig(kind="radam", lr=3e-4)),
    "ect-adamw": tuned(EASY, optimizer=AdamConfig(kind="adamw", lr=3e-4)),
    "ect-b32": tuned(EASY, batch_size=32),
    "ect-b128": tuned(EASY, batch_size=128),
    "ect-lr1": tuned(EASY, optimizer=MuonConfig(lr=1e-3, adam_lr=3e-4)),
    "ect-lr3": tuned(EASY, optimizer=MuonConfig(lr=3e-3, adam_lr=1e-3)),
    "ect-lr03": tuned(EASY, optimizer=MuonConfig(lr=3e-4, adam_lr=1e-4)),
    "ect-q2": tuned(replace(EASY, curriculum=RatioCurriculum(q=2.0, stages=6))),
    "ect-q16": tuned(replace(EASY, curriculum=RatioCurriculum(q=16.0, stages=1))),
    "ect-q64": tuned(replace(EASY, curriculum=RatioCurriculum(q=64.0, stages=1))),
    "ect-snr": tuned(replace(EASY, weighting="snr_plus_k")),
    "ect-huber": tuned(replace(EASY, distance=PseudoHuber(c=1.0))),
    "ect-l2": tuned(replace(EASY, distance=SquaredL2(), weighting="snr_plus_k")),
    "ect-euler": tuned(replace(EASY, target="euler")),
    "ect-heun": tuned(replace(EASY, target="heun")),
    "ect-ot": tuned(replace(EASY, pairing="optimal_transport")),
    "ect-dropout": tuned(EASY, model=replace(STUDENT, network=DROPPING)),
    "ect-high": tuned(replace(EASY, times=HIGH)),
    "ect-higher": tuned(replace(EASY, times=LogNormal(mean=1.0, std=2.0))),
    "ect-guided": tuned(replace(EASY, target="euler", guidance=1.3)),
    "ect-high-guided": tuned(GUIDED),
    "ect-high-guided-2": tuned(replace(GUIDED, guidance=2.0)),
    "ect-high-guided-lr1": tuned(GUIDED, optimizer=MuonConfig(lr=1e-3, adam_lr=3e-4)),
    "ect-high-guided-lr03": tuned(GUIDED, optimizer=MuonConfig(lr=3e-4, adam_lr=1e-4)),
    "ect-high-guided-snr": tuned(replace(GUIDED, weighting="snr_plus_k")),
    "ect-high-guided-one": tuned(replace(GUIDED, weighting="one")),
    "ect-high-guided-ot": tuned(replace(GUIDED, pairing="optimal_transport")),
    "ect-high-guided-falling": tuned(GUIDED, schedule=Schedule(warmup_steps=20, decay=1.0)),
    "ect-high-guided-2-stages": tuned(replace(GUIDED, curriculum=RatioCurriculum(q=4.0, stages=2))),
    "ect-high-guided-4-stages": tuned(replace(GUIDED, curriculum=RatioCurriculum(q=4.0, stages=4))),
    "cd-heun": tuned(DISTILLED),
    "cd-heun-ema": tuned(replace(DISTILLED, target_ema=0.95)),
    "cd-heun-l2": tuned(CDConfig()),
    "cd-heun-l2-ema": tuned(CDConfig(target_ema=0.95)),
    "cd-heun-huber": tuned(CDConfig(distance=PseudoHuber(c=1.0))),
    "cd-heun-lr01": tuned(DISTILLED, optimizer=MuonConfig(lr=1e-4, adam_lr=4e-5)),
    "cd-heun-radam": tuned(DISTILLED, optimizer=RADAM),
    "cd-heun-radam-ema": tuned(replace(DISTILLED, target_ema=0.95), optimizer=RADAM),
    "cd-heun-radam-ema-08": tuned(replace(DISTILLED, target_ema=0.8), optimizer=RADAM),
    "cd-heun-radam-l2": tuned(CDConfig(), optimizer=RADAM),
    "cd-heun-radam-lr1": tuned(DISTILLED, optimizer=replace(RADAM, lr=1e-3)),
    "cd-euler": tuned(replace(DISTILLED, solver="euler")),
    "cd-heun-8": tuned(replace(DISTILLED, levels=8)),
    "ct": tuned(CTConfig()),
    **{
        f"ct-{end}-ema-{ema:g}": tuned(CTConfig(curriculum=SqrtCurriculum(end=end, target_ema=ema)))
        for end in (20, 40, 150)
        for ema in (0.0, 0.5, 0.9)
    },
    **{
        f"imm-{name}": tuned(replace(MOMENTS, **changes), model=FLOW_MAP, batch_size=128)
        for name, changes in {
            "k8": {},
            "k7": {"k": 7.0},
            "k6": {"k": 6.0},
            "k5": {"k": 5.0},
            "k3": {"k": 3.0},
            "cosine": {"trajectory": "cosine"},
            "boundary": {"second_time": "boundary"},
        }.items()
    },
    **{
        f"shortcut-{sections}-ema-{ema:g}": tuned(replace(JUMPS, sections=sections, target_ema=ema), model=FLOW_MAP)
        for sections in (8, 16, 32, 128)
        for ema in (0.0, 0.9, 0.99)
    },
    "ect-scratch": tuned(EASY, teacher=None, optimizer=MuonConfig()),
    "ct-scratch": tuned(CTConfig(), teacher=None, optimizer=MuonConfig()),
    "ect-emas": tuned(EASY, emas=tuple(PowerEMA(sigma_rel=width) for width in (0.03, 0.05, 0.1, 0.2))),
    "teacher-muon": denoiser(),
    "teacher-adamw": denoiser(optimizer=AdamConfig(lr=1e-3)),
    "teacher-b32": denoiser(batch_size=32),
    "teacher-b128": denoiser(batch_size=128),
    "teacher-dropout": denoiser(dropout=0.1),
    "teacher-narrow": denoiser(widths=(16, 40)),
    "teacher-wide": denoiser(widths=(48, 128)),
    "teacher-full": denoiser(patch=1, widths=(24, 64)),
    "teacher-full-narrow": denoiser(patch=1, widths=(12, 32)),
}
