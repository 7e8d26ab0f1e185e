"""A hub that may send webhooks to this machine, a project in it, and someone who receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.database.ids import uuid7
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, PublicEvent, SubjectType
from hub.settings import HubSettings
from tests.fixtures.receiver import Receiver, receiving
from tests.hub.conftest import Hub, running_hub

WEBHOOKS = "/api/v1/webhooks"
SECRET = "a secret of ann's"


@dataclass
class Lab:
    """A hub, a project of the administrator's, and the administrator."""

    hub: Hub
    owner: httpx.AsyncClient
    project_id: str

    async def happens(self, *types: str, hub: Hub | None = None, **payload: Any) -> None:
        """Record events in one change."""
        services = (hub or self.hub).services
        async with begin_change(services.pool, HUB, services.now()) as change:
            for event_type in types or (PublicEvent.RUN_STARTED,):
                change.record(NewEvent(event_type, SubjectType.RUN, uuid7(), UUID(self.project_id), payload))

    async def subscribe(self, url: str, *types: str, **fields: Any) -> dict[str, Any]:
        """A webhook."""
        body = {"project_id": self.project_id, "target_url": url, "event_types": types or ["run.started"]}
        answer = await self.owner.post(WEBHOOKS, json={"secret": SECRET, **body, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def deliveries(self, **parameters: Any) -> list[dict[str, Any]]:
        """The project's deliveries, oldest first."""
        answer = await self.owner.get(f"{WEBHOOKS}/deliveries", params={"project_id": self.project_id, **parameters})
        assert answer.status_code == 200, answer.text
        return list(reversed(answer.json()["deliveries"]))

    async def delivered(self, status: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many deliveries have this status."""
        async with asyncio.timeout(30):
            while len(found := await self.deliveries(status=status)) < count:
                await asyncio.sleep(0.05)
        return found


async def until(done: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until `done` says so."""
    async with asyncio.timeout(timeout_s):
        while not done():
            await asyncio.sleep(0.02)


@pytest.fixture
def event_settings(hub_settings: dict[str, Any]) -> dict[str, Any]:
    """Webhooks may go to this machine, and are tried again soon."""
    return hub_settings | {"webhook_allowed_networks": ["127.0.0.0/8"], "webhook_retry_s": 0.05}


@pytest.fixture
async def lab(event_settings: dict[str, Any]) -> AsyncIterator[Lab]:
    """A hub with a project."""
    async with running_hub(HubSettings(**event_settings)) as hub:
        owner = await hub.signed_in()
        project = (await owner.post("/projects", json={"name": "Lab"})).json()
        yield Lab(hub, owner, project["id"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    with receiving() as running:
        yield running
