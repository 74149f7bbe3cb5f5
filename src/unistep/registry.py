"""The registry of networks, codecs, modalities, condition fields, objectives, data sources, solvers and so on.

Built-in implementations are listed here by module, so that a name costs no import until it is used. Other packages add
theirs through the entry-point group ``unistep.plugins``: each entry point is a module that calls :func:`register` when
it is imported, or a function without arguments that does.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, overload

from unistep.spelling import nearest

T = TypeVar("T")

Kind = Literal[
    "network",
    "codec",
    "modality",
    "field",
    "objective",
    "source",
    "game",
    "solver",
    "task",
    "features",
    "metrics",
    "recipe",
    "text_encoder",
    "container",
    "backend",
]
"""The kinds of things that have names."""

GROUP = "unistep.plugins"
"""Entry-point group of packages that add to the registry."""

_BUILT_IN: dict[str, dict[str, str]] = {
    "network": {
        "unet": "unistep.nets.unet_config:UNetConfig",
        "dit": "unistep.nets.dit_config:DiTConfig",
        "space-time-unet": "unistep.nets.space_time_config:SpaceTimeUNetConfig",
    },
    "codec": {
        "identity": "unistep.codecs.identity:IdentityConfig",
        "spectrum": "unistep.codecs.spectrum:SpectrumConfig",
        "next-frame": "unistep.codecs.next_frame:NextFrameConfig",
        "autoencoder": "unistep.codecs.autoencoder:AutoencoderConfig",
    },
    "modality": {
        "image": "unistep.modalities.image:ImageModality",
        "audio": "unistep.modalities.audio:AudioModality",
        "video": "unistep.modalities.video:VideoModality",
        "tensor": "unistep.modalities.tensor:TensorModality",
    },
    "field": {
        "label": "unistep.core.fields:LabelField",
        "scalar": "unistep.core.fields:ScalarField",
        "tokens": "unistep.core.signal_fields:TokensField",
        "signal": "unistep.core.signal_fields:SignalField",
        "vector": "unistep.core.vector_fields:VectorField",
        "text": "unistep.core.text_fields:TextField",
        "action": "unistep.core.action_fields:ActionField",
    },
    "objective": {
        "denoising": "unistep.objectives.denoising:DenoisingConfig",
        "ct": "unistep.objectives.ct:CTConfig",
        "cd": "unistep.objectives.cd:CDConfig",
        "ict": "unistep.objectives.ict:ICTConfig",
        "ect": "unistep.objectives.ect:ECTConfig",
        "scm": "unistep.objectives.scm:SCMConfig",
        "tcm": "unistep.objectives.tcm:TCMConfig",
        "pcm": "unistep.objectives.pcm:PCMConfig",
        "ctm": "unistep.objectives.ctm:CTMConfig",
        "ctm-training": "unistep.objectives.ctm:CTMTrainingConfig",
        "meanflow": "unistep.objectives.meanflow:MeanFlowConfig",
        "meanflow-distillation": "unistep.objectives.meanflow:MeanFlowDistillationConfig",
        "imf": "unistep.objectives.imf:IMFConfig",
        "shortcut": "unistep.objectives.shortcut:ShortcutConfig",
        "imm": "unistep.objectives.imm:IMMConfig",
        "drifting": "unistep.objectives.drifting:DriftingConfig",
        "fd": "unistep.objectives.fd:FDConfig",
    },
    "source": {
        "fashion-mnist": "unistep.data.sources.fashion:FashionMnist",
        "moving-fashion": "unistep.data.sources.moving_fashion:MovingFashion",
        "folder": "unistep.data.sources.folder:Folder",
        "npz": "unistep.data.sources.npz:Npz",
        "hf": "unistep.data.sources.hub:HuggingFace",
        "notes": "unistep.data.sources.notes:Notes",
        "phrases": "unistep.data.sources.phrases:Phrases",
        "drums": "unistep.data.sources.drums:Drums",
        "emoji": "unistep.data.sources.emoji:Emoji",
        "clipart": "unistep.data.sources.clipart:Clipart",
        "spoken-digits": "unistep.data.sources.spoken_digits:SpokenDigits",
        "racing": "unistep.data.sources.racing:Racing",
        "doom": "unistep.data.sources.doom:Doom",
    },
    "game": {"racing": "unistep.data.games:Racing", "doom": "unistep.data.games:Doom"},
    "text_encoder": {"minilm": "unistep.text.minilm:MiniLM"},
    "solver": {
        "euler": "unistep.core.solvers:Euler",
        "heun": "unistep.core.solvers:Heun",
        "dpmpp2m": "unistep.core.solvers:DPMSolverPP2M",
    },
    "backend": {
        "eager": "unistep.backends.eager:Eager",
        "compiled": "unistep.backends.compiled:Compiled",
        "onnxruntime": "unistep.backends.onnx_runtime:OnnxRuntime",
        "openvino": "unistep.backends.open_vino:OpenVino",
    },
    "container": {
        "png": "unistep.provenance.png:PNG",
        "jpeg": "unistep.provenance.jpeg:JPEG",
        "webp": "unistep.provenance.riff:WEBP",
        "wav": "unistep.provenance.riff:WAV",
        "flac": "unistep.provenance.flac:FLAC",
        "ogg": "unistep.provenance.ogg:OGG",
        "mp4": "unistep.provenance.mp4:MP4",
        "webm": "unistep.provenance.webm:WEBM",
        "gif": "unistep.provenance.gif:GIF",
        "npz": "unistep.provenance.npz:NPZ",
    },
    "task": {
        "inpaint": "unistep.editing.tasks.inpaint:Inpaint",
        "outpaint": "unistep.editing.tasks.inpaint:Outpaint",
        "predict": "unistep.editing.tasks.inpaint:Predict",
        "colorize": "unistep.editing.tasks.colorize:Colorize",
        "upscale": "unistep.editing.tasks.upscale:Upscale",
        "deblur": "unistep.editing.tasks.deblur:Deblur",
        "denoise": "unistep.editing.tasks.denoise:Denoise",
        "declip": "unistep.editing.tasks.declip:Declip",
        "extend": "unistep.editing.tasks.extend:Extend",
        "sketch": "unistep.editing.tasks.vary:Sketch",
        "vary": "unistep.editing.tasks.vary:Vary",
        "compose": "unistep.editing.tasks.compose:Compose",
        "interpolate": "unistep.editing.tasks.interpolate:Interpolate",
        "restore": "unistep.editing.tasks.restore:Restore",
    },
    "features": {
        "fashion": "unistep.evaluation.feature_loading:shipped_fashion",
        "notes": "unistep.evaluation.feature_loading:shipped_notes",
        "fashion-vicreg": "unistep.evaluation.feature_loading:shipped_fashion_vicreg",
        "notes-vicreg": "unistep.evaluation.feature_loading:shipped_notes_vicreg",
        "moving-fashion": "unistep.evaluation.feature_loading:shipped_moving_fashion",
        "moving-fashion-vicreg": "unistep.evaluation.feature_loading:shipped_moving_fashion_vicreg",
        "emoji-text": "unistep.evaluation.feature_loading:shipped_emoji_text",
        "emoji-vicreg": "unistep.evaluation.feature_loading:shipped_emoji_vicreg",
        "vicreg": "unistep.evaluation.learned_features:VICREG",
        "pixels": "unistep.evaluation.feature_loading:pixels",
        "spectrum": "unistep.evaluation.feature_loading:spectrum",
        "scales": "unistep.evaluation.feature_loading:scales",
        "details": "unistep.evaluation.feature_loading:details",
        "random-convolutions": "unistep.evaluation.feature_loading:random_convolutions",
        "denoiser": "unistep.evaluation.denoiser_features:denoiser",
        "inception": "unistep.evaluation.foreign_features:inception",
        "dinov2": "unistep.evaluation.foreign_features:dinov2",
        "torchscript": "unistep.evaluation.foreign_features:torchscript",
        "module": "unistep.evaluation.foreign_features:module",
    },
    "metrics": {
        "notes": "unistep.evaluation.note_metrics:NoteMetrics",
        "texts": "unistep.evaluation.text_metrics:TextMetrics",
        "frames": "unistep.evaluation.frame_metrics:FrameMetrics",
        "nearest": "unistep.evaluation.nearest_metrics:NearestMetrics",
    },
    "recipe": {
        "denoising": "unistep.recipes.consistency_methods:denoising",
        "ect": "unistep.recipes.consistency_methods:ect",
        "ct": "unistep.recipes.consistency_methods:ct",
        "cd": "unistep.recipes.consistency_methods:cd",
        "ict": "unistep.recipes.consistency_methods:ict",
        "sct": "unistep.recipes.consistency_methods:sct",
        "scd": "unistep.recipes.consistency_methods:scd",
        "tcm": "unistep.recipes.consistency_methods:tcm",
        "pcm": "unistep.recipes.consistency_methods:pcm",
        "ctm": "unistep.recipes.flow_map_methods:ctm",
        "meanflow": "unistep.recipes.flow_map_methods:meanflow",
        "meanflow-distilled": "unistep.recipes.flow_map_methods:meanflow_distilled",
        "imf": "unistep.recipes.flow_map_methods:imf",
        "shortcut": "unistep.recipes.flow_map_methods:shortcut",
        "imm": "unistep.recipes.flow_map_methods:imm",
        "drifting": "unistep.recipes.consistency_methods:drifting",
        "fd": "unistep.recipes.post_training:fd",
        "fashion/denoising": "unistep.recipes.shipped_fashion:denoising",
        "fashion/ect": "unistep.recipes.shipped_fashion:ect",
        "fashion/ct": "unistep.recipes.measured_fashion:ct",
        "fashion/cd": "unistep.recipes.measured_fashion:cd",
        "fashion/ict": "unistep.recipes.measured_fashion:ict",
        "fashion/sct": "unistep.recipes.measured_fashion:sct",
        "fashion/scd": "unistep.recipes.measured_fashion:scd",
        "fashion/tcm": "unistep.recipes.measured_fashion:tcm",
        "fashion/pcm": "unistep.recipes.measured_fashion:pcm",
        "fashion/ctm": "unistep.recipes.measured_fashion:ctm",
        "fashion/meanflow": "unistep.recipes.measured_fashion:meanflow",
        "fashion/meanflow-distilled": "unistep.recipes.measured_fashion:meanflow_distilled",
        "fashion/imf": "unistep.recipes.measured_fashion:imf",
        "fashion/shortcut": "unistep.recipes.measured_fashion:shortcut",
        "fashion/imm": "unistep.recipes.measured_fashion:imm",
        "fashion/drifting": "unistep.recipes.measured_fashion:drifting",
        "fashion/fd": "unistep.recipes.measured_fashion:fd",
        "emoji/denoising": "unistep.recipes.shipped_emoji:denoising",
        "emoji/ect": "unistep.recipes.shipped_emoji:ect",
        "notes/denoising": "unistep.recipes.shipped_notes:denoising",
        "notes/ect": "unistep.recipes.shipped_notes:ect",
        "drums/denoising": "unistep.recipes.shipped_drums:denoising",
        "drums/ect": "unistep.recipes.shipped_drums:ect",
        "phrases/denoising": "unistep.recipes.shipped_phrases:denoising",
        "phrases/ect": "unistep.recipes.shipped_phrases:ect",
        "moving-fashion/denoising": "unistep.recipes.shipped_moving_fashion:denoising",
        "moving-fashion/ect": "unistep.recipes.shipped_moving_fashion:ect",
        "doom/denoising": "unistep.recipes.shipped_doom:denoising",
        "doom/ect": "unistep.recipes.shipped_doom:ect",
        "racing/denoising": "unistep.recipes.shipped_racing:denoising",
        "racing/ect": "unistep.recipes.shipped_racing:ect",
        "racing/fd": "unistep.recipes.shipped_racing:fd",
    },
}
_FORMER: dict[str, dict[str, str]] = {
    "network": {"UNetConfig": "unet"},
    "modality": {"ImageModality": "image", "AudioModality": "audio"},
    "field": {"LabelField": "label", "Field": "label", "ScalarField": "scalar", "Range": "scalar"},
    "objective": {
        "DenoisingConfig": "denoising",
        "ConsistencyTrainingConfig": "ct",
        "DistillationConfig": "cd",
        "ImprovedConfig": "ict",
        "EasyConfig": "ect",
        "ContinuousConfig": "scm",
        "TruncatedConfig": "tcm",
        "PhasedConfig": "pcm",
        "TrajectoryDistillationConfig": "ctm",
        "TrajectoryTrainingConfig": "ctm-training",
        "MeanFlowConfig": "meanflow",
        "MeanFlowDistillationConfig": "meanflow-distillation",
        "ImprovedMeanFlowConfig": "imf",
        "ShortcutConfig": "shortcut",
        "MomentConfig": "imm",
        "DriftingConfig": "drifting",
    },
}
"""Tags that files of earlier versions have, with the names they have now."""

_added: dict[str, dict[str, Any]] = {kind: {} for kind in get_args(Kind)}
_plugins_loaded = False


@overload
def register(kind: Kind, name: str) -> Callable[[T], T]: ...
@overload
def register(kind: Kind, name: str, value: T) -> T: ...
def register(kind: Kind, name: str, value: Any = None) -> Any:
    """Give something a name; without ``value``, a decorator that does.

    Args:
        kind: What it is.
        name: Its name: what the command line takes and files hold.
        value: What is named: a configuration class of a network, codec or objective, a modality or source class, a
            subclass of :class:`~unistep.core.solvers.ODESolver`, a function that loads features, or one that returns a
            recipe.

    Raises:
        ValueError: If the kind is unknown, or the name belongs to something else.
    """
    if kind not in _added:
        raise ValueError(f"unknown kind {kind!r}; {nearest(kind, list(_added))}")
    if value is None:
        return lambda given: register(kind, name, given)
    known = _added[kind].get(name)
    if name in _BUILT_IN[kind] or (known is not None and not _same(known, value)):
        raise ValueError(f"the {kind} {name!r} exists already; choose another name")
    _added[kind][name] = value
    return value


def lookup(kind: Kind, name: str) -> Any:
    """What a name stands for.

    Raises:
        ValueError: If there is nothing of that kind and name; gives the nearest name and all valid ones.
    """
    name = _FORMER.get(kind, {}).get(name, name)
    if name in _BUILT_IN[kind]:
        return _resolved(_BUILT_IN[kind][name])
    load_plugins()
    if name not in _added[kind]:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(name, names(kind))}; others come with plugins")
    return _added[kind][name]


def names(kind: Kind) -> tuple[str, ...]:
    """All names of a kind: the built-in ones first."""
    load_plugins()
    return (*_BUILT_IN[kind], *_added[kind])


def entries(kind: Kind) -> dict[str, Any]:
    """Everything of a kind by name; imports all of it."""
    return {name: lookup(kind, name) for name in names(kind)}


def name_of(kind: Kind, value: Any) -> str:
    """The name under which a class, or the class of an instance, is registered.

    Raises:
        ValueError: If it is not.
    """
    made = value if isinstance(value, type) or not hasattr(type(value), "__dataclass_fields__") else type(value)
    for name, target in _BUILT_IN[kind].items():
        module, _, attribute = target.partition(":")  # what exists comes from a module that has been imported
        if getattr(sys.modules.get(module), attribute, None) is made:
            return name
    for name, known in _added[kind].items():
        if known is made:
            return name
    shown = getattr(made, "__qualname__", repr(made))
    if hasattr(made, "UNNAMED"):
        raise ValueError(made.UNNAMED)
    raise ValueError(
        f"{shown} is not registered: unistep.registry.register({kind!r}, 'NAME') on it gives it a name, which a file "
        "can hold"
    )


def load_plugins() -> None:
    """Import what other packages offer under the entry-point group ``unistep.plugins``, once.

    A plugin that fails is left out with a warning that names it: it must not take the others down.
    """
    global _plugins_loaded
    if _plugins_loaded:
        return
    _plugins_loaded = True
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        try:
            found = point.load()
            if callable(found):
                found()
        except Exception as error:
            warnings.warn(f"the plugin {point.name!r} ({point.value}) cannot be used: {error}", stacklevel=2)


def _resolved(target: str) -> Any:
    module, _, attribute = target.partition(":")
    known = sys.modules.get(module)  # perhaps half of it, while another thread imports it
    return getattr(known if hasattr(known, attribute) else importlib.import_module(module), attribute)


def _same(known: Any, value: Any) -> bool:
    """Whether two objects are one and the same definition, of a module that was imported twice."""
    where = [(getattr(v, "__module__", None), getattr(v, "__qualname__", None)) for v in (known, value)]
    return known is value or (where[0] == where[1] and where[0][1] is not None)
