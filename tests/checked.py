"""The run-time type checker of the tests: an ``int`` passes for a ``float``, as it does for static checkers."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
