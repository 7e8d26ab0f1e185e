-- Completeness certificates of capture sessions, and what ingest notes so that they can say what became of each reading.

create table certificates (
    session_id uuid not null references capture_sessions on delete cascade,
    version integer not null check (version > 0),
    state text not null check (state in ('open', 'waiting', 'final')),
    made_at timestamptz not null,
    session_version integer not null,
    digest bytea not null,
    document text not null,
    primary key (session_id, version)
);
comment on table certificates is 'Certificates that were issued, as they were signed; documents never change.';
comment on column certificates.digest is
    'SHA-256 of what it says about the session and its sensors: it is issued anew only when that changes.';
comment on column certificates.session_version is
    'Of the session as it was looked at last; one that changed since is looked at again.';

create table repeated_readings (
    id bigint generated always as identity primary key,
    series_id integer not null,
    by_agent boolean not null,
    time_from timestamptz not null,
    time_to timestamptz not null,
    timestamps_us bigint[] not null
);
create index repeated_readings_series on repeated_readings (series_id, time_from);
comment on table repeated_readings is
    'Readings that came once more with the same raw value, in another batch or post; one row a series and batch.';

create table posted_readings (
    first_id bigint primary key,
    last_id bigint not null,
    sensor_id uuid not null,
    time_from timestamptz not null,
    time_to timestamptz not null
);
create index posted_readings_sensor on posted_readings (sensor_id, time_from);
comment on table posted_readings is
    'Ids of readings that came by REST or WebSocket; what agents delivered is in the ledger. One row a post.';

-- What an owner gives up stays countable, reading by reading.
alter table set_aside_decisions
    add column sensor_id uuid,
    add column by_agent boolean not null default false,
    add column timestamps_us bigint[] not null default '{}';
create index set_aside_decisions_sensor on set_aside_decisions (sensor_id) where action = 'discarded';
create index set_aside_sensor on set_aside (sensor_id, time_from);

alter table epochs add column folded_taken_through timestamptz;
comment on column epochs.folded_taken_through is
    'All samples up to then, corrected, are in batches whose ledger entries are folded; null where none said so.';

-- Agents are told of the sessions that their sensors take part in: when one starts, stops or goes.
create trigger change_told after insert or update of time_to or delete on session_sensors
    for each row execute function tell_change('sensor', 'sensor_id');
