-- The hub's first schema: people and projects, sensors and their profiles, agents and what they deliver, readings.
-- `readings` is laid out by the storage tier: hub.database.tiers makes it right after the migrations.

create table hub_state (
    key text primary key,
    value jsonb not null
);
comment on table hub_state is 'Facts about this database: its incarnation, the fingerprint it was drawn for, the storage tier.';

-- People -------------------------------------------------------------------------------------------------------------

create table users (
    id uuid primary key,
    username text not null check (length(username) between 3 and 50),
    email text not null,
    password_hash text not null,
    is_active boolean not null default true,
    is_admin boolean not null default false,
    password_change_required boolean not null default false,
    created_at timestamptz not null default now()
);
create unique index users_username on users (lower(username));
create unique index users_email on users (lower(email));

create table refresh_tokens (
    token_hash bytea primary key,
    family uuid not null,
    user_id uuid not null references users on delete cascade,
    issued_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    revoked_at timestamptz
);
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_user on refresh_tokens (user_id);

create table sign_in_links (
    token_hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);

create table projects (
    id uuid primary key,
    owner_id uuid not null references users,
    name text not null check (length(name) between 1 and 200),
    description text not null default '',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index projects_name on projects (owner_id, lower(name));

create table project_members (
    project_id uuid not null references projects on delete cascade,
    user_id uuid not null references users on delete cascade,
    role text not null check (role in ('owner', 'editor', 'viewer')),
    created_at timestamptz not null default now(),
    primary key (project_id, user_id)
);
create index project_members_user on project_members (user_id);

-- Sensors ------------------------------------------------------------------------------------------------------------

create table sensors (
    id uuid primary key,
    project_id uuid not null references projects,
    name text not null check (length(name) between 1 and 200),
    type text not null default '',
    input_unit text not null default '',
    display_unit text not null default '',
    status text not null default 'registering' check (status in ('registering', 'active', 'inactive', 'decommissioned')),
    token_hash bytea unique,
    token_preview text not null default '',
    last_heartbeat timestamptz,
    active_profile_id uuid,
    calibration_notes text not null default '',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index sensors_name on sensors (project_id, lower(name));

create table sensor_projects (
    sensor_id uuid not null references sensors on delete cascade,
    project_id uuid not null references projects on delete cascade,
    primary key (sensor_id, project_id)
);
create index sensor_projects_project on sensor_projects (project_id);
comment on table sensor_projects is 'All projects of a sensor, its primary one (sensors.project_id) included.';

create table conversion_profiles (
    id uuid primary key,
    ref integer generated always as identity unique,
    sensor_id uuid not null references sensors on delete cascade,
    version text not null check (length(version) between 1 and 100),
    kind text not null check (kind in ('linear', 'polynomial', 'lookup_table', 'formula')),
    payload jsonb not null,
    status text not null default 'draft' check (status in ('draft', 'scheduled', 'active', 'deprecated')),
    valid_from timestamptz,
    valid_to timestamptz,
    created_by uuid references users,
    published_by uuid references users,
    created_at timestamptz not null default now(),
    published_at timestamptz,
    unique (sensor_id, version)
);
comment on column conversion_profiles.ref is 'What readings carry instead of the id.';
comment on column conversion_profiles.valid_from is 'In force from here; null on a published profile: for all earlier times too.';
alter table sensors add foreign key (active_profile_id) references conversion_profiles;

create table series (
    id integer generated always as identity primary key,
    sensor_id uuid not null references sensors,
    signal text not null check (length(signal) between 1 and 200),
    unit text not null default '',
    unique (sensor_id, signal)
);
comment on table series is 'One signal of one sensor; what a reading belongs to.';

-- Agents and what they deliver ---------------------------------------------------------------------------------------

create table agents (
    id uuid primary key,
    project_id uuid not null references projects,
    name text not null check (length(name) between 1 and 200),
    status text not null default 'enrolled' check (status in ('enrolled', 'retired', 'compromised')),
    mqtt_username text not null,
    enrolled_by uuid references users,
    enrolled_at timestamptz not null default now(),
    last_seen timestamptz,
    state jsonb,
    config_generation integer not null default 1
);
create unique index agents_name on agents (project_id, lower(name));

create table enrolment_codes (
    code_hash bytea primary key,
    project_id uuid not null references projects on delete cascade,
    name text not null default '',
    created_by uuid references users,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    agent_id uuid references agents
);

create table agent_bindings (
    agent_id uuid not null references agents on delete cascade,
    sensor_name text not null,
    sensor_id uuid references sensors on delete set null,
    state text not null default 'bound' check (state in ('bound', 'deleted', 'refused')),
    primary key (agent_id, sensor_name)
);
create index agent_bindings_sensor on agent_bindings (sensor_id);
comment on table agent_bindings is 'Which sensor an agent means by a name. A deleted name stays deleted.';

create table epochs (
    id integer generated always as identity primary key,
    agent_id uuid not null references agents on delete cascade,
    epoch bytea not null check (length(epoch) = 16),
    previous_epoch bytea,
    previous_last_seq bigint,
    started_at timestamptz,
    version text not null default '',
    host text not null default '',
    taken_through timestamptz,
    first_received_at timestamptz not null default now(),
    unique (agent_id, epoch)
);

create table dictionary_series (
    epoch_id integer not null references epochs on delete cascade,
    ref bigint not null,
    sensor_name text not null,
    signal text not null,
    unit text not null default '',
    primary key (epoch_id, ref)
);

create table dictionary_profiles (
    epoch_id integer not null references epochs on delete cascade,
    ref bigint not null,
    profile_id uuid not null,
    primary key (epoch_id, ref)
);

create table ledger (
    epoch_id integer not null references epochs on delete cascade,
    seq bigint not null,
    checksum bigint not null,
    kind smallint not null,
    readings integer not null default 0,
    stored integer not null default 0,
    repeated integer not null default 0,
    set_aside integer not null default 0,
    clock_segment integer not null,
    taken_through_us bigint not null,
    first_id bigint,
    committed_at timestamptz not null default now(),
    primary key (epoch_id, seq)
);
comment on table ledger is 'Every batch that was committed, in the same transaction as its rows: the same identity is never stored twice.';

create table gaps (
    epoch_id integer not null,
    seq bigint not null,
    cause text not null,
    time_from timestamptz not null,
    time_to timestamptz not null,
    readings bigint,
    record jsonb not null,
    primary key (epoch_id, seq),
    foreign key (epoch_id, seq) references ledger on delete cascade
);

create table clock_segments (
    epoch_id integer not null references epochs on delete cascade,
    segment integer not null,
    opened_us bigint not null,
    offset_us bigint not null,
    uncertainty_us bigint not null,
    measured_us bigint not null,
    step_us bigint not null default 0,
    primary key (epoch_id, segment)
);

-- Readings -----------------------------------------------------------------------------------------------------------

-- The table `readings` itself is in hub.database.tiers: how it is partitioned depends on what the database offers.

create table reading_meta (
    series_id integer not null,
    time timestamptz not null,
    meta jsonb not null,
    primary key (series_id, time)
);

create table set_aside (
    id bigint generated always as identity primary key,
    project_id uuid references projects on delete cascade,
    agent_id uuid references agents on delete cascade,
    epoch_id integer,
    seq bigint,
    sensor_id uuid,
    sensor_name text not null default '',
    signal text not null default '',
    reason text not null,
    detail text not null default '',
    readings integer not null,
    time_from timestamptz not null,
    time_to timestamptz not null,
    timestamps_us bigint[] not null,
    raw double precision[] not null,
    physical double precision[] not null,
    status smallint[] not null,
    profile_id uuid,
    meta jsonb,
    created_at timestamptz not null default now()
);
create index set_aside_project on set_aside (project_id, id);
create index set_aside_batch on set_aside (epoch_id, seq);
comment on table set_aside is 'What was sent by someone entitled to but cannot be stored as readings: one row a series and batch.';

create table dropped_ranges (
    time_from timestamptz not null,
    time_to timestamptz not null,
    dropped_at timestamptz not null default now()
);
comment on table dropped_ranges is 'Times whose raw readings retention has dropped; what arrives for them is set aside.';

-- One-minute aggregates; ingest marks what it dirties in its own transaction, the hub folds the marks in.
create table aggregates_1m (
    series_id integer not null,
    bucket timestamptz not null,
    sample_count integer not null,
    raw_count integer not null,
    sum_raw double precision,
    min_raw double precision,
    max_raw double precision,
    physical_count integer not null,
    sum_physical double precision,
    min_physical double precision,
    max_physical double precision,
    primary key (series_id, bucket)
);

create table dirty_minutes (
    first_id bigint not null,
    series_ids integer[] not null,
    bucket_from timestamptz not null,
    bucket_to timestamptz not null
);
comment on table dirty_minutes is 'Append only; one row a committed group and stretch of minutes (bucket_to inclusive).';

-- Reading ids --------------------------------------------------------------------------------------------------------
-- A group of readings that commits together draws one block of 16,384 ids: id = block * 16384 + position. Blocks are
-- drawn before the commit, so a later block may commit first; a reader must not step over one that is still open.
--
-- A writer locks (shared, until its transaction ends) the number that the sequence stands at, and only then draws. So
-- whoever draws block b holds a lock on a number below b. A reader takes the sequence's number first and looks for the
-- lowest lock second: every block up to the smaller of the two has ended, whichever way, for any snapshot taken later.

create sequence reading_blocks as bigint start 1;

create function reading_lock_base() returns bigint language sql immutable as $$ select 1::bigint << 60 $$;

create table reading_clock (
    block bigint primary key,
    at timestamptz not null
);
comment on table reading_clock is
    'A block of reading ids was drawn at the time of the last row at or below it, give or take a second.';

create function draw_reading_block() returns bigint language plpgsql volatile as $$
declare
    standing bigint;
    drawn bigint;
    last_at timestamptz;
begin
    select case when is_called then last_value else last_value - 1 end into standing from reading_blocks;
    perform pg_advisory_xact_lock_shared(reading_lock_base() + standing);
    drawn := nextval('reading_blocks');
    select at into last_at from reading_clock order by block desc limit 1;
    if last_at is null or last_at < clock_timestamp() - interval '1 second' then
        insert into reading_clock (block, at) values (drawn, clock_timestamp());
    end if;
    return drawn;
end
$$;

-- The first id that a reader must not look at yet. Ask in a statement of its own, before the one that reads: within one
-- statement (or in repeatable read) the snapshot is older than the answer, and rows committed in between would be skipped.
create function reading_horizon() returns bigint language plpgsql volatile as $$
declare
    standing bigint;
    lowest bigint;
begin
    select case when is_called then last_value else last_value - 1 end into standing from reading_blocks;
    select min(((classid::bigint << 32) | objid::bigint) - reading_lock_base()) into lowest
    from pg_locks
    where locktype = 'advisory'
      and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and ((classid::bigint << 32) | objid::bigint) >= reading_lock_base()
      and ((classid::bigint << 32) | objid::bigint) < reading_lock_base() * 2;
    return (least(standing, coalesce(lowest, standing)) + 1) * 16384;
end
$$;

-- What ingest relies on ----------------------------------------------------------------------------------------------
-- Ingest keeps in memory what it knows of agents, bindings, sensors and profiles. Whoever changes one of them takes the
-- catalogue lock for himself, before he touches a row, and raises the generation; every ingest transaction shares the
-- lock and compares generations. So a publish and an ingest never overlap, and nobody needs to remember to tell. Rows
-- that are merely added (sensors, bindings, agents) raise nothing: ingest remembers no absence.

create sequence catalogue_generation as bigint start 1;

create function change_catalogue() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1280459057, 1);
    perform nextval('catalogue_generation');
    return null;
end
$$;

create trigger catalogue_change before update of status, name, project_id, active_profile_id or delete on sensors
    for each statement execute function change_catalogue();
create trigger catalogue_change before insert or update or delete on conversion_profiles
    for each statement execute function change_catalogue();
create trigger catalogue_change before update or delete on agent_bindings
    for each statement execute function change_catalogue();
create trigger catalogue_change before update of status, project_id or delete on agents
    for each statement execute function change_catalogue();
create trigger catalogue_change before insert or update or delete on dropped_ranges
    for each statement execute function change_catalogue();

-- Begins an ingest transaction: shares the catalogue lock, locks the epochs that it writes for (given in rising order, so
-- that two hubs with batches of the same epochs wait instead of colliding), and returns the catalogue's generation.
create function enter_ingest(epoch_ids integer[]) returns bigint language plpgsql volatile as $$
declare
    one integer;
    generation bigint;
begin
    perform pg_advisory_xact_lock_shared(1280459057, 1);
    foreach one in array epoch_ids loop
        perform pg_advisory_xact_lock(1280459058, one);
    end loop;
    select case when is_called then last_value else 0 end into generation from catalogue_generation;
    return generation;
end
$$;

-- The same for a transaction of one statement: whether the catalogue still is at the generation that it was judged by.
create function enter_ingest_at(expected bigint, epoch_ids integer[]) returns boolean language sql volatile as $$
    select enter_ingest(epoch_ids) = expected
$$;

-- Tells the hubs what changed for agents: `sensor:<id>` or `agent:<id>`.
create function tell_change() returns trigger language plpgsql as $$
declare
    one record := coalesce(new, old);
begin
    perform pg_notify('labrelay_changed', tg_argv[0] || ':' || (to_jsonb(one) ->> tg_argv[1]));
    return null;
end
$$;

create trigger change_told after update of status, name, project_id, active_profile_id or delete on sensors
    for each row execute function tell_change('sensor', 'id');
create trigger change_told after insert or delete on sensor_projects
    for each row execute function tell_change('sensor', 'sensor_id');
create trigger change_told after insert or update or delete on conversion_profiles
    for each row execute function tell_change('sensor', 'sensor_id');
create trigger change_told after insert or update or delete on agent_bindings
    for each row execute function tell_change('agent', 'agent_id');
create trigger change_told after insert or update of status, name, project_id on agents
    for each row execute function tell_change('agent', 'id');
