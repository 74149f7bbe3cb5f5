"""Options of ``unistep serve`` that become its settings."""

from __future__ import annotations

import pytest

from unistep.cli.parse import parse
from unistep.cli.serve import ServeOptions, check, settings_of
from unistep.serving.hosts import LOOPBACK


def options(*words: str) -> ServeOptions:
    found = parse(ServeOptions, "serve", ["fashion", "--device", "cpu", *words])
    check(found)
    return found


def test_names_under_which_it_answers():
    assert set(settings_of(options()).hosts) == set(LOOPBACK)
    more = options("--allow-host", "a.example", "--allow-host", "b.example")
    assert set(settings_of(more).hosts) == {*LOOPBACK, "a.example", "b.example"}
    assert settings_of(options("--host", "0.0.0.0")).hosts == ()
    assert settings_of(options("--host", "0.0.0.0", "--allow-host", "a.example")).hosts == ("a.example",)


def test_origins_are_as_browsers_write_them():
    found = settings_of(options("--origins", "https://Pages.Example.org", "http://localhost:5173"))
    assert found.origins == ("https://pages.example.org", "http://localhost:5173")


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "", "*", "a b", "[::1]"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="--allow-host is a name"):
        options("--allow-host", name)
