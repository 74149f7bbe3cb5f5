from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest

import forks
import unistep.data.arrays
import unistep.data.building
import unistep.data.cache
import unistep.data.decoding
from image_files import noisy
from unistep.data import DataConfig, data_config, prepare
from unistep.data.labels import number_labels
from unistep.files import DiskError


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures in two classes."""
    for i in range(12):
        place = tmp_path / "in" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        noisy(20, 16, i).save(place / f"{i:02d}.png")
    return tmp_path / "in"


def open_again(folder, **options):
    return prepare(data_config(f"folder:{folder}", **options), progress=False)


def files(cache):
    return sorted(entry.name for entry in (cache / "data").iterdir() if not entry.name.endswith(".lock"))


def count_builds(monkeypatch):
    calls = []
    build = unistep.data.building.build
    monkeypatch.setattr(unistep.data.building, "build", lambda *args, **rest: (calls.append(1), build(*args, **rest)))
    return calls


def test_the_second_start_reads_the_cache(folder, monkeypatch):
    calls = count_builds(monkeypatch)
    first, second = open_again(folder), open_again(folder)
    assert calls == [1]
    assert isinstance(second.values, np.memmap)
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.labels, second.labels)
    assert (first.label_names, first.fingerprint, first.summary) == (
        second.label_names,
        second.fingerprint,
        second.summary,
    )


def test_a_change_of_source_or_options_prepares_anew(folder, monkeypatch):
    calls = count_builds(monkeypatch)
    first = open_again(folder)
    for options in ({"size": 16}, {"fit": "pad"}, {"background": "black"}, {"channels": 1}, {"limit": 3}):
        open_again(folder, **options)
    assert len(calls) == 6
    noisy(20, 16, 99).save(folder / "a" / "new.png")
    assert len(open_again(folder)) == 13
    noisy(20, 16, 98).save(folder / "a" / "new.png")
    os.utime(folder / "a" / "new.png", ns=(1, 1))
    assert not np.array_equal(open_again(folder).values, first.values)
    assert len(calls) == 8


def test_the_fingerprint_is_that_of_the_data_not_of_its_place(folder, tmp_path):
    first = open_again(folder)
    folder.rename(tmp_path / "moved")
    moved = open_again(tmp_path / "moved")
    assert moved.fingerprint == first.fingerprint
    assert open_again(tmp_path / "moved", size=16).fingerprint != first.fingerprint
    (tmp_path / "moved" / "b").rename(tmp_path / "moved" / "c")
    assert open_again(tmp_path / "moved").fingerprint != first.fingerprint


def damage_of(path, kind):
    """Change one file of a cached data set."""
    values, label, description = path / "values.npy", path / "label.index.npy", path / "dataset.json"
    if kind == "cut":
        values.write_bytes(values.read_bytes()[:-100])
    elif kind == "empty":
        values.write_bytes(b"")
    elif kind == "missing":
        label.unlink()
    elif kind == "longer":
        values.write_bytes(values.read_bytes() + bytes(7))
    elif kind == "description":
        description.write_text(description.read_text().replace('"good": 12', '"good": 13'))
    elif kind == "half":
        description.write_text(description.read_text()[:200])
    else:
        file, place = {"pixel": (values, 228), "label": (label, -3), "header": (values, 30)}[kind]
        content = bytearray(file.read_bytes())
        content[place] ^= 0xFF
        file.write_bytes(content)


@pytest.mark.parametrize(
    "kind", ["cut", "empty", "missing", "longer", "description", "half", "pixel", "label", "header"]
)
def test_a_damaged_cache_is_noticed_and_made_again(folder, caplog, kind):
    first = open_again(folder)
    expected = np.array(first.values)
    damage_of(first.path, kind)
    with caplog.at_level(logging.WARNING):
        again = open_again(folder)
    assert "damaged" in caplog.text
    assert np.array_equal(again.values, expected)
    assert again.fingerprint == first.fingerprint
    caplog.clear()
    open_again(folder)
    assert caplog.text == ""


def test_blocks_of_large_files_are_sampled(monkeypatch):
    monkeypatch.setattr(unistep.data.arrays, "_CHECKED", 2)
    content = np.zeros(5 << 20, np.uint8)
    block = unistep.data.arrays.zlib.crc32(bytes(1 << 20))
    unistep.data.arrays.check_blocks(content, (block,) * 5, "values.npy")
    content[-1] = 1
    with pytest.raises(unistep.data.arrays.DamagedCacheError, match="4,194,304"):
        unistep.data.arrays.check_blocks(content, (block,) * 5, "values.npy")


def test_numpy_reads_the_arrays_of_the_cache(folder):
    dataset = open_again(folder)
    assert np.array_equal(np.load(dataset.path / "values.npy"), dataset.values)
    assert np.array_equal(np.load(dataset.path / "label.index.npy"), dataset.labels)


def prepare_there(folder, cache, said):
    os.environ["UNISTEP_CACHE"] = str(cache)
    said.write_text(prepare(data_config(f"folder:{folder}", size=64), progress=False).fingerprint)


def start(folder, cache, said):
    process = forks.process(prepare_there, folder, cache, said)
    process.start()
    return process


def test_processes_that_start_together_agree(folder, cache, tmp_path):
    together = [start(folder, cache, tmp_path / f"{i}.txt") for i in range(2)]
    for process in together:
        process.join(120)
    assert [process.exitcode for process in together] == [0, 0]
    said = {(tmp_path / f"{i}.txt").read_text() for i in range(2)}
    assert said == {open_again(folder, size=64).fingerprint}
    assert len(files(cache)) == 1


def test_a_killed_process_leaves_nothing_that_hinders_the_next(tmp_path, cache):
    (tmp_path / "in").mkdir()
    noisy(900, 900).save(tmp_path / "in" / "0.png", compress_level=0)
    for i in range(1, 40):
        (tmp_path / "in" / f"{i}.png").hardlink_to(tmp_path / "in" / "0.png")
    process = start(tmp_path / "in", cache, tmp_path / "said.txt")
    end = time.monotonic() + 60
    while not list(cache.glob("data/.*.tmp/values.npy")) and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.join()
    (left,) = files(cache)
    assert left.endswith(".tmp")  # it was killed in the middle
    for i in range(1, 40):
        (tmp_path / "in" / f"{i}.png").unlink()
    stat = (tmp_path / "in" / "0.png").stat()
    assert len(open_again(tmp_path / "in", size=64)) == 1
    # Another source is another cache file; the same one takes the rest away.
    for i in range(1, 40):
        (tmp_path / "in" / f"{i}.png").hardlink_to(tmp_path / "in" / "0.png")
    assert (tmp_path / "in" / "0.png").stat().st_mtime_ns == stat.st_mtime_ns
    assert len(open_again(tmp_path / "in", size=64)) == 40
    assert not [name for name in files(cache) if "tmp" in name]


def test_an_error_leaves_no_file(folder, cache, monkeypatch):
    for path in folder.glob("a/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="too many"):
        open_again(folder)
    assert files(cache) == []


def test_a_full_disk_is_one_line_and_leaves_no_file(folder, cache, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            raise OSError(28, "No space left on device")

        def close(self):
            self.file.close()

        def tell(self):
            return self.file.tell()

    create = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *rest, **named: (
            Full(create(self, mode)) if mode == "wb" else create(self, mode, *rest, **named)
        ),
    )
    with pytest.raises(DiskError, match="No space left") as caught:
        open_again(folder)
    assert "UNISTEP_CACHE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(cache) == []


def test_a_place_that_cannot_be_written_is_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="set UNISTEP_CACHE"):
        prepare(DataConfig(source=f"folder:{folder}"), cache_dir=tmp_path / "file", progress=False)


def test_cache_dir_comes_before_the_environment(folder, tmp_path):
    found = prepare(DataConfig(source=f"folder:{folder}"), cache_dir=tmp_path / "other", progress=False)
    assert tmp_path / "other" in found.path.parents


def test_the_default_place_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("UNISTEP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unistep.data.cache.cache_root(None) == tmp_path / ".cache" / "unistep"


def test_progress_goes_to_standard_error(folder, capsys):
    prepare(DataConfig(source=f"folder:{folder}"), progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_order(folder, monkeypatch, threads):
    monkeypatch.setattr(unistep.data.decoding, "processors", lambda: threads)
    found = open_again(folder, size=16, fit="stretch")
    names = [f"{i:02d}" for i in range(0, 12, 2)] + [f"{i:02d}" for i in range(1, 12, 2)]
    for image, name in zip(found.values, names, strict=True):
        from PIL import Image

        wanted = noisy(20, 16, int(name)).resize((16, 16), Image.Resampling.LANCZOS, reducing_gap=3.0)
        assert np.array_equal(image.transpose(1, 2, 0), np.asarray(wanted))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("fashion-mnits", "did you mean 'fashion-mnist'"),
        ("fodler:x", "did you mean 'folder:x'"),
        ("nzp:x.npz", "did you mean 'npz:"),
        ("phones", r"spoken-digits[^;]*$"),
        (
            "zzz",
            "one of fashion-mnist, moving-fashion, folder:PATH, npz:FILE, hf:NAME, notes, phrases, drums, emoji",
        ),
        ("folder:", "needs a path"),
        ("hf:", "needs a name"),
        ("a.npz", "did you mean 'npz:a.npz'"),
        ("/tmp", "did you mean 'folder:/tmp'"),
        ("", "the data source is empty; it must be one of"),
        (" ", "the data source is empty"),
        ("folder: ", "needs a path after the colon"),
        ("x" * 300, "unknown data source 'xxx.*…'"),
        ("folder:" + "x" * 300, "no file can have a name of 300 bytes"),
        ("npz:" + "x/" * 3000, "no file can have a name of"),
        ("folder:a\0b", "a path cannot have a NUL byte"),
        ("a\0b", "unknown data source"),
        ("some/where", "a folder of that name does not exist here"),
    ],
)
def test_a_wrong_source_names_the_nearest(source, words):
    with pytest.raises(ValueError, match=words) as caught:
        prepare(DataConfig(source=source), progress=False)
    assert "\n" not in str(caught.value)


def test_labels_become_numbers():
    number = number_labels
    assert number([None, None]) == (None, ())
    assert number([-1, -1]) == (None, ())
    labels, names = number(["b", None, "a", 3])
    assert names == ("3", "a", "b")
    assert labels.tolist() == [2, -1, 1, 0]
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        number([0, 2], ("x", "y"))
