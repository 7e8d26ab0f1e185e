-- What is kept of sensors beside their readings: how far their streams have come, what is watched, when they were heard.

create table ingest_streams (
    sensor_id uuid not null,
    stream text not null check (length(stream) between 1 and 100),
    last_seq bigint not null,
    updated_at timestamptz not null default now(),
    primary key (sensor_id, stream)
);
comment on table ingest_streams is
    'Streams over WebSocket: all messages up to last_seq are dealt with. Moved in the transaction of their readings.';

create table sensor_limits (
    sensor_id uuid not null references sensors on delete cascade,
    signal text not null check (length(signal) between 1 and 200),
    low double precision,
    high double precision,
    hysteresis double precision not null default 0 check (hysteresis >= 0),
    silence_s double precision check (silence_s > 0),
    set_at timestamptz not null default now(),
    exceeded text check (exceeded in ('low', 'high')),
    silent boolean not null default false,
    judged_through timestamptz,
    primary key (sensor_id, signal),
    check (low < high),
    check (low is not null or high is not null or silence_s is not null)
);
comment on column sensor_limits.exceeded is 'Which limit was said to be exceeded and not yet to be cleared.';
comment on column sensor_limits.judged_through is 'The latest reading that was judged: older ones that come later raise nothing.';

alter table sensors add column readings_per_s_max integer check (readings_per_s_max > 0);
comment on column sensors.readings_per_s_max is 'How much may be sent with the sensor''s token; null: what the hub''s settings say.';

create table sensor_minutes (
    sensor_id uuid not null references sensors on delete cascade,
    minute timestamptz not null,
    primary key (sensor_id, minute)
);
create index sensor_minutes_age on sensor_minutes (minute);
comment on table sensor_minutes is 'Minutes in which something of a sensor was stored, to the heartbeat''s interval.';
