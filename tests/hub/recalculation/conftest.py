"""The same laboratory as that of sessions."""

from __future__ import annotations

from tests.hub.sessions.conftest import lab

__all__ = ["lab"]
