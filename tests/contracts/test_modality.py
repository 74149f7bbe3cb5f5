"""The contract of a kind of signal, over all that are built in and those of installed plugins."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from unistep import registry
from unistep.modalities.base import Modality
from unistep.modalities.tensor import TensorModality

NAMES = sorted(registry.names("modality"))
NEEDED = {"audio": "soundfile", "video": "av"}
"""Packages without which the example file of a built-in kind cannot be written."""


def small(name: str) -> Modality:
    """A modality of its usual shape, or of a small one where there is no usual shape."""
    kind: type[Modality] = registry.lookup("modality", name)
    return TensorModality(shape=(2, 8)) if kind is TensorModality else kind.usual()


@pytest.fixture(params=NAMES)
def modality(request: pytest.FixtureRequest) -> Modality:
    return small(request.param)


@pytest.fixture
def signals(modality: Modality) -> torch.Tensor:
    """Three signals within [-1, 1], of levels that their files hold."""
    x = torch.linspace(-0.5, 0.5, 3 * int(torch.tensor(modality.shape).prod())).view(3, *modality.shape)
    return modality.quantised(x)


def test_it_says_what_it_is(modality: Modality) -> None:
    assert modality.noun
    assert modality.described
    assert all(ending.startswith(".") and ending == ending.lower() for ending in modality.suffixes)
    assert modality.mismatch(modality) is None
    other = small("tensor" if modality.noun == "image" else "image")
    assert modality.noun in str(modality.mismatch(other))
    assert type(modality).expect(modality, "tests") is modality
    with pytest.raises(ValueError, match=f"tests need {modality.noun}s, and these are {other.noun}s"):
        type(modality).expect(other, "tests")


def test_its_media_types_are_formats_that_it_encodes(modality: Modality, signals: torch.Tensor) -> None:
    assert modality.media == next(iter(modality.media_types.values())).partition("/")[0]
    if registry.name_of("modality", modality) in NEEDED:
        pytest.importorskip(NEEDED[registry.name_of("modality", modality)])
    for format in modality.media_types:
        assert len(modality.encode(signals[:1], format)) > 0


def test_its_options_give_it_again(modality: Modality) -> None:
    options = modality.as_options()
    assert type(modality).item_shape(options) == modality.shape
    assert type(modality).fitted(options, modality.shape) == modality
    assert isinstance(options, type(modality).options)
    assert set(options.key) <= set(options.names())


def test_the_rate_is_that_of_the_last_axis(modality: Modality) -> None:
    if modality.rate is not None:
        assert modality.seconds is not None
        assert modality.rate * modality.seconds == pytest.approx(modality.shape[-1], abs=1)


def test_stored_values_survive_the_way_there_and_back(modality: Modality, signals: torch.Tensor) -> None:
    assert signals.dtype == torch.float32
    assert torch.equal(modality.quantised(signals), signals)
    broken = signals.clone()
    broken.view(-1)[1] = float("nan")
    with pytest.raises(ValueError, match="not numbers"):
        modality.to_stored(broken)


def test_files_are_written_whole_and_wrong_names_are_refused(
    modality: Modality, signals: torch.Tensor, tmp_path: Path
) -> None:
    example = tmp_path / modality.example
    name = registry.name_of("modality", modality)
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is missing: pip install 'unistep[{name}]'")
    modality.check_path(example)
    assert not list(tmp_path.iterdir())
    modality.save(signals, example)
    assert [entry.name for entry in tmp_path.iterdir()] == [modality.example]
    assert len(modality.encode(signals, example.suffix)) > 0
    for wrong in (tmp_path / "a.wrong", tmp_path / "missing" / modality.example):
        with pytest.raises(ValueError, match="cannot write") as caught:
            modality.check_path(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown format 'wrong'"):
        modality.encode(signals, "wrong")


def test_what_it_wrote_is_read_back_as_it_was(modality: Modality, signals: torch.Tensor, tmp_path: Path) -> None:
    name = registry.name_of("modality", modality)
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    path = tmp_path / f"item{Path(modality.example).suffix}"
    path.write_bytes(modality.encode(signals[1], path.suffix))
    found = modality.to_signal(torch.from_numpy(modality.read(path, modality.as_options().as_written()).values))
    lossy = modality.media == "video"
    torch.testing.assert_close(found, signals[1], rtol=0, atol=0.1 if lossy else 2 / 2**15)


def test_what_can_be_played_streams_to_a_pipe_and_to_whole_files(
    modality: Modality, signals: torch.Tensor, tmp_path: Path
) -> None:
    if modality.seconds is None:
        with pytest.raises(ValueError, match=f"{modality.noun}s cannot be played"):
            _ = modality.stream_output
        return
    output = modality.stream_output
    name = registry.name_of("modality", modality)
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is missing: pip install 'unistep[{name}]'")
    chunk = signals[0]
    assert output.content
    assert output.raw
    assert output.player
    assert output.rate > 0
    assert len(output.to_bytes(chunk)) > 0
    if output.pictures is not None:
        pictures = output.pictures(chunk)
        assert (pictures.dtype, pictures.shape[3]) == ("uint8", 3)
    for ending in output.endings:
        path = tmp_path / f"out{ending}"
        with output.open_file(path) as put:
            put(chunk)
            put(chunk)
            assert not path.exists()
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
        assert path.stat().st_size > 0
        path.unlink()


def test_a_missing_file_is_one_line(modality: Modality, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing") as caught:
        modality.load(tmp_path / f"missing{sorted(modality.suffixes)[0]}")
    assert "\n" not in str(caught.value)


def test_previews_and_pictures(modality: Modality, signals: torch.Tensor, tmp_path: Path) -> None:
    modality.save_preview(signals, tmp_path, "0001")
    written = list(tmp_path.iterdir())
    assert written
    assert all(path.stem == "0001" for path in written)
    assert any(path.suffix == ".png" for path in written)
    sheet = modality.contact_sheet([("one step", signals), ("two steps", signals[:2])])
    grid = modality.grid(signals, columns=1, labels=["a", "b", "c"])
    assert min(*sheet.size, *grid.size) > 1


def test_what_suits_it_fits_it(modality: Modality) -> None:
    codec = modality.default_codec()
    shape = codec.fitted(modality.shape, dims=None, multiples=(1,)).shape(modality.shape)
    for network in modality.default_networks(shape):
        network.fitted(shape, {})


def test_views_and_maps_keep_the_batch(modality: Modality, signals: torch.Tensor) -> None:
    view = modality.random_view(signals, torch.Generator().manual_seed(0))
    assert view.shape == signals.shape
    assert torch.equal(view, modality.random_view(signals, torch.Generator().manual_seed(0)))
    seen = modality.feature_map()(signals)
    assert seen.shape[0] == len(signals)
    assert seen.ndim in (4, 5)


def test_augmentations_keep_shape_and_type(modality: Modality, signals: torch.Tensor) -> None:
    item = modality.to_stored(signals)[0]
    for change in modality.augmentations.values():
        for seed in range(3):
            found = change(item, torch.Generator().manual_seed(seed))
            assert found.shape == item.shape
            assert found.dtype == item.dtype


def test_windows_are_read_or_refused_in_a_line(modality: Modality, tmp_path: Path) -> None:
    kind, options = type(modality), modality.as_options()
    path = tmp_path / "missing.file"
    if options.windowed:
        assert kind.count_windows(path, options) == 1
    with pytest.raises(ValueError, match=r".+") as caught:
        kind.read_windows(path, options)
    assert "\n" not in str(caught.value)


def test_a_recording_is_cut_to_the_windows_that_are_wanted() -> None:
    from unistep.modalities.recording import Recording

    plain = Recording(blocks=iter(()), starts=(0, 4, 8))
    assert plain.only((4,)).starts == (4,)
    seeking = replace(plain, seek=lambda starts: replace(plain, starts=tuple(range(len(starts)))))
    assert seeking.only((4, 8)).starts == (0, 1)
    assert seeking.only((0, 4, 8)).starts == (0, 4, 8)
    known = replace(plain, conditions=tuple({"action": start} for start in plain.starts))
    assert known.only((4, 8)).conditions == ({"action": 4}, {"action": 8})
