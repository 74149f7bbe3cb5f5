"""Train a feature network without labels on any data: the network of ``--features vicreg``, with a name of its own.

    python benchmarks/train_view_features.py --data fashion-mnist --name fashion-vicreg --out DIR

``--features DIR`` of ``unistep evaluate`` then takes it. The networks that ship were made so.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from feature_training import command

from unistep.evaluation.learned_features import learn_views, write_card
from unistep.evaluation.progress import display, line
from unistep.evaluation.saved_features import Packed, pack, rounded_to_half, save_features
from unistep.evaluation.vicreg import ViewRecipe
from unistep.precision import Precision

DEFAULT_RECIPE = ViewRecipe(most=2000)
"""That of the shipped networks: longer than what users wait for."""


def train_view_features(
    data: str = "fashion-mnist",
    out: Path = Path("features"),
    *,
    name: str = "fashion-vicreg",
    version: str = "1",
    size: int | None = None,
    seconds: float | None = None,
    frames: int | None = None,
    fps: float | None = None,
    bits: int | None = None,
    precision: Precision = "fp32",
    recipe: ViewRecipe = DEFAULT_RECIPE,
) -> dict[str, object]:
    """Train on the training split of ``data``, find out what the figures are worth, and save the network.

    Args:
        data: A source of :mod:`unistep.data`.
        out: Directory to write.
        name: Name of the network.
        version: Its version.
        size: Side of images and videos, in pixels; that of the data without.
        seconds: Length of sounds; that of the data without.
        frames: Length of clips; that of the data without.
        fps: Frames per second of clips; that of the data without.
        bits: Mean number of bits that a weight is stored in, 4 to 8; half precision without.
        precision: Arithmetic of the convolutions: fp32, or bf16 where a processor has units for it.
        recipe: How to build and train it.

    Returns:
        What was recorded: recipe, what its figures are worth, hardware, time.

    Raises:
        ValueError: If the data cannot be read.
    """
    from unistep.data import data_config, prepare

    options = {"size": size, "seconds": seconds, "frames": frames, "fps": fps}
    packed: list[Packed] = []
    train = prepare(data_config(data, split="train", **{k: v for k, v in options.items() if v is not None}))
    with display(True, None) as bar, line(bar, name, recipe.steps(len(train)) * recipe.batch_size, "items") as advance:
        store = rounded_to_half if bits is None else lambda network: packed.append(pack(network, bits))
        network, facts = learn_views(train, recipe, advance, precision=precision, store=store)
    shown = "".join(f" --{key} {value:g}" for key, value in (options | {"bits": bits}).items() if value is not None)
    shown += "" if precision == "fp32" else f" --precision {precision}"
    shown += "".join(f" --recipe.{key} {value}" for key, value in _changed(recipe).items())
    made = f"Made with `python benchmarks/train_view_features.py --data {data}{shown} --name {name} --out DIR`."
    card = write_card(name, version, facts, command=made)
    save_features(
        network, out, name=name, version=version, facts=facts, card=card, packed=packed[0] if packed else None
    )
    return facts


def _changed(recipe: ViewRecipe) -> dict[str, str]:
    """What a recipe has other than the default one, as a person types it."""
    usual = asdict(DEFAULT_RECIPE)
    found = {key: value for key, value in asdict(recipe).items() if value != usual[key]}
    return {
        key.replace("_", "-"): " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in found.items()
    }


if __name__ == "__main__":
    command(train_view_features)
