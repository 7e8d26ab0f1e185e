"""What a revoked agent holds gets in by its exported spool: once, counted, and by its owner only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from hub.database.ids import uuid7
from hub.database.pool import transaction
from hub.settings import HubSettings
from shared import wire
from shared.records import Dictionary, Opening, SeriesEntry
from tests.hub.conftest import Hub, running_hub
from tests.hub.export.test_download import listening
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns


async def _agent(hub: Hub, client: httpx.AsyncClient, status: str = "compromised") -> Agent:
    project = await client.post("/projects", json={"name": f"lab {uuid4()}"})
    agent = Agent(uuid7())
    async with hub.services.pool.acquire() as connection:
        await connection.execute(
            "insert into agents (id, project_id, name, mqtt_username, status, refused_since) "
            "values ($1, $2, 'pc', 'pc', $3, case when $3 <> 'enrolled' then now() end)",
            agent.id,
            UUID(project.json()["id"]),
            status,
        )
    return agent


def _readings(agent: Agent, first: int, count: int) -> bytes:
    times = [NOW_US + 1000 * (first + number) for number in range(count)]
    body = wire.data_body(columns([1] * count, times, [float(first + n) for n in range(count)]), derivable=False)
    return agent.seal(body, taken_through_us=times[-1])


def _spool(agent: Agent) -> list[bytes]:
    """What an agent holds of an epoch that the hub has never heard of."""
    opening = agent.seal(wire.record_body(Opening(started_us=NOW_US, version="1", host="pc")))
    names = agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven", "value", "V")], [])))
    return [opening, names, *(_readings(agent, 100 * number, 100) for number in range(5))]


async def _send(client: httpx.AsyncClient, agent: Agent, content: bytes, *, piece: int = 1000) -> httpx.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    return await client.post(f"/api/v1/agents/{agent.id}/import", content=pieces())


async def _stored(hub: Hub) -> int:
    async with hub.services.pool.acquire() as connection:
        return int(await connection.fetchval("select count(*) from readings"))


async def _settled(hub: Hub, client: httpx.AsyncClient, agent: Agent) -> Any:
    path = f"/api/v1/agents/{agent.id}"
    project_id = (await client.get(path)).json()["project_id"]
    events = (await client.get("/api/v1/events", params={"project_id": project_id})).json()["events"]
    return [event["payload"] for event in events if event["event_type"] == "agent.imported"]


async def test_a_compromised_agents_spool_is_stored_once_however_often_it_is_sent(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        agent = await _agent(hub, client)
        content = b"".join(_spool(agent))
        first = await _send(client, agent, content)
        assert first.status_code == 200, first.text
        told = first.json()
        assert (told["bytes"], told["batches"], told["unreadable_bytes"]) == (len(content), 7, 0)
        assert told["outcomes"] in ({"committed": 7}, {"committed": 6, "known": 1})
        again = (await _send(client, agent, content, piece=7)).json()
        assert again["outcomes"] == {"known": 7}
        assert (told["readings_stored"] + told["readings_set_aside"], again["readings_stored"]) == (500, 0)
        assert await _stored(hub) == told["readings_stored"] == 500
        audit = await _settled(hub, client, agent)
        assert [one["complete"] for one in audit] == [True, True]


async def test_each_batch_is_explained(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        agent, stranger = await _agent(hub, client, "retired"), Agent(uuid7())
        spool = _spool(agent)
        assert (await _send(client, agent, b"".join(spool[:3]))).json()["outcomes"]["committed"] == 3
        other = wire.data_body(columns([1], [NOW_US], [9.0]), derivable=False)
        nameless = wire.data_body(columns([77], [NOW_US], [1.0]), derivable=False)
        odd = [
            agent.seal(other, seq=3),
            agent.seal(nameless, seq=50),
            stranger.seal(other),
            spool[4][:-1] + b"\0\0",
        ]
        told = (await _send(client, agent, b"".join([*odd, spool[3]]))).json()
        assert told["outcomes"] == {"conflict": 1, "later": 1, "not_yours": 1, "committed": 1}
        assert told["unreadable_bytes"] == len(odd[3])
        assert {(one["seq"], one["outcome"]) for one in told["unsettled"]} == {
            (3, "conflict"),
            (50, "later"),
            (1, "not_yours"),
        }
        assert await _stored(hub) == 200


async def test_what_a_compromised_agent_still_sends_is_refused_without_a_word(room: Room) -> None:
    silenced, other = await room.agent("silenced"), await room.agent("other")
    async with room.writing() as writer:
        await room.send(writer, silenced, silenced.dictionary("oven"))
        async with transaction(room.bench.pool) as connection:
            await connection.execute(
                "update agents set status = 'compromised', refused_since = now() where id = $1", silenced.id
            )
        heard = len(room.publisher.acks)
        writer.offer(silenced.data(columns([1], [NOW_US], [1.0])))
        silenced.epoch = os.urandom(16)
        writer.offer(silenced.opening())
        await room.send(writer, other, other.opening(), other.dictionary("kiln"))
    topics = [topic for topic, _ in room.publisher.acks[heard:]]
    assert topics
    assert not any(str(silenced.id) in topic for topic in topics)
    assert await room.value("select count(*) from readings") == 0
    assert await room.value("select count(*) from epochs where agent_id = $1", silenced.id) == 1


async def test_a_retired_agent_delivers_until_it_is_refused(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        async with transaction(room.bench.pool) as connection:
            await connection.execute("update agents set status = 'retired'")
        await room.send(writer, agent, agent.data(columns([1], [NOW_US], [1.0])))
        agent.epoch, agent.seq = os.urandom(16), 0
        await room.send(writer, agent, agent.opening(), agent.dictionary("kiln"))
    assert await room.value("select count(*) from readings") == 1
    assert await room.value("select count(*) from sensors where name = 'kiln'") == 1


async def test_nonsense_and_others_agents_are_refused(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client, aclosing(await hub.member("eve")) as eve:
        agent = await _agent(hub, client)
        told = (await _send(client, agent, b"no batch at all")).json()
        assert (told["batches"], told["unreadable_bytes"]) == (0, 15)
        assert (await _send(eve, agent, b"x")).status_code == 404


async def test_of_a_file_that_is_too_large_what_came_before_stays_and_is_told_of(hub_settings: dict[str, Any]) -> None:
    async with (
        running_hub(HubSettings(**hub_settings, agent_import_bytes_max=1100)) as hub,
        aclosing(await hub.signed_in()) as client,
    ):
        agent = await _agent(hub, client)
        spool = b"".join(_spool(agent))
        assert len(spool) > 1100
        answer = await _send(client, agent, spool)
        assert answer.status_code == 413
        (told,) = await _settled(hub, client, agent)
        assert told["complete"] is False
        assert told["readings_stored"] == await _stored(hub) > 0


async def test_of_a_file_whose_sender_leaves_what_came_before_stays_and_is_told_of(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    async with aclosing(await hub.signed_in()) as client, listening(hub) as address:
        agent = await _agent(hub, client)
        spool = b"".join(_spool(agent))
        head = (
            f"POST /api/v1/agents/{agent.id}/import HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {client.headers['authorization']}\r\nContent-Length: {len(spool) + 1}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(head.encode() + spool)
        await writer.drain()
        async with asyncio.timeout(30):
            while not await _stored(hub):
                await asyncio.sleep(0.05)
            writer.close()
            while not (told := await _settled(hub, client, agent)):
                await asyncio.sleep(0.05)
        assert [(one["complete"], one["readings_stored"]) for one in told] == [(False, await _stored(hub))]
    assert "event=request_failed" not in caplog.text
