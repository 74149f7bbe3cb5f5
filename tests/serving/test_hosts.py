"""Names under which a server answers."""

from __future__ import annotations

import pytest

from unistep.serving.hosts import host_name, hosts_of


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_at_a_loopback_address_only_its_own_names(address):
    assert {"localhost", "127.0.0.1", "::1", address} == set(hosts_of(address, ()))
    assert "proxy.example.org" in hosts_of(address, ("Proxy.Example.org",))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "server.example.org"])
def test_elsewhere_any_name_unless_some_are_given(address):
    assert hosts_of(address, ()) == ()
    assert hosts_of(address, ("example.org",)) == ("example.org",)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("localhost.:80", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        ("localhost.evil.example:8000", "localhost.evil.example"),
        ("evil.example#localhost", "evil.example#localhost"),
        ("evil.example@localhost", "evil.example@localhost"),
        ("[::1].evil.example", ""),
        ("[localhost", ""),
    ],
)
def test_the_name_of_a_header(header, name):
    assert host_name(header) == name
