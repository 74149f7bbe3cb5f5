"""What data to train on or compare with, and how its files become signals of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unistep import registry
from unistep.modalities.signal_options import SignalOptions, check_text, check_whole
from unistep.spelling import closest, nearest

if TYPE_CHECKING:
    from unistep.modalities.base import Modality


_FORMER_MODALITIES = {"picture": "image", "sound": "audio"}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A source of signals and the rules that bring them to one shape.

    :func:`data_config` makes one from plain keywords, such as ``data_config("folder:photos", size=64)``.
    """

    source: str = "fashion-mnist"
    """``fashion-mnist[:SPLIT]``, ``folder:PATH``, ``npz:FILE`` or ``hf:NAME[:SPLIT]``; for sounds ``folder:PATH``,
    ``notes[:SPLIT]``, ``phrases[:SPLIT]``, ``drums`` or ``spoken-digits``; for videos ``folder:PATH`` or
    ``moving-fashion[:SPLIT]``, ``racing[:DRIVER][:SPLIT]`` or ``doom[:SCENARIO][:PLAYER][:SPLIT]``."""
    modality: str | None = None
    """What to take from a folder, such as image, audio or video; by default the one that has most of its files."""
    split: str = "train"
    """Part of a source that has parts: ``train`` or ``test`` for Fashion-MNIST; a part named in the source wins."""
    max_bad: float = 0.2
    """Largest share of unusable files, in [0, 1]; with more of them preparing stops with an error."""
    limit: int | None = None
    """Use at most so many items, spread evenly over the source."""
    augment: tuple[str, ...] = ()
    """Random changes of each item in training, of those that its modality has: for images flip, crop and edm.
    How edm changed an image (flips, scalings, rotations, translations, with a probability such as edm:0.12) is given to
    the network, so that samples do not show it."""
    captions: bool = True
    """Whether texts that a folder has for its files are a condition of the model."""
    balance: float = 0.0
    """How evenly training draws kinds of items, which are classes, or variants of one motif where a source knows them:
    0 takes each item equally often, 1 each kind."""
    options: SignalOptions | None = None
    """How files become signals; by default as the modality does it."""

    def __post_init__(self) -> None:
        """Check every field but the source, which is checked when it is opened.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        check_text({"source": "folder:PATH", "split": "train"}, source=self.source, split=self.split)
        check_whole(limit=self.limit)
        if not isinstance(self.max_bad, int | float) or isinstance(self.max_bad, bool):
            raise ValueError(f"max_bad must be a number, got {self.max_bad!r}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad is a share of the files, from 0 to 1, got {self.max_bad}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 item, got {self.limit}")
        if isinstance(self.balance, bool) or not isinstance(self.balance, int | float) or not 0 <= self.balance <= 1:
            raise ValueError(
                f"balance must be a number from 0 (each item equally often) to 1 (each kind), got {self.balance!r}"
            )
        if self.modality is not None and self.modality not in registry.names("modality"):
            known = nearest(str(self.modality), registry.names("modality"))
            raise ValueError(f"unknown modality {self.modality!r}; {known}")
        if not isinstance(self.augment, tuple) or not all(isinstance(name, str) for name in self.augment):
            raise ValueError(f"augment must be a tuple of names such as ('flip',), got {self.augment!r}")
        if self.options is not None and not isinstance(self.options, SignalOptions):
            raise ValueError(f"options must be such as ImageOptions(size=64), got {self.options!r}")

    @property
    def prefix(self) -> str:
        """The word before the colon: which source it is."""
        return self.source.partition(":")[0]

    def options_for(self, modality: str) -> Any:
        """The options for items of a modality.

        Args:
            modality: Its name.

        Raises:
            ValueError: If options of another modality are set, or a value is not one of this modality's.
        """
        wanted = _options(modality)
        if self.options is None or type(self.options) is wanted:
            return self.options or wanted()
        given, known = self.options.given, wanted.names()
        foreign = next((name for name in given if name not in known), None)
        if foreign is not None:
            raise ValueError(_foreign(foreign, modality))
        return wanted(**given)

    @classmethod
    def migrated(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Plain data in the layout of today, where an earlier version wrote it with the options beside the source."""
        if "kind" not in data and "options" in data:
            return data
        own = ("source", "modality", "split", "max_bad", "limit", "augment", "captions", "balance", "options")
        plain = {key: value for key, value in data.items() if key in own}
        kind = data.get("kind")
        if kind is not None:
            plain["modality"] = _FORMER_MODALITIES.get(kind, kind)
        flat = {key: value for key, value in data.items() if key not in (*own, "kind")}
        name = plain.get("modality") or _modality_of(str(data.get("source", cls.source))) or "image"
        known = {option for other in registry.names("modality") for option in _options(other).names()}
        unknown = {key: value for key, value in flat.items() if key not in known}  # which is refused by its name
        options = {key: value for key, value in flat.items() if key in _options(name).names()}
        given = _options(name)(**options).given
        return {**plain, **unknown, **({"options": {"type": name, **given}} if given else {})}


