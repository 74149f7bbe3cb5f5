"""Every kind of signal names feature networks by role: what selects does not report, and at least two report."""

from __future__ import annotations

import pytest

from unistep import registry
from unistep.evaluation.roles import feature_roles, selection_features
from unistep.modalities.audio import AudioModality
from unistep.modalities.base import Modality
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality

MODALITIES = sorted(registry.names("modality"))
SOURCES = sorted(registry.names("source"))


def check(roles: FeatureRoles) -> None:
    named = [*roles.training, roles.selection, *roles.reporting]
    assert len(set(named)) == len(named)
    assert len(roles.reporting) >= 2
    assert roles.evaluation == (*roles.reporting, roles.selection)
    assert {name.partition(":")[0] for name in named} <= set(registry.names("features"))


@pytest.mark.parametrize("name", MODALITIES)
def test_a_kind_of_signal_has_networks_for_each_role(name: str) -> None:
    kind: type[Modality] = registry.lookup("modality", name)
    modality = kind.usual() if name != "tensor" else kind(shape=(2, 12))  # type: ignore[call-arg]
    check(modality.feature_roles())


@pytest.mark.parametrize(
    "modality",
    [
        ImageModality(size=28, channels=1),
        ImageModality(size=9, channels=3),
        AudioModality(),
        VideoModality(size=32, channels=1, frames=16),
        VideoModality(size=64, channels=3, frames=9),
    ],
)
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_networks_for_each_role(name: str, modality: Modality) -> None:
    check(registry.lookup("source", name).feature_roles(modality))


def test_the_networks_of_a_source_come_before_those_of_its_kind_of_signal() -> None:
    class Data:
        source, fingerprint, modality = "fashion-mnist:test", "f" * 64, ImageModality(size=28, channels=1)

        def __len__(self) -> int:
            return 0

        def batch(self, indices):
            raise AssertionError

    roles = feature_roles(Data())
    assert roles.selection == "fashion"
    assert "fashion" not in roles.reporting
    assert selection_features(Data()).name == "fashion"

    class Other(Data):
        source, modality = "folder:pictures", ImageModality(size=9, channels=3)

    assert selection_features(Other()).name == Other.modality.feature_roles().selection == "random-convolutions:1"

    class Unknown(Other):
        source = "a name of no source"

    assert feature_roles(Unknown()) == Other.modality.feature_roles()


@pytest.mark.parametrize(
    ("selection", "reporting", "message"),
    [
        ("a", ("a", "b"), "'a' select, so they have no other role"),
        ("a", ("b",), "at least two different feature networks, got b"),
        ("a", ("b", "b"), "at least two different"),
        ("a", ("b", "scales"), "'scales' train, so they have no other role"),
        ("scales", ("b", "c"), "'scales' select, so they have no other role"),
    ],
)
def test_roles_that_are_not_honest_are_refused(selection: str, reporting: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureRoles(selection=selection, reporting=reporting)
