"""Registration: what must be there before a group is written, made in transactions of its own.

All of it is idempotent, so that a crash between registration and the group leaves nothing wrong, and two hubs may do it
at the same time. Sensors are bound by name: to the sensor of the agent's project with that name, else to a new one. A
binding stays as it is once made; a deleted name stays deleted.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import Connection
from hub.events.event import NewEvent, PublicEvent, SubjectType
from shared.records import SeriesEntry

REFUSED_REMEMBERED_MAX = 100
"""Names beyond an agent's bound that are kept, so that its owner sees them; further ones are refused all the same."""
SIGNALS_PER_SENSOR_MAX = 1000

_OPEN_EPOCHS = """
insert into epochs (agent_id, epoch)
select w.agent_id, w.epoch
from unnest($1::uuid[], $2::bytea[], $3::boolean[]) as w (agent_id, epoch, imported)
join agents on agents.id = w.agent_id and (agents.refused_since is null or w.imported)
order by w.agent_id, w.epoch
on conflict (agent_id, epoch) do nothing
"""
_EPOCH_IDS = """
select e.agent_id, e.epoch, e.id
from unnest($1::uuid[], $2::bytea[]) as w (agent_id, epoch)
join epochs e on e.agent_id = w.agent_id and e.epoch = w.epoch
"""
_LOCK_AGENT = """
select project_id from agents where id = $1 and (refused_since is null or $2) for no key update
"""
_BOUND = "select sensor_name from agent_bindings where agent_id = $1 and sensor_name = any($2::text[])"
_BINDING_COUNTS = """
select count(*) filter (where state = 'bound') as bound, count(*) filter (where state = 'refused') as refused
from agent_bindings where agent_id = $1
"""
_NEW_SENSORS = """
insert into sensors (id, project_id, name, type, input_unit, status)
select n.id, $1, n.name, 'agent', n.unit, 'active'
from unnest($2::uuid[], $3::text[], $4::text[]) as n (id, name, unit)
order by lower(n.name)
on conflict (project_id, lower(name)) do nothing
returning id, name, input_unit
"""
_NEW_SENSOR_PROJECTS = """
insert into sensor_projects (sensor_id, project_id)
select id, project_id from sensors where id = any($1::uuid[])
on conflict do nothing
"""
_BIND = """
insert into agent_bindings (agent_id, sensor_name, sensor_id, state)
select $1, n.name, s.id, 'bound'
from unnest($3::text[]) as n (name)
join sensors s on s.project_id = $2 and lower(s.name) = lower(n.name)
on conflict (agent_id, sensor_name) do nothing
"""
_REFUSE = """
insert into agent_bindings (agent_id, sensor_name, state)
select $1, n.name, 'refused' from unnest($2::text[]) as n (name)
on conflict (agent_id, sensor_name) do nothing
"""
_NEW_SERIES = """
insert into series (sensor_id, signal, unit)
select distinct on (b.sensor_id, n.signal) b.sensor_id, n.signal, n.unit
from unnest($2::text[], $3::text[], $4::text[]) as n (name, signal, unit)
join agent_bindings b on b.agent_id = $1 and b.sensor_name = n.name
where b.state = 'bound' and b.sensor_id is not null
order by b.sensor_id, n.signal
on conflict (sensor_id, signal) do nothing
"""
_SERIES_OF_EPOCHS = """
insert into series (sensor_id, signal, unit)
select distinct on (b.sensor_id, d.signal) b.sensor_id, d.signal, d.unit
from dictionary_series d
join epochs e on e.id = d.epoch_id
join agent_bindings b on b.agent_id = e.agent_id and b.sensor_name = d.sensor_name
where d.epoch_id = any($1::integer[]) and b.state = 'bound' and b.sensor_id is not null
order by b.sensor_id, d.signal
on conflict (sensor_id, signal) do nothing
"""
_SERIES_OF_SENSOR = """
insert into series (sensor_id, signal)
select s.id, n.signal
from unnest($2::text[]) as n (signal)
join sensors s on s.id = $1
where (select count(*) from series x where x.sensor_id = s.id) + cardinality($2::text[]) <= $3
order by n.signal
on conflict (sensor_id, signal) do nothing
"""


