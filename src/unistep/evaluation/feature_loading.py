"""Feature networks by name: those that ship, those on disk, and those of other packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unistep import registry
from unistep.evaluation.detail_features import DetailFeatures
from unistep.evaluation.feature_nets import PixelFeatures
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.fixed_features import RandomConvolutions, ScaleFeatures
from unistep.evaluation.learned_features import LearnedLoader
from unistep.evaluation.note_features import SpectrumFeatures
from unistep.evaluation.reference import Examples, Progress
from unistep.evaluation.saved_features import load_saved
from unistep.evaluation.text_image import load_text_image
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.spelling import closest

if TYPE_CHECKING:
    from unistep.modalities.base import Modality

FeatureLoader = Callable[[str, "Modality"], FeatureNetwork]
"""``loader(rest, modality)``: the network for signals of a modality; ``rest`` is what follows the name and a colon."""

_SHIPPED = Path(__file__).parent.parent / "zoo" / "features"


def load_features(
    spec: str | FeatureNetwork = "fashion",
    modality: Modality | None = None,
    *,
    data: Examples | None = None,
    progress: Progress | None = None,
) -> FeatureNetwork:
    """A feature network by name.

    Args:
        spec: A network, which is returned as it is, or one of

            - ``fashion``: the shipped network for 28x28 grey images;
            - ``notes``: the shipped network for notes of one second at 16 kHz;
            - ``fashion-vicreg``, ``notes-vicreg``: shipped networks of the same data that learned without labels;
            - ``moving-fashion``, ``moving-fashion-vicreg``: networks over time and space for its clips, with and
              without labels;
            - ``emoji-text``, ``emoji-vicreg``: shipped networks for emoji of 64 pixels, with and without texts;
            - ``vicreg``: the same for any data, learned from ``data`` in some minutes and kept in the cache;
            - ``pixels``: the values of a signal on 64 fixed random directions;
            - ``scales``: its means over grids of several scales on such directions;
            - ``details``: how strong its details of several sizes are, with places;
            - ``random-convolutions`` or ``random-convolutions:SEED``: three layers of random filters, with places;
            - ``denoiser:MODEL``: the maps inside of a model of such signals, best of a teacher;
            - ``spectrum``: levels of the frequency bands of a sound on 64 fixed random directions;
            - ``inception:FILE``: InceptionV3 with weights that you supply, either StyleGAN's TorchScript file or the
              weights of torch-fidelity (which must then be installed);
            - ``dinov2:FILE``: DINOv2 with weights that you supply, as ``transformers`` or ``timm`` have them;
            - ``torchscript:FILE``: a scripted network from signals in [-1, 1] to features;
            - ``module:PACKAGE.MODULE:CALLABLE``: a callable without arguments that returns such a network or function;
            - a directory with ``config.json`` and ``model.safetensors``, as ``benchmarks/train_image_features.py``
              writes it;
            - a name that a plugin registered as ``features``.
        modality: What the signals are; those of ``data``, or 28x28 grey images without.
        data: The real items, for a network that learns from them.
        progress: Called with the number of items that one has just gone through.

    Raises:
        ValueError: If there is no such network or it cannot be read; says what there is.
    """
    if isinstance(spec, FeatureNetwork):
        return spec
    if modality is None:
        modality = ImageModality(size=28, channels=1) if data is None else data.modality
    name, _, rest = spec.partition(":")
    if name in registry.names("features"):
        loader = registry.lookup("features", name)
        if not isinstance(loader, LearnedLoader):
            return loader(rest, modality)
        if data is None:
            raise ValueError(
                f"features {name!r} learn from data, and none was given; give data=, or choose 'random-convolutions'"
            )
        return loader.learn(rest, data, progress)
    check_features(spec)
    return load_saved(Path(spec).expanduser())


def check_features(spec: str) -> None:
    """Find out by its name whether there is a feature network, before data is looked at.

    Args:
        spec: As :func:`load_features` takes it.

    Raises:
        ValueError: If it is neither a known name nor a directory; says what there is.
    """
    known = registry.names("features")
    if spec.partition(":")[0] in known:
        return
    try:
        is_folder = bool(spec) and Path(spec).expanduser().is_dir()
    except (OSError, ValueError):  # no name that a folder could have
        is_folder = False
    if is_folder:
        return
    near = closest(spec.partition(":")[0], known)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"no feature network {spec[:200]!r}; give one of {', '.join(known)}, or a directory{hint}")


def shipped_fashion(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for 28x28 grey images."""
    del rest, modality
    return load_saved(_SHIPPED / "fashion-v1")


