"""A mark as an XMP packet, which tools that know nothing of Unistep read.

References:
    ISO 16684-1, Extensible metadata platform (XMP); IPTC Photo Metadata Standard, the property ``Digital Source Type``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from unistep.provenance.mark import VOCABULARY, Mark

LARGEST = 60_000
"""Bytes that a packet may have: a segment of a JPEG file holds no more."""
OWN = "urn:unistep:provenance/"
"""Namespace of what no standard has a property for."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_MOST_READ = 2**20  # bytes of a foreign packet that are looked at


def to_xmp(mark: Mark) -> bytes:
    """The packet of a mark.

    Raises:
        ValueError: If a file could not hold it.
    """
    condition = json.dumps(dict(mark.condition), ensure_ascii=False, default=str) if mark.condition else ""
    properties = {
        "Iptc4xmpExt:DigitalSourceType": VOCABULARY + mark.source_type,
        "xmp:CreatorTool": mark.software,
        "unistep:Model": mark.model,
        "unistep:ModelHash": mark.model_hash and f"sha256:{mark.model_hash}",
        "unistep:Seed": mark.seed,
        "unistep:Condition": condition,
    }
    written = "\n   ".join(f"{name}={quoteattr(_printable(value))}" for name, value in properties.items() if value)
    packet = (
        f'{_HEAD}\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="{_XMP}" xmlns:unistep="{OWN}"\n'
        f'   {written}/>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>'
    ).encode()
    if len(packet) > LARGEST:
        raise ValueError(f"the provenance has {len(packet):,} bytes, and a file holds {LARGEST:,}: is a text so long?")
    return packet


def from_xmp(packet: bytes) -> Mark | None:
    """The mark in a packet of any program; ``None`` where it names no digital source type.

    Raises:
        ValueError: If it is no XMP.
    """
    try:
        root = ElementTree.fromstring(packet[:_MOST_READ].decode("utf-8", "strict").strip("\x00 \n\r\t\ufeff"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"its XMP packet is broken: {error}") from None
    found = dict(_properties(root))
    source = found.get(f"{{{_IPTC}}}DigitalSourceType")
    if not source:
        return None
    condition = found.get(f"{{{OWN}}}Condition", "")
    try:
        parsed = json.loads(condition) if condition else {}
    except ValueError:
        parsed = {"condition": condition}
    return Mark(
        source_type=source.rpartition("/")[2],
        software=found.get(f"{{{_XMP}}}CreatorTool", ""),
        model=found.get(f"{{{OWN}}}Model", ""),
        model_hash=found.get(f"{{{OWN}}}ModelHash", "").removeprefix("sha256:"),
        seed=found.get(f"{{{OWN}}}Seed", ""),
        condition=parsed if isinstance(parsed, dict) else {"condition": parsed},
    )


def _properties(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Simple properties, written as attributes or as elements."""
    for description in root.iter(f"{{{_RDF}}}Description"):
        yield from description.attrib.items()
        for child in description:
            resource = child.get(f"{{{_RDF}}}resource")
            yield child.tag, resource or (child.text or "").strip()


def _printable(text: str) -> str:
    """A text without the characters that XML cannot have."""
    if text.isascii() and text.isprintable():  # nearly always, and each of a million samples has several
        return text
    return "".join(c for c in text if c in "\t\n\r" or (c >= "\x20" and c not in "\ufffe\uffff" and not _lone(c)))


def _lone(character: str) -> bool:
    """Whether it is half of a pair, as a name of a file may have it that is no UTF-8."""
    return "\ud800" <= character <= "\udfff"