def data_config(
    source: str = "fashion-mnist",
    *,
    modality: str | None = None,
    split: str = "train",
    max_bad: float = 0.2,
    limit: int | None = None,
    augment: tuple[str, ...] = (),
    captions: bool = True,
    balance: float = 0.0,
    **options: Any,
) -> DataConfig:
    """A :class:`DataConfig` from plain keywords: each option goes to the modality that has it.

    Args:
        source: Where the items come from.
        modality: What to take from a folder.
        split: Part of the source.
        max_bad: Largest share of unusable files.
        limit: Most items.
        augment: Random changes in training.
        captions: Whether texts of a folder's files are a condition.
        balance: How evenly training draws kinds of items, from 0 to 1.
        **options: Options of one modality, such as ``size=64`` of images or ``seconds=2.0`` of sounds.

    Raises:
        ValueError: If an option is unknown, belongs to another modality than the source's, or has a wrong value.
    """
    name = modality if modality is not None else _modality_of(str(source))
    config = DataConfig(
        source=source,
        modality=modality,
        split=split,
        max_bad=max_bad,
        limit=limit,
        augment=augment,
        captions=captions,
        balance=balance,
    )
    if not options:
        return config
    return DataConfig(**{**vars(config), "options": _sorted(options, name)})


def _sorted(options: Mapping[str, Any], modality: str | None) -> SignalOptions:
    """The options as an instance of the class that has all of them."""
    by_name = {name: _options(name) for name in registry.names("modality")}
    owners = {key: [name for name, kind in by_name.items() if key in kind.names()] for key in options}
    for key, found in owners.items():
        if not found:
            every = sorted({option for kind in by_name.values() for option in kind.names()})
            raise ValueError(f"unknown option --data.{key}; {nearest(key, every)}")
        if modality is not None and modality not in found:
            raise ValueError(_foreign(key, modality))
    candidates = [modality] if modality is not None else [m for m in by_name if all(m in o for o in owners.values())]
    if not candidates:
        first, *others = sorted(owners, key=lambda key: len(owners[key]))
        other = next(key for key in others if not set(owners[key]) & set(owners[first]))
        raise ValueError(
            f"--data.{first} is an option of {' or '.join(owners[first])} and --data.{other} of "
            f"{' or '.join(owners[other])}; "
            "give those of one"
        )
    problems = []
    for name in candidates:  # what two modalities share is one's until the files tell; see DataConfig.options_for
        try:
            return by_name[name](**options)
        except ValueError as error:
            problems.append(error)
    raise problems[0]


def _options(modality: str) -> type[SignalOptions]:
    """The class of a modality's options."""
    kind: type[Modality] = registry.lookup("modality", modality)
    return kind.options


def _modality_of(source: str) -> str | None:
    """The modality of everything that a source has; ``None`` where its files tell, or it is unknown."""
    prefix = source.partition(":")[0]
    return registry.lookup("source", prefix).modality if prefix in registry.names("source") else None


def _foreign(option: str, modality: str) -> str:
    """A line that says whose option it is, and which ones there are."""
    taken = _options(modality).names()
    owners = [name for name in registry.names("modality") if option in _options(name).names()]
    whose = f"--data.{option} is an option of {' and '.join(owners)}"
    near = closest(option, taken)
    hint = f"; did you mean --data.{near}?" if near else ""
    noun = registry.lookup("modality", modality).noun
    return f"{whose}; {noun}s take {', '.join(taken)}{hint}"
