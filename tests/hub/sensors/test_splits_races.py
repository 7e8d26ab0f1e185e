"""Publications, plain and split, while readings come and recalculations run: each reading was stored between two steps.

The race is run a few times; `LABRELAY_RACES=200` runs it so often.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.database.pool import acquire
from hub.recalculation import chunk
from hub.recalculation.work import Recalculation
from hub.settings import HubSettings
from shared.clock import AnchoredClock
from tests.hub.conftest import Hub, running_hub
from tests.hub.recalculation.census import require_sums
from tests.hub.sensors.splits_race import Race, new_race
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

RACES = int(os.environ.get("LABRELAY_RACES", "3"))
READINGS_A_STEP = 40
pytestmark = pytest.mark.timeout(120 + 20 * RACES)

_LEFT = "select exists (select from backfill_tasks where status in ('pending', 'running'))"


@pytest.fixture
def hub_settings(hub_settings: dict[str, Any]) -> dict[str, Any]:
    """Whoever signs in stays so however long it takes."""
    return hub_settings | {"access_token_s": 12 * 3600}


@pytest.fixture
async def hubs(lab: Lab, hub_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Hub]]:
    """Two on one database."""
    monkeypatch.setattr(chunk, "READINGS_MAX", READINGS_A_STEP)
    async with running_hub(HubSettings(**hub_settings)) as other:
        yield [lab.hub, other]


async def _recalculate(hub: Hub, steered: asyncio.Event) -> None:
    """What the hub's job does, over and over until all that was asked for is done."""
    job = Recalculation(hub.services.storage, AnchoredClock())
    while not (steered.is_set() and not await _is_left(hub)):
        await job.once()
        await asyncio.sleep(0.01)


async def _is_left(hub: Hub) -> bool:
    async with acquire(hub.services.pool) as connection:
        return bool(await connection.fetchval(_LEFT))


async def _run(race: Race) -> None:
    steered = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        steering = group.create_task(race.steer(), name="steer")
        steering.add_done_callback(lambda _: steered.set())
        for hub in race.hubs:
            group.create_task(_recalculate(hub, steered), name="recalculation")
        group.create_task(race.feed(), name="agent")
        group.create_task(race.post(), name="posts")
        group.create_task(race.stream(), name="stream")


async def test_publications_while_readings_come_and_recalculations_run(lab: Lab, hubs: list[Hub]) -> None:
    telling = 0
    for number in range(RACES):
        race = await new_race(lab, hubs, number)
        await _run(race)
        telling += await race.check()
    await require_sums(lab)
    assert telling, "some readings must tell before or behind which step they came"
