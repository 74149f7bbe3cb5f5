"""Signed C2PA manifests: who made a file, with which model, bound to its bytes.

References:
    C2PA Technical Specification 2.2, https://spec.c2pa.org.
"""

from __future__ import annotations

import importlib
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from unistep.provenance.container import BrokenFileError, Container
from unistep.provenance.mark import COMPOSITE, PROGRAM, TRAINED, VOCABULARY, Mark, program_version
from unistep.registry import entries

ASSERTION = "org.unistep.generation"
"""Label of the assertion with the model, the seed and the condition."""

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_TRUSTED, _VALID = "Trusted", "Valid"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_PURPOSES = "1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.36"  # e-mail protection, document signing


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a C2PA manifest says, and whether it holds."""

    source_type: str
    """A word of the IPTC's vocabulary; empty where the manifest names none."""
    signer: str
    """Who signed, by the certificate."""
    software: str
    """The program that made the claim."""
    valid: bool
    """Whether signature and content agree."""
    trusted: bool
    """Whether the certificate goes back to one that the reader trusts."""
    problems: tuple[str, ...]
    """What does not hold, by the names of the specification."""

    @property
    def generated(self) -> bool:
        """Whether it says that a model made the file, or a part of it."""
        return self.source_type in (TRAINED, COMPOSITE)


@dataclass(frozen=True, kw_only=True)
class Signing:
    """A certificate with its key, by which manifests are signed."""

    certificates: str
    """The signer's certificate and those that vouch for it, in PEM."""
    key: str = field(repr=False)
    """The private key of the first, in PEM."""
    algorithm: str
    """How C2PA names the signature, such as ``es256``."""

    @classmethod
    def load(cls, certificates: str | Path, key: str | Path) -> Self:
        """Read a certificate chain and its key.

        Raises:
            ValueError: If one cannot be read, they do not belong together, or the key is of a kind that C2PA has no
                name for.
        """
        c2pa_library()
        x509: Any = importlib.import_module("cryptography.x509")
        serialization: Any = importlib.import_module("cryptography.hazmat.primitives.serialization")
        chain, secret = _read(certificates), _read(key)
        try:
            first = x509.load_pem_x509_certificates(chain)[0]
        except (ValueError, IndexError):
            raise ValueError(f"{certificates} has no certificate in PEM form") from None
        try:
            private = serialization.load_pem_private_key(secret, None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{key} has no private key without a password in PEM form: {error}") from None
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
            raise ValueError(f"the key {key} does not belong to the certificate {certificates}")
        return cls(certificates=chain.decode(), key=secret.decode(), algorithm=_algorithm(private, str(key)))

    def check(self, suffix: str, container: type[Container] | None) -> None:
        """Find out whether files of a kind can hold a signature.

        Raises:
            ValueError: If not, with those that can.
        """
        if container is None or container.media_type is None:
            able = [end for kind in entries("container").values() if kind.media_type for end in kind.suffixes]
            raise ValueError(f"files that end with {suffix} hold no C2PA signature; {', '.join(able)} do")

    def sign(self, content: bytes, container: type[Container], mark: Mark) -> bytes:
        """A whole file with a signed manifest of its mark.

        Raises:
            ValueError: If the library refuses, with its reason.
        """
        c2pa = c2pa_library()
        made = io.BytesIO()
        try:
            settings = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
            with c2pa.Builder(json.dumps(_manifest(mark)), context=c2pa.Context(settings)) as builder:
                builder.sign(self._signer, container.media_type, io.BytesIO(content), made)
        except c2pa.C2paError as error:
            raise ValueError(f"the C2PA signature failed: {' '.join(str(error).split())}") from None
        return made.getvalue()

    @cached_property
    def _signer(self) -> Any:
        c2pa = c2pa_library()
        chain, key = self.certificates.encode(), self.key.encode()
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, chain, key, None))


def read_manifest(content: bytes, media_type: str, trust: str | None = None) -> Manifest | None:
    """The manifest of a file; ``None`` where it has none.

    Args:
        content: The whole file.
        media_type: Its kind.
        trust: Certificates in PEM that signers may go back to; nobody is trusted without.

    Raises:
        BrokenFileError: If there is one that cannot be read.
    """
    c2pa = c2pa_library()
    settings: dict[str, Any] = dict(_OFFLINE)
    if trust is not None:
        settings["trust"] = {"trust_anchors": trust, "trust_config": _PURPOSES}
    try:
        context = c2pa.Context(c2pa.Settings.from_dict(settings))
        reader = c2pa.Reader.try_create(media_type, io.BytesIO(content), context=context)
        if reader is None:
            return None
        with reader:
            found, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        raise BrokenFileError(f"its C2PA manifest is broken: {' '.join(str(error).split())[:120]}") from None
    active = found["manifests"][found["active_manifest"]]
    actions = [
        action
        for assertion in active.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    source = next((action["digitalSourceType"] for action in actions if "digitalSourceType" in action), "")
    signature = active.get("signature_info", {})
    claim = active.get("claim_generator_info", [{}])[0]
    names = [signature.get("common_name"), signature.get("issuer")]
    return Manifest(
        source_type=source.rpartition("/")[2],
        signer=", ".join(name for name in names if name),
        software=f"{claim.get('name', '')} {claim.get('version', '')}".strip(),
        valid=state in (_VALID, _TRUSTED),
        trusted=state == _TRUSTED,
        problems=tuple(dict.fromkeys(status["code"] for status in found.get("validation_status") or ())),
    )


def c2pa_library() -> Any:
    """The C2PA library.

    Raises:
        ValueError: If it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError) as error:  # OSError: its shared library does not load
        raise ValueError(f"C2PA signatures need c2pa-python ({error}): pip install 'unistep[c2pa]'") from None


def _manifest(mark: Mark) -> dict[str, Any]:
    agent = {"name": f"{PROGRAM} model {mark.model}".strip()}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": VOCABULARY + mark.source_type,
        "softwareAgent": agent,
    }
    generation = {
        "model": mark.model,
        "modelHash": mark.model_hash and f"sha256:{mark.model_hash}",
        "seed": mark.seed,
        "condition": json.loads(json.dumps(dict(mark.condition), default=str)),
    }
    return {
        "claim_generator_info": [{"name": PROGRAM, "version": program_version()}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": ASSERTION, "data": {name: value for name, value in generation.items() if value}},
        ],
    }


def _algorithm(private: Any, named: str) -> str:
    kinds = "cryptography.hazmat.primitives.asymmetric"
    ec: Any = importlib.import_module(f"{kinds}.ec")
    ed25519: Any = importlib.import_module(f"{kinds}.ed25519")
    rsa: Any = importlib.import_module(f"{kinds}.rsa")
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise ValueError(f"{named} is a key of another kind than C2PA signs with: an elliptic curve, Ed25519 or RSA")


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
