"""What happened is remembered for as long as the settings say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hub.database.pool import acquire
from hub.events import purge
from hub.settings import EventSettings
from tests.fixtures.receiver import Receiver
from tests.hub.events.conftest import Lab, until


async def counts(lab: Lab) -> dict[str, Any]:
    tables = {
        "keys": "idempotency_keys",
        "succeeded": "webhook_deliveries where status = 'succeeded'",
        "dead": "webhook_deliveries where status = 'dead_lettered'",
        "waiting": "webhook_deliveries where status in ('pending', 'in_progress')",
        "events": "events where event_type = 'run.started'",
    }
    async with acquire(lab.hub.services.pool) as connection:
        return {name: await connection.fetchval(f"select count(*) from {table}") for name, table in tables.items()}


async def test_each_thing_is_forgotten_in_its_time(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "PIECE_ROWS", 2)
    receiver.answer = lambda request: (200 if request.path == "/good" else 500, {})
    for path in ("/good", "/bad", "/worse"):
        await lab.subscribe(receiver.url(path))
    await lab.owner.post("/projects", json={"name": "Keyed"}, headers={"Idempotency-Key": "k"})
    for _ in range(5):
        await lab.happens()
    await lab.delivered("succeeded", 5)
    await until(lambda: any(one.path == "/worse" for one in receiver.requests))
    pool, now = lab.hub.services.pool, lab.hub.services.now()
    async with acquire(pool) as connection:
        await connection.execute(
            "update webhook_deliveries set status = 'dead_lettered', finished_at = $1, locked_at = null "
            "where target_url like '%/bad'",
            now,
        )
    settings = EventSettings()
    standing = {"keys": 1, "succeeded": 5, "dead": 5, "waiting": 5, "events": 5}
    for later, gone in (
        (timedelta(hours=47), ()),
        (timedelta(hours=49), ("keys",)),
        (timedelta(days=31), ("succeeded",)),
        (timedelta(days=366), ("dead", "events")),
    ):
        await purge.forget(pool, settings, now + later)
        standing |= dict.fromkeys(gone, 0)
        assert await counts(lab) == standing
