-- Capture sessions and which readings belong to them. Membership is computed, never stored with the readings: see
-- docs/adr/0013-membership-is-computed.md and hub.telemetry.membership.

create extension if not exists btree_gist;

-- Of two sessions that record one sensor at one time none could say which readings are its own.
alter table session_sensors
    add constraint session_sensors_alone
    exclude using gist (sensor_id with =, tstzrange(time_from, time_to) with &&);

alter table capture_sessions
    add column late_rest text not null default 'hold' check (late_rest in ('hold', 'attach')),
    add column late_agents text not null default 'attach' check (late_agents in ('hold', 'attach')),
    add column late_from_id bigint,
    add column late_ids int8multirange not null default '{}';
comment on column capture_sessions.late_rest is
    'The project''s policy as the session started, for what comes by REST and WebSocket; archiving sets hold.';
comment on column capture_sessions.late_from_id is
    'Readings with this id or a higher one came after the session had stopped; null while it has not.';
comment on column capture_sessions.late_ids is 'Of these, the ones that count although the policy holds them back.';

create table named_readings (
    first_id bigint primary key,
    last_id bigint not null,
    sensor_id uuid not null,
    session_id uuid not null references capture_sessions on delete cascade,
    time_from timestamptz not null,
    time_to timestamptz not null
);
create index named_readings_session on named_readings (session_id, first_id);
create index named_readings_sensor on named_readings (sensor_id, time_from);
comment on table named_readings is
    'Posts that named their session: these readings belong to it, whatever their time. time_to is that of the last one.';

create table late_posts (
    first_id bigint primary key,
    last_id bigint not null,
    sensor_id uuid not null,
    time_from timestamptz not null,
    time_to timestamptz not null
);
create index late_posts_sensor on late_posts (sensor_id, time_from);
comment on table late_posts is
    'Posts with readings from within a session that had stopped when they came. All other late readings are of agents.';

-- Ends what counts as in time: later ids are late. Keeps ingest out until the transaction ends, so that each group of
-- readings was committed before the stop, with lower ids, or knows of it.
create function draw_late_from_id() returns bigint language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock(1280459057, 1);
    return (draw_reading_block() + 1) * 16384;
end
$$;

-- Which readings of a session its policy holds back, as ranges of ids: [first, behind the last).
create function held_by_policy(session capture_sessions) returns int8multirange language sql stable as $$
    select case
        when session.late_from_id is null then int8multirange()
        when session.late_agents = 'hold' and session.late_rest = 'hold'
            then int8multirange(int8range(session.late_from_id, null))
        when session.late_agents = 'attach' and session.late_rest = 'attach' then int8multirange()
        when session.late_agents = 'hold' then int8multirange(int8range(session.late_from_id, null)) - posts.ids
        else posts.ids * int8multirange(int8range(session.late_from_id, null))
    end
    from (
        select coalesce(range_agg(ids), int8multirange()) as ids from (
            select int8range(p.first_id, p.last_id, '[]') as ids
            from session_sensors w
            join late_posts p on p.sensor_id = w.sensor_id
             and p.time_to >= w.time_from and (w.time_to is null or p.time_from < w.time_to)
            where w.session_id = session.id and p.last_id >= session.late_from_id
            union all
            select int8range(n.first_id, n.last_id, '[]') from named_readings n
            where n.session_id = session.id and n.last_id >= session.late_from_id
        ) as one
    ) as posts
$$;

-- Which of them do not count (yet).
create function held_ids(session capture_sessions) returns int8multirange language sql stable as $$
    select held_by_policy(session) - session.late_ids
$$;

-- What comes from within an archived session is refused: ingest must know when one is archived.
create trigger catalogue_change before update of archived or delete on capture_sessions
    for each statement execute function change_catalogue();

-- What came late is counted from time to time, to be shown and told: hub.sessions.late.
create table session_late (
    session_id uuid primary key references capture_sessions on delete cascade,
    counted_to bigint not null,
    held_records bigint not null default 0
);
comment on column session_late.counted_to is 'Readings below this id are counted; grows with each count.';

create index capture_sessions_stopped on capture_sessions (stopped_at) where late_from_id is not null;

create table late_hints (session_id uuid not null, first_id bigint not null);
comment on table late_hints is
    'Sessions for which readings came late, by marks of minutes that were folded before somebody looked. Append only.';

-- Ended sessions that a committed group may have late readings of: in one of their windows, or by name.
create function touched_sessions(first bigint, series_ids integer[], bucket_from timestamptz, bucket_to timestamptz)
returns setof uuid language sql stable as $$
    select w.session_id
    from series x
    join session_sensors w on w.sensor_id = x.sensor_id
     and w.time_from < bucket_to + interval '1 minute' and w.time_to > bucket_from
    join capture_sessions s on s.id = w.session_id and s.late_from_id <= first
    where x.id = any(series_ids)
      and exists (select from capture_sessions e where e.stopped_at >= bucket_from and e.late_from_id <= first)
    union
    select n.session_id
    from named_readings n join capture_sessions s on s.id = n.session_id and s.late_from_id <= first
    where n.first_id >= first and n.first_id < first + 16384
$$;