async def open_epochs(
    connection: Connection, keys: Sequence[tuple[UUID, bytes]], imported: Container[tuple[UUID, bytes]] = ()
) -> dict[tuple[UUID, bytes], int]:
    """Ids of epochs, made where they are new. Those of strangers and of refused agents are missing, unless imported."""
    agents, epochs = [agent_id for agent_id, _ in keys], [epoch for _, epoch in keys]
    await connection.execute(_OPEN_EPOCHS, agents, epochs, [key in imported for key in keys])
    return {(row["agent_id"], row["epoch"]): row["id"] for row in await connection.fetch(_EPOCH_IDS, agents, epochs)}


async def register(
    connection: Connection, agent_id: UUID, entries: Sequence[SeriesEntry], *, sensors_max: int, imported: bool = False
) -> list[NewEvent]:
    """Bind the sensors that an agent names, registering those that nobody knows, and make their series.

    Args:
        connection: in a transaction.
        sensors_max: sensors that one agent may have; names beyond it are refused.
        imported: an owner brings this, whatever the agent itself may do.

    Returns: what is to be told of it.
    """
    project_id = await connection.fetchval(_LOCK_AGENT, agent_id, imported)
    if project_id is None:
        return []
    units = {entry.sensor: entry.unit for entry in reversed(entries)}
    bound = {row["sensor_name"] for row in await connection.fetch(_BOUND, agent_id, list(units))}
    new = sorted(units.keys() - bound)
    events: list[NewEvent] = []
    if new:
        events = await _bind(connection, agent_id, project_id, {name: units[name] for name in new}, sensors_max)
    await connection.execute(
        _NEW_SERIES,
        agent_id,
        [entry.sensor for entry in entries],
        [entry.signal for entry in entries],
        [entry.unit for entry in entries],
    )
    return events


async def _bind(
    connection: Connection, agent_id: UUID, project_id: UUID, units: dict[str, str], sensors_max: int
) -> list[NewEvent]:
    counts = await connection.fetchrow(_BINDING_COUNTS, agent_id)
    assert counts is not None
    room = max(sensors_max - counts["bound"], 0)
    names = list(units)
    taken, refused = names[:room], names[room:]
    events: list[NewEvent] = []
    if taken:
        ids = [uuid7() for _ in taken]
        made = await connection.fetch(_NEW_SENSORS, project_id, ids, taken, [units[name] for name in taken])
        events = [_registered(row["id"], row["name"], row["input_unit"], project_id, agent_id) for row in made]
        await connection.execute(_NEW_SENSOR_PROJECTS, ids)
        await connection.execute(_BIND, agent_id, project_id, taken)
    remembered = max(REFUSED_REMEMBERED_MAX - counts["refused"], 0)
    if refused[:remembered]:
        await connection.execute(_REFUSE, agent_id, refused[:remembered])
    return events


def _registered(sensor_id: UUID, name: str, unit: str, project_id: UUID, agent_id: UUID) -> NewEvent:
    told = {
        "sensor_id": str(sensor_id),
        "id": str(sensor_id),
        "project_id": str(project_id),
        "name": name,
        "type": "agent",
        "input_unit": unit,
        "status": "active",
        "agent_id": str(agent_id),
    }
    return NewEvent(PublicEvent.SENSOR_REGISTERED, SubjectType.SENSOR, sensor_id, project_id, told)


async def complete_series(connection: Connection, epoch_ids: Sequence[int]) -> None:
    """Make series that are missing since a name was bound to another sensor."""
    await connection.execute(_SERIES_OF_EPOCHS, epoch_ids)


async def open_signals(connection: Connection, sensor_id: UUID, signals: Sequence[str]) -> None:
    """Make the series of a sensor that posts for itself, within `SIGNALS_PER_SENSOR_MAX`."""
    await connection.execute(_SERIES_OF_SENSOR, sensor_id, sorted(signals), SIGNALS_PER_SENSOR_MAX)
