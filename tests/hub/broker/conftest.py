"""A link to a real broker, and a plain client beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.broker.link import BrokerLink
from hub.settings import HubSettings
from tests.fixtures.servers import Mosquitto


@pytest.fixture
def broker_settings(mosquitto: Mosquitto, tmp_path: Path) -> HubSettings:
    """Settings with which the hub reaches the broker."""
    password = tmp_path / "mqtt-password"
    password.write_text(mosquitto.password)
    return HubSettings(
        mqtt_port=mosquitto.port,
        mqtt_username=mosquitto.username,
        mqtt_password_file=password,
        broker_provisioning="dynsec",
        broker_retry_s_max=0.5,
    )


@asynccontextmanager
async def running(link: BrokerLink, *, connected: bool = True) -> AsyncIterator[BrokerLink]:
    """The link, run while the block lasts."""
    task = asyncio.create_task(link.run())
    try:
        if connected:
            await asyncio.wait_for(link.wait_connected(), 20)
        yield link
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
