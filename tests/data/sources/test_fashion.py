from __future__ import annotations

import gzip
import logging
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from unistep.data import DataConfig, data_config, prepare
from unistep.data.sources import fashion

TEST = DataConfig(source="fashion-mnist", split="test")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No Debian package, nothing bundled, no network."""
    monkeypatch.setattr(fashion, "INSTALLED", tmp_path / "none")
    monkeypatch.setattr(fashion, "BUNDLED", tmp_path / "none")
    monkeypatch.setattr(fashion, "ORIGIN", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(tmp_path, monkeypatch, nowhere):
    """A server of the files in a folder, in place of the origin."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        monkeypatch.setattr(fashion, "ORIGIN", f"http://127.0.0.1:{http.server_address[1]}/")
        yield folder
        http.shutdown()
        thread.join()


def test_the_test_split_is_bundled_with_labels(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "INSTALLED", tmp_path / "none")
    monkeypatch.setattr(fashion, "ORIGIN", "http://127.0.0.1:9/")
    dataset = prepare(TEST, progress=False)
    assert dataset.values.shape == (10_000, 1, 28, 28)
    assert dataset.values.dtype == np.uint8
    assert dataset.shape == (1, 28, 28)
    assert dataset.labels.dtype == np.int64
    assert np.bincount(dataset.labels).tolist() == [1000] * 10
    assert dataset.label_names[9] == "Ankle boot"
    assert dataset.labels[0] == 9  # the first test picture is an ankle boot
    assert dataset.summary.good == 10_000
    assert dataset.summary.bad == 0
    assert not dataset.values.flags.writeable
    expected = gzip.decompress((fashion.BUNDLED / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert dataset.values.tobytes() == expected


def test_the_split_may_stand_in_the_source():
    short = prepare(DataConfig(source="fashion-mnist:test", limit=100), progress=False)
    assert short.source == "fashion-mnist:test"
    assert short.values.shape == (100, 1, 28, 28)
    whole = prepare(TEST, progress=False)
    assert np.array_equal(short.values, whole.values[::100])  # spread evenly


def test_another_size_and_colour_are_made():
    dataset = prepare(data_config("fashion-mnist:test", limit=20, size=32, channels=3), progress=False)
    assert dataset.values.shape == (20, 3, 32, 32)
    assert np.array_equal(dataset.values[:, 0], dataset.values[:, 1])
    native = prepare(DataConfig(source="fashion-mnist:test", limit=20), progress=False)
    assert abs(float(dataset.values.mean()) - float(native.values.mean())) < 2


def test_without_network_the_error_names_what_to_do(nowhere):
    with pytest.raises(ValueError, match="dataset-fashion-mnist") as caught:
        prepare(DataConfig(), progress=False)
    assert "fashion-mnist:test" in str(caught.value)
    assert "bundled" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_is_checked_kept_and_used_once(server, cache):
    bundled = fashion.Path(fashion.__file__).parent / "bundled"
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (server / name).write_bytes((bundled / name).read_bytes())
    config = DataConfig(source="fashion-mnist:test", limit=10)
    prepare(config, progress=False)
    kept = sorted(entry.name for entry in (cache / "downloads" / "fashion-mnist").iterdir())
    assert kept == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    for entry in server.iterdir():
        entry.unlink()
    assert len(prepare(DataConfig(source="fashion-mnist:test", limit=11), progress=False)) == 11


def test_a_download_with_the_wrong_content_is_refused(server, cache):
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (server / name).write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="wrong checksum"):
        prepare(TEST, progress=False)
    assert not (cache / "downloads" / "fashion-mnist").exists()


def test_a_damaged_installed_file_is_left_out(tmp_path, monkeypatch, caplog):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b nonsense")
    monkeypatch.setattr(fashion, "INSTALLED", fashion.BUNDLED)
    monkeypatch.setattr(fashion, "BUNDLED", bad)
    with caplog.at_level(logging.WARNING):
        assert len(prepare(DataConfig(source="fashion-mnist:test", limit=5), progress=False)) == 5
    assert "left out" in caplog.text


def test_a_wrong_split_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'train'"):
        prepare(DataConfig(source="fashion-mnist", split="trian"), progress=False)


def test_the_licence_lies_beside_the_data():
    assert "Zalando" in (fashion.BUNDLED / "LICENSE-fashion-mnist").read_text(encoding="utf-8")


def test_idx_of_another_type_is_refused():
    with pytest.raises(ValueError, match="IDX"):
        fashion.parse_idx(b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00")
