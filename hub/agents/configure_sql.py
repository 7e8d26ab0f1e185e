"""What `hub.agents.configure` asks the database."""

from __future__ import annotations

AGENTS = "select id from agents where status = 'enrolled'"

AGENTS_OF_SENSORS = "select distinct agent_id from agent_bindings where sensor_id = any($1::uuid[])"

GENERATION = "select config_generation from agents where id = $1 and status = 'enrolled'"

RAISE = """
update agents set config_generation = config_generation + 1
where id = $1 and status = 'enrolled'
returning config_generation
"""

# A sensor that is gone leaves its name behind, deleted.
BINDINGS = """
select b.sensor_name, case when b.state = 'bound' then b.sensor_id end as sensor_id,
       case when b.state <> 'bound' then b.state
            when b.sensor_id is null then 'deleted'
            when s.status = 'decommissioned' then s.status
            else b.state end as state
from agent_bindings b
left join sensors s on s.id = b.sensor_id
where b.agent_id = $1
order by b.sensor_name
"""

PROFILES = """
select p.sensor_id, p.id, p.version, p.kind, p.payload, p.valid_from, p.valid_to
from conversion_profiles p
where p.sensor_id in (select b.sensor_id from agent_bindings b where b.agent_id = $1 and b.state = 'bound')
  and not p.is_split and (p.published_at is not null or p.status in ('active', 'scheduled'))
order by p.valid_from nulls first, p.ref
"""

# When profiles hold that are for some sessions only, in the order in which they came into force. Agents convert what
# they take now; what is older, the hub converts.
SPLITS_HOURS = 1
SPLITS = f"""
select w.sensor_id, p.id, p.version, p.kind, p.payload, w.time_from as valid_from, w.time_to as valid_to
from split_windows w join conversion_profiles p on p.id = w.profile_id
where w.sensor_id in (select b.sensor_id from agent_bindings b where b.agent_id = $1 and b.state = 'bound')
  and (w.time_to is null or w.time_to > now() - interval '{SPLITS_HOURS} hours')
order by w.decided_at, p.id
"""

# Sessions that run, and those of whose end the agent has not said yet that all before it was taken: while there is one,
# an agent that takes nothing says so.
WINDOWS_DAYS = 7
WINDOWS = f"""
select w.session_id, array_agg(b.sensor_name order by b.sensor_name) as sensors, min(w.time_from) as time_from,
       max(w.time_to) as time_to
from agent_bindings b
join session_sensors w on w.sensor_id = b.sensor_id
where b.agent_id = $1 and b.state = 'bound' and (
    w.time_to is null
    or w.time_to > now() - interval '{WINDOWS_DAYS} days'
       and w.time_to > coalesce((select max(e.taken_through) from epochs e where e.agent_id = $1), '-infinity')
)
group by w.session_id order by w.session_id
"""
