"""Speech metrics by two published networks; small stand-ins have their calls."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speech_standins import install_speech
from unistep.data import DataConfig, Dataset, data_config, prepare
from unistep.evaluation import Report, Setting, evaluate, load_features, save_plot, speech
from unistep.evaluation.reference import signals
from unistep.evaluation.speech import SpeechMetrics
from unistep.evaluation.speech_networks import SpeechNetworks, to_speech_rate

RATE = 16_000
SWEEP = {"consistency": (Setting(steps=1),)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> SpeechNetworks:
    install_speech(monkeypatch)
    return SpeechNetworks()


def tone(frequency: float, samples: int = 4_000, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


def sounds(folder: Path, frequencies: list[float], rate: int = RATE) -> Dataset:
    """A "voice" for each frequency."""
    folder.mkdir()
    for i, frequency in enumerate(frequencies):
        soundfile.write(folder / f"{i:03d}.wav", tone(frequency, rate // 4, rate), rate)
    return prepare(data_config(f"folder:{folder}", seconds=0.25, sample_rate=rate), progress=False)


@pytest.fixture
def voices(tmp_path: Path) -> Dataset:
    """Four voices, thrice each."""
    return sounds(tmp_path / "voices", [200.0, 600.0, 1_000.0, 1_400.0] * 3)


@pytest.mark.parametrize(("frames", "spoken"), [(0, False), (3, False), (4, True), (8, True)])
def test_a_tenth_of_a_second_makes_speech(networks: SpeechNetworks, frames: int, spoken: bool) -> None:
    x = torch.zeros(2, 4_096)
    x[1, 512 : 512 * (1 + frames)] = 0.5
    if frames == 8:
        x[1] = 0.5
    assert networks.speech(x).tolist() == [False, spoken]


def test_distances_are_those_of_the_formula(networks: SpeechNetworks, voices: Dataset) -> None:
    metrics = SpeechMetrics(voices, networks)
    x = torch.from_numpy(np.stack([tone(f) for f in (200.0, 210.0, 3_000.0)])).float()[:, None]
    found_in = metrics.accumulator("samples")
    found_in.update(x[:2], torch.zeros(2, 1))
    found_in.update(x[2:] / 100, torch.zeros(1, 1))
    found = found_in.compute()
    u, v = networks.voices(x[:, 0]), metrics.voices()
    apart = np.array([[1 - float(a @ b) for b in v.double()] for a in u.double()])
    assert found["speech ↑"] == pytest.approx(
        2 / 3
    )  # the last is too quiet, though its voice is told as if it were not
    assert found["voice ↓"] == pytest.approx(apart.min(axis=1).mean(), abs=1e-5)
    assert found["MMD ↓"] == pytest.approx(apart.min(axis=0).mean(), abs=1e-5)
    assert found["voice ↓"] > 0.1


def test_no_real_voice_is_its_own_nearest(networks: SpeechNetworks, tmp_path: Path) -> None:
    metrics = SpeechMetrics(sounds(tmp_path / "four", [200.0, 230.0, 3_000.0, 5_000.0]), networks)
    x = signals(metrics.real, metrics.index)
    figures = []
    for real in (False, True):
        found_in = metrics.accumulator("reference" if real else "samples")
        found_in.update(x, torch.zeros(4, 1))
        figures.append(found_in.compute())
    assert figures[0]["voice ↓"] < 1e-6
    apart = 1 - metrics.voices() @ metrics.voices().T + 9 * torch.eye(4)
    assert figures[1]["voice ↓"] == pytest.approx(float(apart.amin(dim=1).mean()), abs=1e-5)
    assert figures[1]["voice ↓"] == pytest.approx(figures[1]["MMD ↓"])


@dataclass
class Speaker:
    """A "model" that says again what some of the recordings say."""

    data: Dataset
    knows: int
    name: str = "speaker"
    kind: str = "consistency"
    guidance: float | None = None

    def sample(self, num=1, *, steps=None, seed=0, solver=None, batch_size=64, **condition) -> torch.Tensor:
        return signals(self.data, ((np.arange(num) + seed) % 4 % self.knows).tolist())

    def network_calls(self, steps=None, solver=None, guidance=None) -> int:
        return steps


def test_the_report_has_the_columns_with_a_row_of_the_real_voices(
    networks: SpeechNetworks, voices: Dataset, tmp_path: Path
) -> None:
    features = load_features("spectrum", voices.modality)
    speakers = [Speaker(voices, 4, name="all"), Speaker(voices, 1, name="one")]
    report = evaluate(
        speakers,
        voices,
        features=features,
        num=20,
        sweep=SWEEP,
        progress=False,
        metrics=[SpeechMetrics(voices, networks)],
    )
    every, one, reference, noise = report.rows
    assert (reference.name, reference.num, noise.name) == ("reference", 12, "noise")
    for row in (every, one, reference):
        assert row.extra_metrics["speech ↑"] == 1
        assert row.extra_metrics["voice ↓"] < 1e-3
    assert every.extra_metrics["MMD ↓"] < 1e-3
    assert one.extra_metrics["MMD ↓"] > 0.1  # three of four voices are missing, which "voice" does not see
    assert noise.extra_metrics["voice ↓"] > 0.1
    assert Report.from_plain(json.loads(json.dumps(report.to_plain()))) == report
    text = report.markdown()
    for part in ("| speech ↑ | voice ↓ | MMD ↓ |", "nearest of 12 real voices", "row 'reference'"):
        assert part in text
    assert {"speech ↑", "voice ↓", "MMD ↓"} <= {str(column.header) for column in report.tables(80)[-2].columns}
    save_plot(report, tmp_path / "plot.svg")
    assert "reference  " not in (tmp_path / "plot.svg").read_text()


def test_a_test_split_is_measured_instead(networks: SpeechNetworks, voices: Dataset, tmp_path: Path) -> None:
    other = sounds(tmp_path / "other", [200.0, 600.0] * 5)
    features = load_features("spectrum", voices.modality)
    options = {"num": 10, "sweep": SWEEP, "progress": False, "noise": False}
    report = evaluate(
        Speaker(voices, 4), voices, features=features, test=other, metrics=[SpeechMetrics(voices, networks)], **options
    )
    assert [row.name for row in report.rows] == ["speaker", "test split"]
    assert report.rows[1].extra_metrics["MMD ↓"] > 0.05
    assert not any("row 'reference'" in note for note in report.notes)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_sounds_are_brought_to_16_khz(networks: SpeechNetworks, rate: int) -> None:
    x = torch.from_numpy(np.stack([tone(1_000, rate // 2, rate), tone(2_000, rate // 2, rate)])).float()
    found = to_speech_rate(torch.stack([x, x], dim=1), rate)
    assert found.shape == (2, 8_000)
    wanted = torch.from_numpy(np.stack([tone(1_000, 8_000), tone(2_000, 8_000)])).float()
    assert (found - wanted)[:, 500:-500].abs().max() < 2e-3


def test_only_so_many_real_voices_are_embedded(
    networks: SpeechNetworks, voices: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "MOST", 5)
    counted: list[int] = []
    metrics = SpeechMetrics(voices, networks)
    assert metrics.voices(counted.append).shape == (5, 256)
    assert sum(counted) == 5
    assert "nearest of 5 real voices" in metrics.meaning


def test_data_without_speech_metrics_is_refused_in_one_line(
    networks: SpeechNetworks, voices: Dataset, tmp_path: Path
) -> None:
    from dataclasses import replace

    np.savez(tmp_path / "a.npz", arr_0=np.zeros((4, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="speech metrics need sounds, and these are images"):
        SpeechMetrics(prepare(DataConfig(source=f"npz:{tmp_path / 'a.npz'}"), progress=False), networks)
    with pytest.raises(ValueError, match="at least 8000 samples per second, this audio has 4000"):
        SpeechMetrics(sounds(tmp_path / "low", [200.0, 300.0], 4_000), networks)
    short = Dataset.from_tensors(torch.zeros(4, 1, 1_000), modality=replace(voices.modality, samples=1_000))
    with pytest.raises(ValueError, match=r"audio of 0.1 s or more, this has 1000 samples at 16000 Hz"):
        SpeechMetrics(short, networks)
    with pytest.raises(ValueError, match="at least 2 recordings"):
        SpeechMetrics(Dataset.from_tensors(torch.zeros(1, 1, 4_000), modality=voices.modality), networks)
    with pytest.raises(ValueError, match="not finite"):
        networks.voices(torch.full((1, 4_000), torch.nan))


@pytest.mark.parametrize("missing", ["silero_vad", "resemblyzer"])
def test_a_missing_package_is_named_with_the_commands(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install_speech(monkeypatch)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"{missing}.*pip install 'unistep\[speech\]'.*--no-deps resemblyzer"):
        SpeechNetworks()


@pytest.fixture
def published() -> SpeechNetworks:
    """The real ones, where they are installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # resemblyzer imports a name that SciPy has renamed
        pytest.importorskip("silero_vad")
        pytest.importorskip("resemblyzer")
    return SpeechNetworks()


