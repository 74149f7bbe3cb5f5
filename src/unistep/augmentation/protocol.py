"""What synthetic items are worth: classifiers with them and without, at equal steps, with intervals.

The data is split before a generator is trained. For each number of real items: real, real with classical augmentation,
and that with synthetic items, of which there are several multiples of the real ones. No synthetic item is ever in the
part that classifiers are tested on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from unistep.augmentation.classes import ClassedData
from unistep.augmentation.classifier import ClassifierOptions, Pool, is_right, train_classifier
from unistep.augmentation.synthetic import Synthesis

REAL, CLASSICAL = "real", "classical"
"""Arms without synthetic items: the real ones, and with classical augmentation."""


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """What is compared."""

    multiples: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Synthetic items for each real one."""
    seeds: int = 5
    """Classifiers of each arm, which differ in first weights, order and changes; those of one seed are alike."""
    confidence: float = 0.95
    """Of the intervals; those of gains hold for all multiples at once."""
    classifier: ClassifierOptions = field(default_factory=ClassifierOptions)
    """How classifiers are trained."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        if not self.multiples or min(self.multiples) <= 0:
            raise ValueError(f"multiples must be numbers above 0, got {self.multiples}")
        if self.seeds < 2:
            raise ValueError(f"an interval needs at least 2 seeds, got {self.seeds}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be from 0.5 to below 1, got {self.confidence:g}")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A difference of two shares with the half width of its interval."""

    value: float
    """The difference."""
    margin: float
    """Half of the interval's width."""

    @property
    def low(self) -> float:
        """The lower end."""
        return self.value - self.margin

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + self.margin


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """The arms for one number of real items."""

    each: int
    """Real items of each class (the fewest, where classes differ)."""
    real: int
    """Real items in all."""
    test: int
    """Items that classifiers were tested on."""
    accuracy: Mapping[str, Gain]
    """Share of the test items that each arm classifies rightly; the synthetic ones are called ``+0.5x`` and so on."""
    per_class: Mapping[str, Mapping[str, float]]
    """The same for each class, by arm and class."""
    gains: Mapping[str, Gain]
    """Gain over ``baseline`` for each multiple, at a confidence that holds for all of them at once."""
    baseline: str
    """The better arm without synthetic items: classical augmentation may well harm small classifiers."""
    equivalent: float | None
    """How many real items in all would help as much as the best multiple; ``None`` where it does not help, or more real
    items do not."""

    @property
    def best(self) -> str:
        """The multiple with the largest gain."""
        return max(self.gains, key=lambda name: self.gains[name].value)

    @property
    def helps(self) -> bool:
        """Whether the interval of the best gain lies above zero."""
        return self.gains[self.best].low > 0

    @property
    def recommendation(self) -> str:
        """What to do, in one line."""
        best, gain = self.best, self.gains[self.best]
        over = "real items alone" if self.baseline == REAL else "classical augmentation"
        said = f"{100 * gain.value:+.2f} points over {over}, from {100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
        if self.helps:
            return f"yes: {best} synthetic items help ({said})"
        if all(other.high < 0 for other in self.gains.values()):
            return f"no: synthetic items harm at every multiple (best {best}: {said})"
        return f"no: the interval of the best multiple, {best}, includes zero ({said})"


