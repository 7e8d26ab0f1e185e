"""What `hub.ingest.catalogue` and `hub.ingest.lookup` ask the database."""

from __future__ import annotations

ENTER = "select enter_ingest($1::integer[])"

AGENTS = "select id, project_id, status, refused_since is null as is_welcome from agents where id = any($1::uuid[])"

# Partitions are dropped one after the other, so most of their ranges join up.
DROPPED = """
select lower(r) as time_from, upper(r) as time_to
from (select unnest(range_agg(tstzrange(time_from, time_to))) as r from dropped_ranges) joined
"""

DICTIONARY = """
select d.epoch_id, d.ref, d.sensor_name, d.signal, b.state, b.sensor_id,
       s.status as sensor_status, coalesce(s.project_id, a.project_id) as project_id, x.id as series_id
from dictionary_series d
join epochs e on e.id = d.epoch_id
join agents a on a.id = e.agent_id
left join agent_bindings b on b.agent_id = e.agent_id and b.sensor_name = d.sensor_name
left join sensors s on s.id = b.sensor_id
left join series x on x.sensor_id = b.sensor_id and x.signal = d.signal
where d.epoch_id = any($1::integer[])
"""

DICTIONARY_PROFILES = """
select d.epoch_id, d.ref, d.profile_id, p.ref as profile_ref, p.kind, p.payload
from dictionary_profiles d
left join conversion_profiles p
    on p.id = d.profile_id and (p.published_at is not null or p.status in ('active', 'scheduled'))
where d.epoch_id = any($1::integer[])
"""

# The signals of sensors that post for themselves, in the shape of DICTIONARY.
SENSOR_SERIES = """
select s.id as sensor_id, s.name as sensor_name, x.signal, 'bound' as state,
       s.status as sensor_status, s.project_id, x.id as series_id
from sensors s join series x on x.sensor_id = s.id
where s.id = any($1::uuid[])
"""

# When these sensors took part in sessions that are archived.
ARCHIVED = """
select w.sensor_id, w.time_from, w.time_to
from session_sensors w join capture_sessions s on s.id = w.session_id
where s.archived and w.sensor_id = any($1::uuid[])
"""

# What the sensors' primary projects have decided of times.
POLICIES = """
select s.id as sensor_id, o.clock_skew_s, o.retention_days
from sensors s join project_policies o on o.project_id = s.project_id
where s.id = any($1::uuid[]) and (o.clock_skew_s is not null or o.retention_days > 0)
"""

# Profiles that are or were in force for all sessions, oldest first; a draft never was, even when it was deprecated.
PROFILES = """
select id, ref, sensor_id, kind, payload, valid_from, valid_to, published_at as decided_at, false as is_ruling,
       false as is_split, null::uuid[] as session_ids
from conversion_profiles
where sensor_id = any($1::uuid[]) and not is_split
  and (published_at is not null or status in ('active', 'scheduled'))
order by valid_from nulls first, ref
"""

# What recalculations have decided, oldest first, in the shape of PROFILES.
RULINGS = """
select p.id, p.ref, r.sensor_id, p.kind, p.payload, r.time_from as valid_from, r.time_to as valid_to, r.decided_at,
       true as is_ruling, false as is_split, r.session_ids
from profile_rulings r join conversion_profiles p on p.id = r.profile_id
where r.sensor_id = any($1::uuid[])
order by r.id
"""

# Profiles that hold for some sessions only, in the order in which they came into force, in the shape of PROFILES: for
# readings that name no session within the sessions' windows, and whatever their times for posts that name one.
SPLITS = """
select p.id, p.ref, p.sensor_id, p.kind, p.payload, x.time_from as valid_from, x.time_to as valid_to, x.decided_at,
       false as is_ruling, true as is_split, x.session_ids
from (
    select profile_id, time_from, time_to, decided_at, '{}'::uuid[] as session_ids
    from split_windows where sensor_id = any($1::uuid[])
    union all
    select profile_id, valid_from, valid_to, decided_at, array_agg(session_id order by session_id)
    from session_splits where sensor_id = any($1::uuid[])
    group by profile_id, valid_from, valid_to, decided_at
) x
join conversion_profiles p on p.id = x.profile_id
order by x.decided_at, p.id
"""


def _digested(query: str, order: str, columns: str = "t") -> str:
    """All rows of a query as one text."""
    return f"(select string_agg({columns}::text, ' ' order by {order}) from ({query}) t)"


def _of_epoch(query: str) -> str:
    return query.replace("= any($1::integer[])", "= wanted.id")


def _of_sensors(query: str) -> str:
    return query.replace("any($1::uuid[])", "any(concerned.sensor_ids)")


_TERM = """row(t.id, t.ref, t.sensor_id, t.kind, t.valid_from, t.valid_to, t.decided_at, t.is_ruling, t.is_split,
       t.session_ids)"""

# What the dictionaries of epochs rest on, in few bytes: everything that the statements above say of each, but for the
# content of published profiles, which never changes.
DIGESTS = f"""
select wanted.id as epoch_id, sha256(convert_to(row(
    {_digested(_of_epoch(DICTIONARY), "t.ref")},
    {_digested(_of_epoch(DICTIONARY_PROFILES), "t.ref", "row(t.ref, t.profile_id, t.profile_ref, t.kind)")},
    {_digested(_of_sensors(ARCHIVED), "t::text")},
    {_digested(_of_sensors(POLICIES), "t::text")},
    {_digested(_of_sensors(PROFILES), "t.ref", _TERM)},
    {_digested(_of_sensors(SPLITS), f"{_TERM}::text", _TERM)},
    {_digested(_of_sensors(RULINGS), f"{_TERM}::text", _TERM)}
)::text, 'UTF8')) as digest
from unnest($1::integer[]) as wanted (id)
cross join lateral (
    select array(
        select b.sensor_id from dictionary_series d
        join epochs e on e.id = d.epoch_id
        join agent_bindings b on b.agent_id = e.agent_id and b.sensor_name = d.sensor_name
        where d.epoch_id = wanted.id
    ) as sensor_ids
) as concerned
"""
