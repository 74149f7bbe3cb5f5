"""Any number of samples, interrupted however often: no gap, no duplicate, the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from PIL import Image

import forks
import unistep
from unistep.core.condition import LabelField
from unistep.generation.bulk import Bulk, BulkPlan
from unistep.generation.shards import read_shard
from unistep.provenance import read_content

NUM, SIZE, SHARDS = 330, 10, 33
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def whole(zoo, tmp_path_factory) -> Path:
    """What one uninterrupted run writes."""
    folder = tmp_path_factory.mktemp("whole") / "shards"
    bulk = Bulk(unistep.load(zoo / "fashion"), BulkPlan(num=NUM, shard_size=SIZE), folder)
    bulk.begin()
    for shard in bulk.pending():
        bulk.write(shard)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.tar"))}


def command(zoo: Path, out: Path, *more: str) -> list[str]:
    words = f"{zoo / 'fashion'} -n {NUM} --shard-size {SIZE} -o {out}"
    return [sys.executable, "-m", "unistep", "sample", *words.split(), *more]


def test_killed_again_and_again_it_ends_as_one_run(zoo, whole, place):
    """SIGKILL at any moment leaves whole shards and nothing that is taken for one."""
    out, said = place / "killed", place / "said.txt"

    def started() -> ForkServerProcess:
        kept = {"UNISTEP_CACHE": os.environ["UNISTEP_CACHE"]}
        process = forks.process(forks.command, command(zoo, out)[3:], kept, str(place), said, None)
        process.start()
        return process

    for more in (3, 5, 4):
        before = len(contents(out))
        process = started()
        deadline = time.monotonic() + 120
        while len(contents(out)) < before + more and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.join()
        found = contents(out)
        assert len(found) >= before + more
        assert all(content == contents(whole)[name] for name, content in found.items())
    finished = started()
    finished.join()
    assert finished.exitcode == 0
    assert re.search(r"samples to make in \d+ shards of .*; (1[2-9]|2\d|3\d) shards are there", said.read_text())
    assert contents(out) == contents(whole)
    items = [item for path in sorted(out.glob("*.tar")) for item in read_shard(path)]
    assert [json.loads(item.files[".json"])["index"] for item in items] == list(range(NUM))
    assert [entry.name for entry in out.iterdir() if entry.name.startswith(".")] == []


def test_an_item_is_what_sample_draws_from_its_seed(zoo, whole):
    g = unistep.load(zoo / "fashion")
    items = [item for path in sorted(whole.glob("*.tar")) for item in read_shard(path)]
    for index in (0, 9, 10, 329):
        facts = json.loads(items[index].files[".json"])
        assert (facts["seed"], facts["model"]) == (index, g.name)
        names = g.config.fields["label"].names
        assert int(items[index].files[".cls"]) == names.index(facts["condition"]["label"])
        mark = read_content(items[index].files[".png"]).mark
        assert (mark.seed, mark.condition) == (str(index), facts["condition"])
        alone = g.encode(g.sample(1, seed=index), "png", provenance=False)
        with Image.open(BytesIO(alone)) as a, Image.open(BytesIO(items[index].files[".png"])) as b:
            difference = [abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True)]
        assert max(difference) <= 1  # a rounding of the last bit may differ between batch sizes


def test_processes_share_the_shards(run, zoo, whole, place, monkeypatch):
    """As under ``torchrun``, which sets these variables."""
    out = place / "shared"
    monkeypatch.setenv("WORLD_SIZE", "3")
    made = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        outcome = run(command(zoo, out)[3:])
        assert outcome.code == 0
        assert f"part {rank + 1} of 3: 110 samples" in outcome.out
        made.append(set(contents(out)))
    assert [len(names) for names in made] == [11, 22, 33]
    assert contents(out) == contents(whole)
    monkeypatch.setenv("RANK", "3")
    assert run(command(zoo, out)[3:]).code == 2


def test_speed_is_printed_beside_the_bare_network(run, place):
    outcome = run("sample fashion -n 20 --shard-size 10 -o out/")
    assert outcome.code == 0
    pattern = r"20 samples, [\d.]+/s, [\d.]+/s per core of \d+; the network alone [\d.]+/s per core: \d+ %"
    assert re.search(pattern, outcome.out)
    assert "all 2 shards of out are there" in run("sample fashion -n 20 --shard-size 10 -o out/").out
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert (manifest["num"], manifest["model"], len(manifest["model_hash"])) == (20, "fashion", 64)


def test_a_full_disk_in_one_shard_is_one_line_and_loses_nothing(run, place, monkeypatch):
    import errno

    from unistep.generation import shards

    write, written = shards.tarfile.TarFile.addfile, []

    def fail(self, member, content):
        written.append(member.name)
        if member.name == "000000037.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, member, content)

    monkeypatch.setattr(shards.tarfile.TarFile, "addfile", fail)
    outcome = run("sample fashion -n 50 --shard-size 10 -o out/")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "shard-000003.tar: No space left on device; 3 of 5 shards are whole" in outcome.err
    assert sorted(entry.name for entry in (place / "out").iterdir()) == [
        "manifest.json", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar"
    ]  # fmt: skip
    monkeypatch.undo()
    monkeypatch.chdir(place)


def test_what_does_not_fit_is_refused(run, place):
    assert run("sample fashion -n 20 --shard-size 10 -o out/ --label dress").code == 0
    (place / "other").mkdir()
    (place / "other" / "mine.txt").write_text("x")
    for words, expected in {
        "-n 30 --shard-size 10 -o out/ --label dress": "begun with num 20, and this run has 30",
        "-n 20 --shard-size 10 -o out/ --label bag": "begun with condition {'label': 'dress'}",
        "-n 20 --shard-size 10 -o out/ --label dress --seed 1": "begun with seed 0, and this run has 1",
        "-n 20 --shard-size 10 -o other/": "holds other files (mine.txt)",
        "-n 20 --shard-size 10 -o out.png": "shards go into a folder",
        "-n 20 --shard-size -1 -o new/": "shard_size must be at least 1, got -1",
        "-n 20 --shard-size 10 -o new/ --label hat": "label must be",
    }.items():
        outcome = run(f"sample fashion {words}")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), words
        assert expected in outcome.err
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert manifest["signed"] is False
    (place / "out" / "manifest.json").write_text(json.dumps(manifest | {"signed": True}))
    again = run("sample fashion -n 20 --shard-size 10 -o out/ --label dress")
    assert "begun with signed True, and this run has False" in again.err
    del manifest["signed"]  # as an earlier version wrote it
    (place / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert run("sample fashion -n 20 --shard-size 10 -o out/ --label dress").code == 0
    (place / "out" / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in run("sample fashion -n 20 --shard-size 10 -o out/ --label dress").err


def test_classes_in_turn(zoo, tmp_path):
    g = unistep.load(zoo / "fashion")
    bulk = Bulk(g, BulkPlan(num=23, shard_size=12, balance="label", batch_size=5), tmp_path / "x")
    bulk.begin()
    assert [bulk.write(shard) for shard in bulk.pending()] == [12, 11]
    found = [int(item.files[".cls"]) for path in sorted((tmp_path / "x").glob("*.tar")) for item in read_shard(path)]
    assert found == [index % 10 for index in range(23)]
    with pytest.raises(ValueError, match="no classes 'colour'"):
        Bulk(g, BulkPlan(num=2, shard_size=2, balance="colour"), tmp_path / "y")


def test_classes_that_are_called_1_to_10_take_turns(zoo, tmp_path):
    g = unistep.load(zoo / "fashion")
    g.config = replace(g.config, fields={"label": LabelField(size=10, names=tuple(map(str, range(1, 11))))})
    bulk = Bulk(g, BulkPlan(num=10, shard_size=10, balance="label"), tmp_path / "x")
    bulk.begin()
    bulk.write(0)
    assert [int(item.files[".cls"]) for item in read_shard(next((tmp_path / "x").glob("*.tar")))] == list(range(10))


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("ray", "pyarrow", "pandas")), reason="pip install 'unistep[ray]' has them"
)
def test_a_real_ray_on_this_machine(zoo, whole, place):
    """In a process of its own: Ray leaves threads behind."""
    out = place / "ray"
    out.mkdir()
    (out / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    for name, content in list(contents(whole).items())[: SHARDS - 6]:
        (out / name).write_bytes(content)
    finished = subprocess.run(
        command(zoo, out, "--ray", "local"),
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert finished.returncode == 0, finished.stderr
    assert contents(out) == contents(whole)
