"""Fixtures that all tests share; what each gives is said where it is defined."""

pytest_plugins = [
    "pytester",
    "tests.fixtures.servers",
    "tests.fixtures.stack",
    "tests.fixtures.network",
    "tests.fixtures.leftovers",
]
