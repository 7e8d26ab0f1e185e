"""Fixtures that all tests share; what each gives is said where it is defined."""

from __future__ import annotations

import pytest

pytest_plugins = [
    "pytester",
    "tests.fixtures.servers",
    "tests.fixtures.tiers",
    "tests.fixtures.stack",
    "tests.fixtures.network",
    "tests.fixtures.leftovers",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker begins one when the others have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
