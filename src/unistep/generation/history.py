"""How a streaming model is conditioned on the past: on the last frames of it, under a little noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import CONTEXT, Condition, Signal, Value
from unistep.core.seeding import Randomness, randn_like, uniform


@dataclass(frozen=True, kw_only=True)
class Context:
    r"""How the model of the next chunk is conditioned on what came before.

    With :math:`c` the last frames over the data's standard deviation, the network sees

    .. math:: \frac{c + \lambda z}{\sqrt{1 + \lambda^2}}, \quad z \sim N(0, I), \quad
              \lambda \sim U(0, \lambda_{\max}) \text{ in training,} \quad \lambda = \lambda_0 \text{ in a stream}

    and :math:`\lambda` as a condition. The context of a stream is the model's own output, with errors that no recording
    has; under noise the two look alike, so that errors do not accumulate and the stream does not drift.

    References:
        Valevski et al. 2024, "GameNGen", arXiv 2408.14837, section 3.2.1, for noise of a random level that is a
        condition; Chen et al. 2024, "Diffusion Forcing", arXiv 2407.01392, for a little of it in a stream.
    """

    frames: int = 16
    """Frames of the past that are the context."""
    noise: float = 0.6
    r""":math:`\lambda_{\max}`, the largest level of noise in training, as a share of the data's deviation."""
    level: float = 0.1
    r""":math:`\lambda_0`, the level in a stream."""
    missing: float = 0.1
    """Share of the examples that are trained without a context, as when a stream begins."""
    rollout: int = 0
    """Most frames before the next one that are the model's own in training, each made from those before it, in place of
    the data's; how many is drawn for each item, from 0. A signal must hold as many frames more."""
    changing: tuple[str, ...] = ("pitch",)
    """Conditions that a stream draws anew for each chunk where they are not given; the others it draws once."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.frames < 1:
            raise ValueError(f"frames of the context must be at least 1, got {self.frames}")
        if not 0 <= self.level <= self.noise < math.inf:
            raise ValueError(f"the context's level must be from 0 to its noise, got {self.level} and {self.noise}")
        if self.rollout < 0:
            raise ValueError(f"rollout is a number of frames, 0 for none, got {self.rollout}")
        if not 0 <= self.missing < 1:
            raise ValueError(f"missing is a share of the examples, from 0 to below 1, got {self.missing}")

    def in_training(
        self,
        condition: Condition,
        past: Float[Tensor, "b *shape"],
        sigma_data: float,
        generator: Randomness,
        *,
        as_in_streams: bool = False,
    ) -> dict[str, Value]:
        """The condition with the context under noise of random levels, or missing.

        Args:
            condition: Conditions of the batch.
            past: The last frames, as the codec's ``recent`` gives them.
            sigma_data: Standard deviation of the data.
            generator: Source of randomness.
            as_in_streams: Whether the noise has the level of a stream instead.
        """
        level = self.noise * uniform(len(past), generator).to(past)
        if as_in_streams:
            level = past.new_full((len(past),), self.level)
        missing = uniform(len(past), generator).to(past) < self.missing
        shown = self._shown(past, level, sigma_data, generator)
        return {**condition, CONTEXT: shown.where(~missing, shown.null())}

    def in_stream(
        self, condition: Condition, past: Float[Tensor, "b *shape"], sigma_data: float, generator: Randomness
    ) -> dict[str, Value]:
        """The condition with the context under the noise of a stream.

        Args:
            condition: Conditions of the batch.
            past: The last frames, as the codec's ``recent`` gives them.
            sigma_data: Standard deviation of the data.
            generator: Source of randomness.
        """
        level = past.new_full((len(past),), self.level)
        return {**condition, CONTEXT: self._shown(past, level, sigma_data, generator)}

    def past_shown(self, shown: Signal, sigma_data: float) -> Float[Tensor, "b *shape"]:
        """The last frames that a context shows, with the noise that is on them; zeros where it shows none.

        Args:
            shown: A context that one of the other methods made.
            sigma_data: Standard deviation of the data.
        """
        # A null context has NaN for its level by definition, and zeros for its signal: this hides no error.
        level = shown.level.nan_to_num().view(-1, *[1] * (shown.signal.ndim - 1))
        return shown.signal * (1 + level.square()).sqrt() * sigma_data

    def at_start(self, condition: Condition, like: Float[Tensor, "b *shape"]) -> dict[str, Value]:
        """The condition without a past; ``like`` is a batch of contexts, for the shape."""
        return {**condition, CONTEXT: Signal.clean(like).null()}

    def under(
        self,
        noise: Float[Tensor, "b *shape"],
        past: Float[Tensor, "b *shape"],
        sigma_data: float,
        level: Float[Tensor, " b"] | None = None,
    ) -> Signal:
        """The context under noise that is given.

        Args:
            noise: Standard normal noise.
            past: The last frames, as the codec's ``recent`` gives them.
            sigma_data: Standard deviation of the data.
            level: Levels of the noise; that of a stream without.
        """
        level = past.new_full(past.shape[:1], self.level) if level is None else level
        wide = level.view(-1, *[1] * (past.ndim - 1))
        return Signal((past / sigma_data + wide * noise) / (1 + wide.square()).sqrt(), level)

    def _shown(self, past: Tensor, level: Tensor, sigma_data: float, generator: Randomness) -> Signal:
        """The context at levels ``[b]``."""
        return self.under(randn_like(past, generator), past, sigma_data, level)
