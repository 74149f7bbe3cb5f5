"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from unistep.files import (
    DiskError,
    check_readable,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_text,
)


def content(folder: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder)) as file:
        return file.read()


def no_space(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_replaces_text_and_makes_folders(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    write_text(target, "old")
    write_text(target, "new ü")
    assert target.read_text(encoding="utf-8") == "new ü"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("fault", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, fault: BaseException) -> None:
    target = tmp_path / "x.txt"
    write_text(target, "old")

    def write() -> None:
        with replacing(target) as part:
            part.write_text("half")
            raise fault

    with pytest.raises(ValueError if isinstance(fault, OSError) else type(fault)) as caught:
        write()
    assert "No space left" in str(caught.value) or caught.value is fault
    assert isinstance(caught.value, DiskError) == isinstance(fault, OSError)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write .*file/x.txt: (File exists|Not a directory)") as caught:
        write_text(tmp_path / "file" / "x.txt", "text")
    assert not isinstance(caught.value, DiskError)  # another name would help


def test_a_file_that_cannot_be_opened_is_not_missing(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    check_readable(tmp_path / "file")
    with pytest.raises(ValueError, match=r"gone: no such file"):
        check_readable(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory"):
        check_readable(tmp_path)


def test_processes_of_one_number_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of two containers that share a volume, which count their processes from 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with replacing(tmp_path / "x.txt") as first:
        first.write_text("first")
        with replacing(tmp_path / "x.txt") as second:
            second.write_text("second")
        assert (tmp_path / "x.txt").read_text() == "second"
        assert first.read_text() == "first"
    assert (tmp_path / "x.txt").read_text() == "first"
    with replacing_folder(tmp_path / "model") as one:
        (one / "weights").write_text("one")
        with replacing_folder(tmp_path / "model") as two:
            (two / "weights").write_text("two")
        assert (one / "weights").read_text() == "one"
    assert (tmp_path / "model" / "weights").read_text() == "one"
    assert {path.name for path in tmp_path.iterdir()} == {"x.txt", "model"}


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replacing_folder(target) as part:
        (part / "weights").write_text("one")
        assert not target.exists()
    with replacing_folder(target) as part:
        (part / "weights").write_text("two")
        assert (target / "weights").read_text() == "one"
    assert (target / "weights").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("where", ["fsync", "rename"])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path, where: str, monkeypatch) -> None:
    target = tmp_path / "model"
    with replacing_folder(target) as part:
        (part / "weights").write_text("old")
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    else:
        rename = Path.rename

        # The old one may step aside; the new one cannot take its place.
        def refuse(path: Path, to: Path) -> Path:
            return no_space() if to == target and "old" not in path.name else rename(path, to)  # type: ignore[return-value]

        monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"), replacing_folder(target) as part:
        (part / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_readers_never_see_half_a_folder(tmp_path: Path) -> None:
    """While one thread replaces it over and over, both files are of one generation, or the folder is gone."""
    target, stop, torn, seen = tmp_path / "model", threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY)  # holds on to one generation
            except OSError:
                continue
            try:
                names = os.listdir(handle)
                texts = [content(handle, name) for name in names]
            except FileNotFoundError:
                continue  # it left its place and is being deleted
            finally:
                os.close(handle)
            if (target / "a").exists() and len(names) == 2:
                seen.add(texts[0])
                torn.extend(texts if texts[0] != texts[1] else [])

    reader = threading.Thread(target=read)
    reader.start()
    for generation in range(60):
        with replacing_folder(target) as part:
            for name in ("a", "b"):
                (part / name).write_text(str(generation))
    stop.set()
    reader.join()
    assert not torn
    assert (target / "a").read_text() == "59"


def test_removing_and_leftovers(tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    remove_folder(tmp_path / "old")
    remove_folder(tmp_path / "never-was")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".x.12.tmp").mkdir()
    (tmp_path / ".x.12.old.tmp").mkdir()
    (tmp_path / ".config.json.12.tmp.json").touch()
    (tmp_path / ".keep").touch()
    (tmp_path / "x.tmp").touch()
    os.utime(tmp_path / ".x.12.tmp", (0, 0))
    remove_leftovers(tmp_path, 1000.0)
    assert not (tmp_path / ".x.12.tmp").exists()
    assert (tmp_path / ".x.12.old.tmp").exists()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".keep", "x.tmp"}