def shipped_fashion_vicreg(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for 28x28 grey images that learned without labels."""
    del rest, modality
    return load_saved(_SHIPPED / "fashion-vicreg-v1")


def shipped_notes_vicreg(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for notes that learned without labels."""
    del rest, modality
    return load_saved(_SHIPPED / "notes-vicreg-v1")


def shipped_moving_fashion(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for clips of moving-fashion, which says what moves and how."""
    del rest, modality
    return load_saved(_SHIPPED / "moving-fashion-v1")


def shipped_moving_fashion_vicreg(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for clips of moving-fashion that learned without labels."""
    del rest, modality
    return load_saved(_SHIPPED / "moving-fashion-vicreg-v1")


def shipped_emoji_text(rest: str, modality: Modality) -> FeatureNetwork:
    """What the shipped text-image network makes of 64-pixel images in colour."""
    del rest, modality
    network = load_text_image("emoji-text")
    return FeatureNetwork(network, name="emoji-text", version="1", shape=network.shape)


def shipped_emoji_vicreg(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for 64-pixel emoji that learned without labels."""
    del rest, modality
    return load_saved(_SHIPPED / "emoji-vicreg-v1")


def shipped_notes(rest: str, modality: Modality) -> FeatureNetwork:
    """The shipped network for notes of one second at 16 kHz."""
    del rest, modality
    return load_saved(_SHIPPED / "notes-v1")


def pixels(rest: str, modality: Modality) -> FeatureNetwork:
    """The values of a signal on fixed random directions."""
    del rest
    return FeatureNetwork(PixelFeatures(modality.shape), name="pixels", version="1", shape=modality.shape)


def scales(rest: str, modality: Modality) -> FeatureNetwork:
    """Means of a signal over grids of several scales, on fixed random directions."""
    del rest
    network = ScaleFeatures(modality.shape)
    return FeatureNetwork(network, name="scales", version="1", shape=modality.shape)


def details(rest: str, modality: Modality) -> FeatureNetwork:
    """Strengths of a signal's details of several sizes, with places, on fixed random directions."""
    del rest
    network = DetailFeatures(modality.feature_map(), modality.shape)
    return FeatureNetwork(network, name="details", version="1", shape=modality.shape)


def random_convolutions(rest: str, modality: Modality) -> FeatureNetwork:
    """Random convolutions of a signal; what follows the colon is the seed of the filters.

    Raises:
        ValueError: If that is no seed.
    """
    if rest and not rest.isdecimal():
        raise ValueError(f"random-convolutions:SEED takes a whole number, got {rest!r}")
    name = f"random-convolutions:{int(rest)}" if rest else "random-convolutions"
    network = RandomConvolutions(modality.feature_map(), modality.shape, seed=int(rest or 0))
    # Over time and space since version 3; over two axes they are still those of version 2.
    return FeatureNetwork(network, name=name, version="2" if network.axes == 2 else "3", shape=modality.shape)


def spectrum(rest: str, modality: Modality) -> FeatureNetwork:
    """Levels of frequency bands on fixed random directions.

    Raises:
        ValueError: If the signals are not audio.
    """
    del rest
    rate = AudioModality.expect(modality, "features 'spectrum'").sample_rate
    shape = modality.shape
    return FeatureNetwork(SpectrumFeatures(shape, rate), name="spectrum", version="1", shape=shape)
