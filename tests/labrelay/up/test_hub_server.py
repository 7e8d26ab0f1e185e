"""What the hub of `labrelay up` is told: who may register, by who can reach it."""

from __future__ import annotations

import pytest

from labrelay.up.hub_server import Address, is_local

LOOPBACK, LAN = Address("127.0.0.1", 8000, "127.0.0.1"), Address("0.0.0.0", 8000, "lab-pc.example")


def test_only_this_machine_reaches_what_listens_on_loopback() -> None:
    assert is_local(LOOPBACK, {"PATH": "/bin", "LABRELAY_HUB_LOG_LEVEL": "debug"})
    assert not is_local(LAN, {})


@pytest.mark.parametrize(
    ("name", "value", "local"),
    [
        ("HOST", "0.0.0.0", False),
        ("HOST", "", False),
        ("HOST", "lab-pc.example", False),
        ("Host", "192.0.2.7", False),
        ("HOST", "::1", True),
        ("HOST", "localhost", True),
        ("PUBLIC_URL", "https://lab.example", False),
        ("TRUSTED_PROXIES", "127.0.0.1", False),
    ],
)
def test_what_the_environment_says_of_ways_to_the_hub_counts(name: str, value: str, local: bool) -> None:
    assert is_local(LOOPBACK, {f"LABRELAY_HUB_{name}": value}) is local
