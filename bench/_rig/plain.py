"""What a user would write without us, through the same broker and the same PostgreSQL.

`one`: a JSON message and an INSERT a reading. `hundred`: 100 readings a message, each message one transaction that
copies into a staging table and inserts from it with ON CONFLICT DO NOTHING, on as many connections as the hub uses.
Both convert. The sender stays a little ahead of the receiver, as the broker drops what waits beyond its bound.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import asyncpg
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

AHEAD_MESSAGES = 1_000
TOPIC = "labrelay/v1/bench"
_TABLE = """
create table if not exists {table} (
    sensor text not null, time timestamptz not null, raw double precision, physical double precision,
    primary key (sensor, time)
)
"""
_INSERT = "insert into plain_one (sensor, time, raw, physical) values ($1, $2, $3, $4)"
_STAGE = "create temporary table staged (like plain_hundred) on commit delete rows"
_MERGE = "insert into plain_hundred select * from staged on conflict do nothing"


@dataclass(frozen=True, slots=True)
class Ends:
    """Where broker and database are."""

    port: int
    username: str
    password: str
    database_url: str


def rate(ends: Ends, seconds: float, *, per_message: int, connections: int) -> float:
    """Readings a second that were committed."""
    spawn = multiprocessing.get_context("spawn")
    received = spawn.Value("q", 0)
    stop = spawn.Event()
    sender = spawn.Process(target=_send, args=(ends, per_message, received, stop), daemon=True)
    receiver = spawn.Process(target=_receive, args=(ends, per_message, connections, received, stop), daemon=True)
    receiver.start()
    time.sleep(1.0)
    sender.start()
    try:
        deadline_s = time.monotonic() + 30
        while not received.value and time.monotonic() < deadline_s:
            time.sleep(0.01)
        before, began_s = received.value, time.monotonic()
        time.sleep(seconds)
        return float((received.value - before) * per_message / (time.monotonic() - began_s))
    finally:
        stop.set()
        for process in (sender, receiver):
            process.join(10)
            if process.is_alive():
                process.kill()


def _send(ends: Ends, per_message: int, received: Any, stop: Any) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(ends.username, ends.password)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", ends.port)
    client.loop_start()
    topic, sent = f"{TOPIC}/{per_message}", 0
    while not stop.is_set():
        if sent - received.value > AHEAD_MESSAGES:
            time.sleep(0.001)
            continue
        rows = [_reading(sent * per_message + place) for place in range(per_message)]
        client.publish(topic, json.dumps(rows[0] if per_message == 1 else rows), qos=1)
        sent += 1
    client.loop_stop()


def _reading(number: int) -> dict[str, Any]:
    return {"sensor": f"oven.p{number % 10}", "time": time.time(), "raw": float(number % 60_000 - 30_000)}


def _receive(ends: Ends, per_message: int, connections: int, received: Any, stop: Any) -> None:
    asyncio.run(_receiving(ends, per_message, connections, received, stop))


async def _receiving(ends: Ends, per_message: int, connections: int, received: Any, stop: Any) -> None:
    work = _insert_one if per_message == 1 else _merge_hundred
    pool = await asyncpg.create_pool(ends.database_url, min_size=connections, max_size=connections)
    table = "plain_one" if per_message == 1 else "plain_hundred"
    await pool.execute(_TABLE.format(table=table))
    queue: asyncio.Queue[Any] = asyncio.Queue(connections * 2)

    async def worker() -> None:
        async with pool.acquire() as connection:
            if per_message > 1:
                await connection.execute(_STAGE)
            while True:
                await work(connection, json.loads(await queue.get()))
                received.value += 1  # one event loop: nobody else writes it

    client = aiomqtt.Client("127.0.0.1", ends.port, username=ends.username, password=ends.password)
    try:
        async with asyncio.timeout(None) as patience, client, asyncio.TaskGroup() as group:
            for number in range(1 if per_message == 1 else connections):
                group.create_task(worker(), name=f"plain worker {number}")
            await client.subscribe(f"{TOPIC}/{per_message}", qos=1)
            async for message in client.messages:
                await queue.put(message.payload)
                if stop.is_set():
                    patience.reschedule(0)
    except TimeoutError:
        pool.terminate()


async def _insert_one(connection: Any, row: dict[str, Any]) -> None:
    await connection.execute(_INSERT, *_record(row))


async def _merge_hundred(connection: Any, rows: list[dict[str, Any]]) -> None:
    async with connection.transaction():
        await connection.copy_records_to_table("staged", records=[_record(row) for row in rows])
        await connection.execute(_MERGE)


def _record(row: dict[str, Any]) -> tuple[str, datetime, float, float]:
    raw = row["raw"]
    return row["sensor"], datetime.fromtimestamp(row["time"], UTC), raw, 0.5 * raw - 1.0