def measure(
    real: ClassedData,
    test: ClassedData,
    synthetic: Synthesis,
    options: ProtocolOptions,
    callback: Callable[[float], object] = lambda share: None,
) -> Measurement:
    """Train and test the classifiers of every arm.

    Args:
        real: The real items that a generator, if it is to be compared fairly, was trained on.
        test: Items that neither it nor the classifiers saw.
        synthetic: Items of the same classes, at least as many as the largest multiple takes.
        options: What is compared.
        callback: Called with the share of the work that is done.
    """
    modality, classes = real.dataset.modality, len(real.names)
    pool, tested = pool_of(real), pool_of(test)
    made = {f"+{multiple:g}x": joined(pool, _taken(real, synthetic, multiple)) for multiple in options.multiples}
    total, done = (3 + len(made)) * options.seeds, 0

    def right(items: Pool, *, augment: bool) -> np.ndarray:
        """Which test items the classifiers of all seeds classify rightly, ``[seed, item]``."""
        nonlocal done
        found = []
        for seed in range(options.seeds):
            model = train_classifier(items, modality, classes, options.classifier, seed=seed, augment=augment)
            found.append(is_right(model, tested, options.classifier))
            done += 1
            callback(done / total)
        return torch.stack(found).double().numpy()

    found = {name: right(items, augment=name != REAL) for name, items in {REAL: pool, CLASSICAL: pool, **made}.items()}
    baseline = max((CLASSICAL, REAL), key=lambda name: found[name].mean())
    half = right(_half(real), augment=baseline != REAL)
    several = 1 - (1 - options.confidence) / len(options.multiples)  # Bonferroni: the best of several is chosen
    gains = {name: interval(found[name] - found[baseline], several) for name in made}
    best = max(gain.value for gain in gains.values())
    return Measurement(
        each=min(real.counts.values()),
        real=len(real),
        test=len(test),
        accuracy={name: interval(each, options.confidence) for name, each in found.items()},
        per_class={
            name: {test.names[one]: float(each[:, test.index == one].mean()) for one in test.present}
            for name, each in found.items()
        },
        gains=gains,
        baseline=baseline,
        equivalent=equivalent_items(best, float(found[baseline].mean() - half.mean()), len(real)),
    )


def interval(values: np.ndarray, confidence: float) -> Gain:
    r"""The mean of ``values[seed, item]`` with an interval for other seeds and other test items.

    .. math:: \text{margin} = t_{\text{seeds}-1}\sqrt{s^2_\text{seeds}/\text{seeds} + s^2_\text{items}/\text{items}}

    with the deviations of the means over items and over seeds. Each varies with the other, so the sum is on the safe
    side.

    Args:
        values: One value for each seed and test item.
        confidence: Of the interval, two-sided.
    """
    from scipy.stats import t as student

    seeds, items = values.shape
    variance = values.mean(1).var(ddof=1) / seeds + values.mean(0).var(ddof=1) / max(items, 1)
    quantile = float(student.ppf(0.5 + confidence / 2, seeds - 1))
    return Gain(value=float(values.mean()), margin=quantile * math.sqrt(variance))


def equivalent_items(gain: float, doubling: float, real: int) -> float | None:
    r"""How many more real items would give a gain, if each doubling of them gave what the last one did.

    .. math:: n\,(2^{g/d} - 1)

    Args:
        gain: Gain in accuracy.
        doubling: What the second half of the real items gave.
        real: Number of real items.
    """
    if gain <= 0 or doubling <= 0:
        return None
    return real * (2 ** min(gain / doubling, 10.0) - 1)


def pool_of(data: ClassedData) -> Pool:
    """All items of some data."""
    return Pool(x=data.signals(), label=torch.from_numpy(data.index))


def joined(one: Pool, other: Pool) -> Pool:
    """The items of two pools."""
    return Pool(x=torch.cat([one.x, other.x]), label=torch.cat([one.label, other.label]))


def needed(real: ClassedData, multiples: Sequence[float]) -> dict[int, int]:
    """Synthetic items of each class that the largest multiple takes; classes come out alike where they were not."""
    return {one: _each(real, max(multiples)) for one in real.present}


def _each(real: ClassedData, multiple: float) -> int:
    return max(1, round(multiple * len(real) / len(real.present)))


def _taken(real: ClassedData, synthetic: Synthesis, multiple: float) -> Pool:
    """As many of each class as a multiple takes; of a class with fewer, all."""
    rows = np.concatenate([np.flatnonzero(synthetic.index == one)[: _each(real, multiple)] for one in real.present])
    return Pool(x=synthetic.x[torch.from_numpy(rows)], label=torch.from_numpy(synthetic.index[rows]))


def _half(real: ClassedData) -> Pool:
    """Half of each class, at random: data may be in the order in which it was taken."""
    mixed = [np.random.default_rng((0, one)).permutation(real.rows(one)) for one in real.present]
    rows = [of_class[: max(1, len(of_class) // 2)] for of_class in mixed]
    return pool_of(real.only(np.sort(np.concatenate(rows))))
