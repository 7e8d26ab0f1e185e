"""A hub that has all that routes need, and what its people's passwords are kept as."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from hub.settings import HubSettings
from tests.hub.access.world import PASSWORD
from tests.hub.conftest import Hub, running_hub


@pytest.fixture
async def table_hub(hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub that has all that routes need, and never slows sign-ins down."""
    more: dict[str, Any] = {
        "login_attempts_address_max": 10_000,
        "artifacts_dir": tmp_path / "artifacts",
        "broker_provisioning": "file",
        "broker_credentials_file": tmp_path / "credentials.json",
        "agent_mqtt_host": "broker.lab",
    }
    async with running_hub(HubSettings(**hub_settings, **more)) as hub:
        yield hub


@pytest.fixture(scope="module")
def password_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
