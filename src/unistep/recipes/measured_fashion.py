"""Every other method on Fashion-MNIST, as measured by ``benchmarks/methods.py`` for five minutes each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unistep.objectives.fd import FDConfig
from unistep.recipes import consistency_methods as maps
from unistep.recipes import flow_map_methods as flow_maps
from unistep.recipes import post_training
from unistep.recipes.method import Method
from unistep.recipes.shipped_fashion import DATA, IMAGES, NETWORK
from unistep.training.run_config import RunConfig

_FACTS = """{what} on Fashion-MNIST, as measured.

Data: Fashion-MNIST, 60,000 images.{teacher}
Hardware: one core of a CPU with AMX, bfloat16.
Time: five minutes for the expected result; more with a longer budget.
Expected: Fréchet distance {expected} (features `fashion` v1, 2,000 samples, `benchmarks/methods.py`).
"""
_WEIGHTS = "within 20 %, starting from the weights of the shipped teacher"
_GUIDED = "within 20 %, starting from the shipped teacher, with a guidance of 1.2 in the target"


def _measured(
    name: str, method: Callable[[], Method], what: str, expected: str, teacher: str | None = None
) -> Callable[[], RunConfig]:
    def recipe() -> RunConfig:
        return method().run(f"fashion/{name}", DATA, IMAGES, NETWORK, teacher=teacher)

    needs = f"\nNeeds a teacher: yes; the shipped model {teacher} by default." if teacher else ""
    recipe.__doc__ = _FACTS.format(what=what, teacher=needs, expected=expected)
    return recipe


TEACHER = "fashion-teacher"

ct = _measured(
    "ct", maps.ct, "Consistency training", f"4.2 in one step and 2.9 in two, {_WEIGHTS}; 29 and 27 from fresh weights"
)
cd = _measured("cd", maps.cd, "Consistency distillation", f"2.4 in one step and 2.7 in two, {_GUIDED}", TEACHER)
ict = _measured(
    "ict",
    maps.ict,
    "Improved consistency training",
    f"3.6 in one step and 1.3 in two, {_WEIGHTS}; 20 and 20 from fresh weights",
)
sct = _measured(
    "sct", maps.sct, "Continuous-time consistency tuning", f"4.2 in one step and 1.7 in two, {_WEIGHTS}", TEACHER
)
scd = _measured(
    "scd", maps.scd, "Continuous-time consistency distillation", f"3.6 in one step and 1.1 in two, {_GUIDED}", TEACHER
)
tcm = _measured(
    "tcm",
    maps.tcm,
    "Truncated consistency training",
    "2.5 in one step and 1.1 in two, within 20 %, after two and a half minutes of `fashion/ect` without guidance and "
    "as long of this; it gets worse from the shipped student, which learned from a guided teacher",
    "fashion",
)
pcm = _measured("pcm", maps.pcm, "Multi-phase consistency", f"13 in one step and 2 in two, {_WEIGHTS}", TEACHER)
drifting = _measured(
    "drifting", maps.drifting, "Drifting", f"3.3 in one step and 2.9 in two, {_WEIGHTS}; 19 and 23 from fresh weights"
)
meanflow = _measured(
    "meanflow",
    flow_maps.meanflow,
    "MeanFlow",
    f"3 in one step and 1.1 in two, {_GUIDED}; 20 and 22 from fresh weights",
)
meanflow_distilled = _measured(
    "meanflow-distilled",
    flow_maps.meanflow_distilled,
    "MeanFlow along the ODE of a teacher",
    f"2.3 in one step and 0.94 in two, {_GUIDED}",
    TEACHER,
)
imf = _measured(
    "imf",
    flow_maps.imf,
    "Improved MeanFlow",
    f"3.2 in one step and 1.3 in two, {_GUIDED}; 18 and 19 from fresh weights",
)
ctm = _measured("ctm", flow_maps.ctm, "Consistency trajectory", f"4.5 in one step and 2.1 in two, {_GUIDED}", TEACHER)
shortcut = _measured("shortcut", flow_maps.shortcut, "Shortcut models", f"6.8 in one step and 1.7 in two, {_GUIDED}")
imm = _measured(
    "imm",
    flow_maps.imm,
    "Inductive moment matching",
    f"10 in one step and 1.6 in two, {_WEIGHTS}; 27 and 23 from fresh weights",
)


def fd() -> RunConfig:
    """FD loss from a student of Fashion-MNIST, for samples of one step and of two: the last part of the shipped model.

    The class features join the fixed ones in training, so that they say nothing of quality afterwards; other random
    convolutions select, and those that report stay apart. A batch is the whole population of either number of steps:
    moments that run lag behind the weights, and lead a good student past its aim. The maps inside of the teacher
    (`denoiser:fashion-teacher`), which the steps before these were trained on, gained nothing more.

    Data: Fashion-MNIST, 60,000 images.
    Needs a teacher: no, but a trained model to go on with; the shipped model fashion by default, which had it already.
    Hardware: one core of a CPU with AVX-512 and bf16 units.
    Time: 15 to 20 s a step; the shipped model had 70 of these, after 1,154 others that the log of experiments lists.
    Expected: a seventh off `random-convolutions:2` in one step and a fifth in two, a tenth off `pixels`, and more of
    `fashion-vicreg`, half of which the average with the weights before them takes back (5,000 samples).
    """
    method = post_training.fd()
    named = ("fashion", "random-convolutions", "details", "scales")
    objective = FDConfig(representations=named, population=1024, times=(0.89,))
    watched = replace(method.selection, every=14, samples=4000, features="random-convolutions:1")
    soon = replace(post_training.SCHEDULE, warmup_steps=3)
    own = replace(method, objective=objective, schedule=soon, selection=watched, batch_size=2048, budget="60m")
    return own.run("fashion/fd", DATA, IMAGES, NETWORK, init="fashion")
