"""Signed manifests hold for the file that was signed, and for no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.test_container import PROVENANCE, decoded, written
from provenance.certificates import make_certificates
from unistep.provenance import Signing, mark_content, read_content

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is missing: pip install 'unistep[c2pa]'")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".wav", ".flac", ".mp4", ".gif"])
def test_a_signature_holds_until_the_file_changes(files, suffix: str) -> None:
    signed = mark_content(written(suffix), suffix, replace(PROVENANCE, signing=Signing.load(files.chain, files.key)))
    found = read_content(signed)
    assert found.mark == PROVENANCE.mark
    assert found.manifest is not None
    assert (found.manifest.valid, found.manifest.trusted, found.generated) == (True, False, True)
    assert found.manifest.signer == "A tester, Testers"
    assert found.manifest.source_type == "trainedAlgorithmicMedia"
    trusted = read_content(signed, files.authority.read_text()).manifest
    assert trusted is not None
    assert trusted.trusted
    assert (decoded(signed, suffix) == decoded(written(suffix), suffix)).all()
    forged = signed.replace(b'unistep:Seed="7-9"', b'unistep:Seed="1-3"')
    assert forged != signed
    changed = read_content(forged).manifest
    assert changed is not None
    assert not changed.valid
    assert changed.problems


def test_what_cannot_be_signed_or_does_not_belong_together_is_refused(files, tmp_path: Path) -> None:
    signing = Signing.load(files.chain, files.key)
    assert "PRIVATE" not in repr(signing)
    for suffix in (".ogg", ".npz", ".npy"):
        with pytest.raises(ValueError, match=r"hold no C2PA signature; .*\.png"):
            mark_content(b"", suffix, replace(PROVENANCE, signing=signing))
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    with pytest.raises(ValueError, match="does not belong"):
        Signing.load(files.chain, other.key)
    with pytest.raises(ValueError, match="no certificate"):
        Signing.load(files.key, files.key)
    with pytest.raises(ValueError, match="no private key"):
        Signing.load(files.chain, files.chain)
    with pytest.raises(ValueError, match="cannot be read"):
        Signing.load(tmp_path / "missing.pem", files.key)
