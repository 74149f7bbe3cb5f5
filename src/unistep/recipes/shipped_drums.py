"""Reproductions of the shipped drums: single strokes of one second."""

from __future__ import annotations

from dataclasses import replace

from unistep.core.timesteps import LogNormal, RatioCurriculum
from unistep.data import DataConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.recipes import consistency_methods
from unistep.recipes.shipped_notes import NETWORK, SOUNDS, TUNED_SOUNDS, WIDEST_GAP
from unistep.training.run_config import RunConfig

DRUMS = DataConfig(source="drums:permissive:tuned", modality="audio")
FEW_SOUNDS = replace(NETWORK, widths=(192, 192), embedding_dim=256, basis_functions=0)
"""3.3 million parameters, for some hundred sounds."""


def denoising() -> RunConfig:
    """A denoiser of single strokes by kind of drum: the shipped `drums-teacher`.

    Data: 86 strokes under CC0 from Debian's sonic-pi-samples and hydrogen-drumkits, each in seven tunings, one second
    at 16 kHz; ``--data drums:tuned`` includes those under GPL and CC-BY-SA.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 7 minutes for the 60,800 sounds of the shipped model.
    Expected: Fréchet distance 0.3 in 18 Heun steps, within 20 % (features `spectrum` v1, 602 sounds).
    Paper: Karras et al. 2022 (arXiv 2206.00364); `objectives/denoising.py`. Muon in place of Adam. Spectra as in
    Pasini et al. 2024 (arXiv 2408.06500).
    """
    method = replace(
        consistency_methods.denoising(),
        objective=DenoisingConfig(times=LogNormal(mean=0.5, std=2.0), label_dropout=0.1),
        batch_size=32,
        budget="20m",
    )
    return method.run("drums/denoising", DRUMS, SOUNDS, FEW_SOUNDS)


def ect() -> RunConfig:
    """Easy consistency tuning of the drums' teacher: a stroke in one network call.

    Many different strokes fit one kind of drum, so gaps between noise levels are narrower than for notes: an average
    of strokes is not a stroke.

    Data: 86 strokes under CC0 from Debian's sonic-pi-samples and hydrogen-drumkits, each in seven tunings, one second
    at 16 kHz; ``--data drums:tuned`` includes those under GPL and CC-BY-SA.
    Needs a teacher: yes; the shipped one by default.
    Hardware: one core of a CPU with AMX, bfloat16, compiled.
    Time: 3 minutes for the 28,800 sounds of the shipped model, after its teacher's.
    Expected: Fréchet distance 0.22 in one step, within 20 % (features `spectrum` v1, 602 sounds).
    Paper: Geng et al. 2024 (arXiv 2406.14548), algorithm 1; `objectives/ect.py`. Spectra as in Pasini et al. 2024
    (arXiv 2408.06500).
    """
    method = replace(
        TUNED_SOUNDS, objective=replace(WIDEST_GAP, curriculum=RatioCurriculum(q=2.0, stages=2)), budget="20m"
    )
    return method.run("drums/ect", DRUMS, SOUNDS, FEW_SOUNDS, teacher="drums-teacher")
