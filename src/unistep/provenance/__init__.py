"""What a model makes says so: the mark in a file, how each kind of file holds it, and what a file says of itself."""

from __future__ import annotations

from unistep.provenance.container import Container
from unistep.provenance.embedding import check_signing, mark_content, mark_file
from unistep.provenance.mark import COMPOSITE, TRAINED, Mark, Provenance
from unistep.provenance.reading import Finding, read_content, read_file
from unistep.provenance.signing import Signing

__all__ = [
    "COMPOSITE",
    "TRAINED",
    "Container",
    "Finding",
    "Mark",
    "Provenance",
    "Signing",
    "check_signing",
    "mark_content",
    "mark_file",
    "read_content",
    "read_file",
]
