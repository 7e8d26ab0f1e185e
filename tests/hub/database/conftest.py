"""A bare connection to a new, empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from hub.database.pool import Connection
from hub.database.storage import connect
from hub.settings import HubSettings


@pytest.fixture
def settings(database_url: str) -> HubSettings:
    """Settings with an empty database and quick retries."""
    return HubSettings(database_url=SecretStr(database_url), database_retry_s_max=0.3, database_connect_timeout_s=2)


@pytest.fixture
async def connection(settings: HubSettings) -> AsyncIterator[Connection]:
    """A connection with codecs."""
    opened = await connect(settings)
    yield opened
    opened.terminate()
