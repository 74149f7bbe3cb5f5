"""Train a feature network without labels on any data: the network of ``--features vicreg``, with a name of its own.

    python benchmarks/train_view_features.py --data fashion-mnist --name fashion-vicreg --out DIR

``--features DIR`` of ``unistep evaluate`` then takes it. The networks that ship were made so.
"""

from __future__ import annotations

from pathlib import Path

from feature_training import command

from unistep.evaluation.learned_features import learn_views, write_card
from unistep.evaluation.progress import display, line
from unistep.evaluation.saved_features import save_features
from unistep.evaluation.vicreg import ViewRecipe

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
    recipe: ViewRecipe = DEFAULT_RECIPE,
) -> dict[str, object]:
    """Train on the training split of ``data``, find out what the figures are worth, and save the network.

    Args:
        data: A source of :mod:`unistep.data`.
        out: Directory to write.
        name: Name of the network.
        version: Its version.
        size: Side of images, in pixels; that of the data without.
        seconds: Length of sounds; that of the data without.
        recipe: How to build and train it.

    Returns:
        What was recorded: recipe, what its figures are worth, hardware, time.

    Raises:
        ValueError: If the data cannot be read.
    """
    from unistep.data import data_config, prepare

    options = {"size": size, "seconds": seconds}
    train = prepare(data_config(data, split="train", **{k: v for k, v in options.items() if v is not None}))
    with display(True, None) as bar, line(bar, name, recipe.steps(len(train)) * recipe.batch_size, "items") as advance:
        network, facts = learn_views(train, recipe, advance)
    shown = "".join(f" --{key} {value:g}" for key, value in options.items() if value is not None)
    made = f"Made with `python benchmarks/train_view_features.py --data {data}{shown} --name {name} --out DIR`."
    save_features(
        network, out, name=name, version=version, facts=facts, card=write_card(name, version, facts, command=made)
    )
    return facts


if __name__ == "__main__":
    command(train_view_features)
