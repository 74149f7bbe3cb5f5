"""The names under which a server answers, so that no page that calls itself by one of its own reaches it.

A page of another origin may not read what a server says. But its owner may let its name stand for this machine's
address afterwards (DNS rebinding); the browser then takes both for one origin, and only the ``Host`` header has the
other name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""


def is_loopback(address: str) -> bool:
    """Whether only programs of this machine reach an address.

    Args:
        address: A name or an address.
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def hosts_of(address: str, more: Sequence[str]) -> tuple[str, ...]:
    """The names under which a server answers; none for any.

    Args:
        address: Where it listens.
        more: Names that were allowed.
    """
    return tuple(one.lower() for one in ((*LOOPBACK, address, *more) if is_loopback(address) else more))


def host_name(header: str) -> str:
    """The name in a ``Host`` header, without its port.

    Args:
        header: Such as ``localhost:8000`` or ``[::1]:8000``; of anything else nothing comes.
    """
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]*?)\.?)(?::[0-9]*)?", header.strip().lower())
    return "" if found is None else found[1] or found[2] or ""