def test_the_published_networks_take_what_they_are_given(published: SpeechNetworks) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        sys.modules.pop("silero_vad.model", None)
        sys.modules.pop("silero_vad", None)
        SpeechNetworks()
        assert torch.get_num_threads() == threads + 1  # which its import sets to 1
    finally:
        torch.set_num_threads(threads)
    x = torch.randn(3, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    x[1] = torch.from_numpy(tone(440.0, RATE))
    x[2] = 0
    chances, embedded = published.probabilities(x), published.voices(x)
    assert chances.shape == (3, 32)
    assert published.speech(x).tolist() == [False, False, False]
    assert embedded.shape == (3, 256)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(published.probabilities(x[1:2]), chances[1:2], atol=1e-5)  # whatever rode in the batch
    assert "silero-vad 6" in published.label


def test_the_published_networks_tell_digits_from_noise(published: SpeechNetworks) -> None:
    try:
        digits = prepare(DataConfig(source="spoken-digits"), progress=False)
    except ValueError as error:
        pytest.skip(str(error))
    metrics = SpeechMetrics(digits, published)
    real, noise = metrics.accumulator("reference"), metrics.accumulator("noise")
    real.update(signals(digits, metrics.index), torch.zeros(0, 1))
    noise.update(torch.randn(10, 1, RATE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1), torch.zeros(0, 1))
    assert real.compute()["speech ↑"] > 0.9
    assert noise.compute()["speech ↑"] == 0
    assert noise.compute()["voice ↓"] > 2 * real.compute()["voice ↓"]
