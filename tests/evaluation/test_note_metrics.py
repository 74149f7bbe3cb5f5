"""Notes are measured by a classifier, a pitch tracker and their distance to matched references."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_note_features as training
from torch import Tensor

import unistep.zoo
from synth import install_synth
from unistep.core.condition import AnyField, LabelField
from unistep.data import DataConfig, Dataset, data_config, prepare
from unistep.data.sources import notes
from unistep.evaluation import Report, Setting, evaluate, load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.note_metrics import NoteMetrics, log_spectral_distance
from unistep.evaluation.reference import signals
from unistep.evaluation.saved_features import rounded_to_half
from unistep.modalities.audio import AudioModality
from unistep.modalities.audio_levels import BandLevels, bands
from unistep.modalities.image import ImageModality


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def excerpt() -> Dataset:
    return prepare(DataConfig(source="notes:excerpt"), progress=False)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, Dataset]:
    """Sines of two instruments and six pitches: training and test notes."""
    install_synth(tmp_path, monkeypatch)
    monkeypatch.setattr(notes, "PROGRAMS", {"left": 0, "right": 127})
    monkeypatch.setattr(notes, "HIGHEST", 53)
    monkeypatch.setattr(notes, "FIELDS", {**notes.FIELDS, "instrument": LabelField(size=2, names=("left", "right"))})
    monkeypatch.setattr(notes, "VELOCITIES", {"train": (60, 90, 110), "test": (80,)})
    train, test = (prepare(data_config(f"notes:{part}", seconds=0.5), progress=False) for part in notes.HELD)
    return train, test


def with_fields(data: Dataset, **fields: AnyField) -> Dataset:
    """The same notes with other condition fields."""
    stored, condition = data.batch(range(len(data)))
    known = {name: condition[name] for name in fields}
    return Dataset.from_tensors(stored, modality=data.modality, fields=fields, **known)


@pytest.fixture
def shipped() -> FeatureNetwork:
    return load_features("notes", AudioModality())


def test_the_shipped_network_is_what_its_card_says(shipped: FeatureNetwork, excerpt: Dataset) -> None:
    folder = Path(unistep.zoo.__path__[0]).parent / "zoo" / "features" / "notes-v1"
    config = json.loads((folder / "config.json").read_text())
    assert isinstance(shipped.network, NoteFeatures)
    assert (shipped.label.name, shipped.label.version, shipped.dim) == ("notes", "1", 64)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert config["instrument_accuracy"] > 0.99
    assert config["pitch_accuracy"] > 0.99
    assert f"{config['pitch_accuracy']:.2%}" in (folder / "README.md").read_text()
    assert shipped.network.instruments == tuple(notes.PROGRAMS)
    assert training.accuracies(shipped.network, excerpt) == (1.0, 1.0)


def test_its_features_tell_pitch_and_instrument_apart_and_do_not_depend_on_the_batch(
    shipped: FeatureNetwork, excerpt: Dataset
) -> None:
    found = shipped(signals(excerpt, range(len(excerpt))))
    assert torch.allclose(shipped(signals(excerpt, [3])), found[3:4], atol=1e-4)
    apart = torch.cdist(found, found)
    assert apart[~torch.eye(len(found), dtype=torch.bool)].min() > 1


def test_sounds_of_another_length_are_refused(shipped: FeatureNetwork) -> None:
    with pytest.raises(ValueError, match=r"take signals of shape 1x16000, got 1x8000; choose 'pixels', 'spectrum'"):
        shipped(torch.zeros(1, 1, 8_000))


@pytest.mark.parametrize("pitch", [48, 60, 72, 84])
def test_a_sine_is_in_the_band_of_its_pitch(pitch: int) -> None:
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    x = torch.sin(2 * torch.pi * frequency * torch.arange(16_000) / 16_000)[None, None]
    levels = BandLevels(16_000)(x)[0, 0, :, 15]
    centre = 98 * 2 ** (int(levels.argmax()) / 24)
    assert abs(1200 * np.log2(centre / frequency)) < 50
    assert levels.max() == pytest.approx(1, abs=0.1)
    assert levels.min() >= 0
    assert BandLevels(16_000)(x / 10)[0, 0, :, 15].max() == pytest.approx(float(levels.max()) - 0.25, abs=1e-3)


def test_every_band_has_a_bin() -> None:
    for rate in (8_000, 16_000, 44_100):
        assert (bands(rate, 2 * round(0.064 * rate)).sum(dim=1) > 0.2).all()


def test_spectrum_features_serve_any_sounds() -> None:
    network = load_features("spectrum", AudioModality(sample_rate=22_050, samples=5_000, channels=2))
    assert network(torch.randn(3, 2, 5_000).clamp(-1, 1)).shape == (3, network.dim)
    assert network.dim <= 64
    with pytest.raises(ValueError, match="'spectrum' need sounds, and these are images"):
        load_features("spectrum", ImageModality(size=8, channels=1))


def test_the_log_spectral_distance_of_a_change_of_level_is_that_change() -> None:
    x = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 4
    assert torch.allclose(log_spectral_distance(x, x / 2, 16_000), torch.full((2,), 6.02), atol=0.02)
    assert log_spectral_distance(x, x, 16_000).max() == 0
    silent = torch.zeros(1, 8_000)
    assert log_spectral_distance(silent, silent + 1e-6, 16_000).max() == 0  # both are below the floor


@dataclass
class Player:
    """A "model" that plays held-out notes of the conditions that it is given, a share of them a semitone off."""

    data: Dataset
    wrong: float = 0.0
    name: str = "player"
    kind: str = "consistency"
    guidance: float | None = None
    given: list[dict[str, Any]] = field(default_factory=list)

    def sample(self, num: int = 1, *, steps=None, seed=0, solver=None, batch_size=64, **condition: Any) -> Tensor:
        self.given.append(condition)
        first = self.data.fields["pitch"].first  # type: ignore[union-attr]
        sounds = []
        for i, (instrument, pitch) in enumerate(zip(condition["instrument"], condition["pitch"], strict=True)):
            played = pitch - first if i % 10 >= 10 * self.wrong else (pitch - first + 1) % 6
            alike = (self.data.condition["instrument"] == instrument) & (self.data.condition["pitch"] == played)
            sounds.append(int(np.flatnonzero(alike)[0]))
        return signals(self.data, sounds)

    def network_calls(self, steps=None, solver=None, guidance=None) -> int:
        return steps


SWEEP = {"consistency": (Setting(steps=1),)}


def test_training_is_reproducible(few: tuple[Dataset, Dataset]) -> None:
    recipe = training.NoteRecipe(channels=(4, 8), dim=8, epochs=2, batch_size=36)
    first, again = (rounded_to_half(training.fit(few[0], recipe)).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_the_command_trains_measures_and_saves_what_can_be_loaded(few: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    recipe = training.NoteRecipe(channels=(4, 8), dim=8, epochs=2, batch_size=36)
    facts = training.train_note_features(out=tmp_path / "made", recipe=recipe, seconds=0.5)
    card = (tmp_path / "made" / "README.md").read_text()
    assert (facts["train_notes"], facts["test_notes"]) == (108, 24)
    assert "108 training notes" in card
    assert "MIT (FluidR3 GM" in card
    network = load_features(str(tmp_path / "made"))
    assert (network.name, network.shape, network.dim) == ("notes", (1, 8_000), 8)


def test_training_needs_instruments_and_pitches(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((4, 8, 8, 1), np.uint8), arr_1=np.arange(4) % 2)
    pictures = prepare(DataConfig(source=f"npz:{tmp_path / 'a.npz'}"), progress=False)
    with pytest.raises(ValueError, match=r"trained on sounds with instrument and pitch, and npz:.* lacks them"):
        training.fit(pictures, training.DEFAULT_RECIPE)


def test_models_have_the_conditions_of_held_out_notes_and_their_pitches_are_measured(
    few: tuple[Dataset, Dataset],
) -> None:
    train, test = few
    recipe = training.NoteRecipe(channels=(8, 16), dim=16, epochs=30, batch_size=36, learning_rate=1e-2)
    network = training.fit(train, recipe)
    assert min(training.accuracies(network, test)) > 0.9
    features = FeatureNetwork(network, name="few", version="1", shape=(1, 8_000))
    metrics = NoteMetrics(test, features, num=40, seed=0)
    assert set(metrics.condition) == {"instrument", "pitch", "velocity"}
    assert set(metrics.condition["pitch"]) <= set(range(48, 54))
    players = [Player(test, name="right"), Player(test, wrong=0.3, name="wrong")]
    options = {"num": 40, "sweep": SWEEP, "batch_size": 20, "progress": False}
    report = evaluate(players, train, features=features, test=test, metrics=[metrics], **options)
    right, wrong, real, noise = report.rows
    assert players[0].given[0]["velocity"] == [80.0] * 20
    assert right.extra_metrics["tracker ↑"] == 1
    assert right.extra_metrics["LSD ↓"] < 0.01
    assert wrong.extra_metrics["tracker ↑"] == pytest.approx(0.7, abs=0.06)
    assert wrong.extra_metrics["LSD ↓"] > 0.1
    assert right.extra_metrics["pitch ↑"] > 0.9
    assert wrong.extra_metrics["pitch ↑"] < right.extra_metrics["pitch ↑"]
    assert right.extra_metrics["instrument ↑"] > 0.9
    assert real.extra_metrics["tracker ↑"] == 1
    assert (
        0 < real.extra_metrics["LSD ↓"] < 10
    )  # to the other note of the same condition, which is held for another time
    assert noise.extra_metrics == {}
    assert right.frechet < noise.frechet
    text = report.markdown()
    assert "each sample has the conditions of one of the held-out notes" in text
    assert report.condition == {}
    for part in ("| tracker ↑ |", "| LSD ↓ |", "sounds/s ↑", "108 sounds of notes:train", "1.000"):
        assert part in text
    assert Report.from_plain(json.loads(json.dumps(report.to_plain()))) == report


def test_notes_without_a_pitch_have_no_note_metrics(few: tuple[Dataset, Dataset], shipped: FeatureNetwork) -> None:
    with pytest.raises(ValueError, match="note metrics need notes with a pitch"):
        NoteMetrics(with_fields(few[1]), shipped, 10, 0)


def test_pitches_with_gaps_between_them_are_those_of_the_condition(
    few: tuple[Dataset, Dataset], shipped: FeatureNetwork
) -> None:
    scale = LabelField(size=6, numbers=(40, 50, 60, 61, 62, 70))
    notes = with_fields(few[1], **{**few[1].fields, "pitch": scale})
    metrics = NoteMetrics(notes, shipped, 10, 0)
    assert [metrics.pitch(i) for i in range(10)] == metrics.condition["pitch"]
    assert set(metrics.condition["pitch"]) <= set(scale.numbers)


def test_instruments_go_by_their_names_and_not_by_their_number(
    few: tuple[Dataset, Dataset], shipped: FeatureNetwork
) -> None:
    """Folders have the alphabet's order; and as many others than a network learned are not those."""
    fields = few[1].fields
    two = LabelField(size=2, names=("organ", "piano"))
    notes = with_fields(few[1], **{**fields, "instrument": two})
    metrics = NoteMetrics(notes, shipped, 10, 0)
    assert isinstance(shipped.network, NoteFeatures)
    given = notes.condition["instrument"][metrics.index].tolist()
    assert [shipped.network.instruments[i] for i in metrics.instruments(range(10))] == [two.names[i] for i in given]
    others = with_fields(few[1], **{**fields, "instrument": LabelField(size=10, names=tuple("abcdefghij"))})
    assert NoteMetrics(others, shipped, 10, 0).classifier is None
