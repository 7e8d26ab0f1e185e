"""No cancellation is lost: on Python 3.11 `asyncio.wait_for` swallows one that comes together with the result."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("agent", "drivers", "hub", "labrelay", "shared")


def test_nothing_that_is_shipped_waits_with_wait_for() -> None:
    modules = [path for package in SHIPPED for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 200
    found = [str(path.relative_to(ROOT)) for path in modules if re.search(r"\basyncio\.wait_for\(", path.read_text())]
    assert found == [], "use asyncio.timeout"
