"""What every network's configuration can do: the contract between a network and the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

TimeProblem = Literal["steep time embedding", "unbounded time derivative"]
"""What can make methods that differentiate a network in time diverge."""


class NetworkConfig(ABC):
    """Shape of a network: a frozen dataclass, registered as a ``network``, that lies beside the weights.

    What it builds is called as ``forward(x, t, s, condition) -> like x`` with ``x`` of shape ``[b, *shape]`` and unit
    variance, ``t`` and ``s`` the noise levels as :func:`~unistep.core.flowmap.c_noise` gives them (``[b]``, or
    broadcasting against ``x``, such as ``[b, 1, frames, 1, 1]``), and ``condition`` a mapping of names to typed values;
    one that is left out is the null condition. It must run under :func:`torch.func.jvp`, ``torch.compile`` and export,
    and its output should start at zero.

    The module may have more:

    - ``config``, this configuration, so that a generator made of the module can be saved;
    - ``boundary_layers``, names of the submodules (embeddings, input and output projections) that optimizers for hidden
      matrices leave alone;
    - a method ``embed_time(c_noise) -> [b, features]``, whose slope is checked before a run that differentiates the
      network in time;
    - ``stages() -> list of modules`` whose outputs are features of the signal, in the order in which they run, and
      ``stage_map(output, batch_size) -> [b, channels, *places]``, for objectives and evaluations that compare features.
    """

    REGISTRY_KIND: ClassVar[str] = "network"

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, with fresh weights from the global random state."""

    @abstractmethod
    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> Self:
        """The same network for signals of ``shape`` ``(channels, *spatial)`` and the conditions ``fields``.

        Args:
            shape: What the codec makes of one item.
            fields: Condition fields by name: :class:`~unistep.core.condition.LabelField`, ``ScalarField``,
                ``VectorField``, ``TokensField`` or ``SignalField``; each has ``kind``, ``"label"``, ``"scalar"``,
                ``"vector"``, ``"tokens"`` or ``"signal"``.

        Raises:
            ValueError: If the network cannot take them; says which size fits.
        """

    def takes(self, name: str, field: Any) -> bool:
        """Whether the network, as it is, takes the values of a condition field; where it cannot tell, it may.

        Args:
            name: Name of the field.
            field: The field, as for :meth:`fitted`.
        """
        del name, field
        return True

    @property
    def described(self) -> str:
        """The network in one line, for tables."""
        return type(self).__name__

    @property
    def dims(self) -> int | None:
        """Spatial dimensions of the signals that it takes; ``None`` for any number."""
        return None

    @property
    def multiple(self) -> int:
        """Spatial sizes must be multiples of this number."""
        return 1

    @property
    def multiples(self) -> tuple[int, ...]:
        """What each spatial size must be a multiple of; one number stands for all."""
        return (self.multiple,)

    @property
    def previous_frames(self) -> int | None:
        """Number of frames of the past that it is shown along the last axis; ``None`` for any number."""
        return None

    @property
    def takes_second_time(self) -> bool:
        """Whether its network uses the time ``s`` that a flow map jumps to."""
        return True

    def with_second_time(self, second_time: bool) -> Self:
        """The same network with or without the second time, where it can have one."""
        del second_time
        return self

    def advice(self, problem: TimeProblem) -> str | None:
        """What to change in this network against a problem, as options; ``None`` if it does not have the problem."""
        return "take a network that is smooth in time" if problem == "steep time embedding" else None

    def differences(self, theirs: NetworkConfig) -> list[str]:
        """What keeps weights of a network ``theirs`` from starting this one, as ``key theirs instead of ours``.

        A network that starts from smaller or older weights (of fewer conditions, say) leaves out what it can bridge.
        """
        if type(theirs) is not type(self):
            return [f"type {type(theirs).__name__} instead of {type(self).__name__}"]
        ours, known = vars(self), vars(theirs)
        return [f"{key} {known[key]} instead of {ours[key]}" for key in ours if ours[key] != known[key]]

    def keeping(self, theirs: NetworkConfig, besides: Collection[str] = ()) -> Self:
        """This network with the conditions that ``theirs`` has beside its own, for weights that it begins with.

        They are never given then: the network behaves as ``theirs`` does without them.

        Args:
            theirs: A network.
            besides: Names of conditions that are not kept.
        """
        del theirs, besides
        return self

    def renumbered(self, theirs: NetworkConfig) -> NetworkConfig:
        """``theirs`` with as many classes as this one, where weights may start a network of other classes.

        :meth:`start_from` begins each new class at what ``theirs`` has learned for no class.
        """
        return theirs

    def start_from(self, net: nn.Module, weights: Mapping[str, Tensor], theirs: NetworkConfig) -> None:
        """Load the weights of a network ``theirs`` into ``net``, whose :meth:`differences` are none.

        What ``theirs`` does not know must begin without effect.
        """
        del theirs
        net.load_state_dict(dict(weights))
