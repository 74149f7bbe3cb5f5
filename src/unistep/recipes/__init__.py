"""Complete configurations by name: functions whose docstrings state data, needs, paper and expected result."""

from __future__ import annotations

from collections.abc import Callable

from unistep.recipes import audio, fashion, fashion_consistency, fashion_flow_maps, stream
from unistep.training.run_config import RunConfig

Recipe = Callable[[], RunConfig]


def recipes() -> dict[str, Recipe]:
    """All recipes by name, in the order of the documentation."""
    return {
        "fashion-teacher": fashion.fashion_teacher,
        "fashion-ect": fashion.fashion_ect,
        "fashion-cd": fashion.fashion_cd,
        "fashion-ct": fashion.fashion_ct,
        "fashion-ict": fashion_consistency.fashion_ict,
        "fashion-sct": fashion_consistency.fashion_sct,
        "fashion-scd": fashion_consistency.fashion_scd,
        "fashion-tcm": fashion_consistency.fashion_tcm,
        "fashion-pcm": fashion_consistency.fashion_pcm,
        "fashion-drifting": fashion_consistency.fashion_drifting,
        "fashion-meanflow": fashion_flow_maps.fashion_meanflow,
        "fashion-meanflow-distilled": fashion_flow_maps.fashion_meanflow_distilled,
        "fashion-imf": fashion_flow_maps.fashion_imf,
        "fashion-ctm": fashion_flow_maps.fashion_ctm,
        "fashion-shortcut": fashion_flow_maps.fashion_shortcut,
        "fashion-imm": fashion_flow_maps.fashion_imm,
        "notes-teacher": audio.notes_teacher,
        "notes-ect": audio.notes_ect,
        "drums-teacher": audio.drums_teacher,
        "drums-ect": audio.drums_ect,
        "phrases-teacher": stream.phrases_teacher,
        "phrases-ect": stream.phrases_ect,
    }
