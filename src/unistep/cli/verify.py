"""``unistep verify``: what files say of where they come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from unistep.cli.parse import parse
from unistep.data.sources.paths import printable

if TYPE_CHECKING:
    from unistep.provenance import Finding

UNREADABLE = 2
"""Exit code where a file cannot be read, or is damaged."""
UNMARKED = 3
"""Exit code where a file says nothing of a model."""
INVALID = 4
"""Exit code where a signature does not hold: the file was changed after it was signed, or the signature is broken."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Tell what files say of where they come from.

    Exit code 0: all say that a model made them, and no signature is broken; 3: one says nothing of a model; 4: the
    signature of one does not hold; 2: one cannot be read, which is said of it among the others.
    """

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES")]
    """Files, or folders of them."""
    trust: Path | None = None
    """Certificates in PEM form that the signer of a C2PA manifest may go back to; nobody is trusted without."""
    json: bool = False
    """Print one JSON object for each file."""


def run(arguments: Sequence[str]) -> int:
    """Look at each file, and say what was found."""
    options = parse(VerifyOptions, "verify", arguments)
    from unistep.provenance import read_file

    trust = None if options.trust is None else _text(options.trust)
    if not options.files:
        raise ValueError("FILES is missing; see unistep verify --help")
    codes, paths = [], _expanded(options.files)
    for path in paths:
        try:
            found = read_file(path, trust)
        except ValueError as error:
            if len(paths) == 1:
                raise
            codes.append(UNREADABLE)
            print(json.dumps({"file": str(path), "error": str(error)}) if options.json else printable(str(error)))
            continue
        codes.append(_code(found))
        print(json.dumps({"file": str(path), **asdict(found)}, default=str) if options.json else _lines(path, found))
    return UNREADABLE if UNREADABLE in codes else max(codes)


def _code(found: Finding) -> int:
    if found.manifest is not None and not found.manifest.valid:
        return INVALID
    return 0 if found.generated else UNMARKED


def _lines(path: Path, found: Finding) -> str:
    """What was found, a line for each fact; neither a name nor what a file says can forge one, or move the cursor."""
    verdict = "made by a model" if found.generated else "says nothing of a model"
    facts: dict[str, Any] = {}
    if found.kind is None:
        facts["kind"] = "unknown; no mark can be looked for"
    if found.mark is not None:
        mark = found.mark
        facts |= {
            "digital source type": mark.source_type,
            "software": mark.software,
            "model": mark.model,
            "weights": mark.model_hash and f"sha256:{mark.model_hash}",
            "seed": mark.seed,
            "condition": ", ".join(f"{name} {value}" for name, value in mark.condition.items()),
        }
    if found.manifest is not None:
        manifest = found.manifest
        state = "valid" if manifest.valid else f"does NOT hold ({', '.join(manifest.problems)})"
        trust = "trusted" if manifest.trusted else "by nobody who is trusted here; --trust names certificates"
        facts["C2PA signature"] = f"{state}, {trust if manifest.valid else 'do not rely on the file'}"
        facts |= {"signed by": manifest.signer, "signed type": manifest.source_type}
    if found.unread:
        facts["not read"] = found.unread
    said = (f"  {name}: {printable(str(value))}" for name, value in facts.items() if value)
    return "\n".join([f"{printable(str(path))}: {verdict}", *said])


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Files, and those in folders.

    Raises:
        ValueError: If there is no such file, or a folder has none.
    """
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith("."))
        if not inside:
            raise ValueError(f"{path} has no files")
        found += inside
    return found


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no PEM'}") from None
