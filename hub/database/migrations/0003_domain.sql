-- The domain: how people get in, what projects decide, experiments, runs and capture sessions, and what is told of it
-- all.

create extension if not exists pg_trgm;

-- Access -------------------------------------------------------------------------------------------------------------

create table invitations (
    id uuid primary key,
    token_hash bytea not null unique,
    email text not null default '',
    project_id uuid references projects on delete cascade,
    role text check (role in ('owner', 'editor', 'viewer')),
    created_by uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    used_by uuid references users on delete set null,
    revoked_at timestamptz,
    check ((project_id is null) = (role is null))
);
create index invitations_project on invitations (project_id);
comment on table invitations is 'Who may register while registration is by invitation; with a project: and join it.';

create table personal_tokens (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null check (length(name) between 1 and 200),
    token_hash bytea not null unique,
    token_preview text not null,
    scopes text[] not null check (cardinality(scopes) > 0 and scopes <@ array['read', 'write', 'manage']),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index personal_tokens_user on personal_tokens (user_id);

alter table users add column version integer not null default 1;
alter table projects add column version integer not null default 1;

create table project_policies (
    project_id uuid primary key references projects on delete cascade,
    late_data text check (late_data in ('hold', 'attach')),
    viewers_see_raw boolean not null default true,
    retention_days integer check (retention_days between 0 and 36500),
    clock_skew_s integer check (clock_skew_s between 0 and 31536000),
    session_start_role text not null default 'editor' check (session_start_role in ('owner', 'editor', 'viewer')),
    updated_at timestamptz not null default now(),
    version integer not null default 1
);
create trigger catalogue_change before insert or update or delete on project_policies
    for each statement execute function change_catalogue();
comment on table project_policies is 'What a project decides for itself; no row, or null: what the hub''s settings say.';
comment on column project_policies.late_data is 'Null: hold what comes by REST and WebSocket, attach what agents bring.';

create table broker_credentials (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null check (length(name) between 1 and 200),
    mqtt_username text not null unique,
    created_at timestamptz not null default now(),
    lost_at timestamptz,
    revoked_at timestamptz
);
create index broker_credentials_user on broker_credentials (user_id);
comment on table broker_credentials is
    'What members read live values and events of their projects with; the broker follows as memberships come and go.';
comment on column broker_credentials.lost_at is 'Since when the broker is known not to have it any more.';

create table idempotency_keys (
    caller text not null,
    key text not null check (length(key) between 1 and 255),
    fingerprint bytea not null,
    status smallint,
    body bytea,
    headers jsonb not null default '{}',
    created_at timestamptz not null default now(),
    primary key (caller, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);
comment on table idempotency_keys is
    'Answers to posts that created something, written in the same transaction. Never holds a token.';

alter table agents
    add column revoked_at timestamptz,
    add column revoked_by uuid references users,
    add column revoked_reason text not null default '',
    add column refused_since timestamptz,
    add column voided_at timestamptz,
    add check (status <> 'compromised' or refused_since is not null),
    add check (status <> 'enrolled' or (refused_since is null and voided_at is null));
create index agents_revoked on agents (id) where status <> 'enrolled' and voided_at is null;
comment on column agents.refused_since is
    'From when nothing is taken of a revoked agent; null while a retired one may still deliver what it holds.';
comment on column agents.voided_at is 'When the broker had voided its credentials.';
drop trigger catalogue_change on agents;
create trigger catalogue_change before update of status, project_id, refused_since or delete on agents
    for each statement execute function change_catalogue();

-- Experiments and runs -----------------------------------------------------------------------------------------------

create function search_text(name text, description text, type text, tags text[]) returns text
    language sql immutable parallel safe as $$
    select lower(concat_ws(' ', name, description, type, array_to_string(tags, ' ')))
$$;

create table experiments (
    id uuid primary key,
    project_id uuid not null references projects,
    owner_id uuid not null references users,
    name text not null check (length(name) between 1 and 200),
    description text not null default '',
    experiment_type text not null default '',
    tags text[] not null default '{}',
    metadata jsonb not null default '{}',
    status text not null default 'draft' check (status in ('draft', 'running', 'succeeded', 'failed', 'archived')),
    archived_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version integer not null default 1
);
create unique index experiments_name on experiments (project_id, lower(name));
create index experiments_project on experiments (project_id, id);
create index experiments_tags on experiments using gin (tags);
create index experiments_words on experiments
    using gin (to_tsvector('simple', search_text(name, description, experiment_type, tags)));
create index experiments_trigrams on experiments
    using gin (search_text(name, description, experiment_type, tags) gin_trgm_ops);
comment on column experiments.version is 'Rises with each change; what ETag and If-Match compare.';

create table runs (
    id uuid primary key,
    experiment_id uuid not null references experiments on delete cascade,
    project_id uuid not null references projects,
    created_by uuid references users,
    name text not null check (length(name) between 1 and 200),
    params jsonb not null default '{}',
    git_sha text not null default '',
    env text not null default '',
    notes text not null default '',
    tags text[] not null default '{}',
    metadata jsonb not null default '{}',
    status text not null default 'draft' check (status in ('draft', 'running', 'succeeded', 'failed', 'archived')),
    started_at timestamptz,
    finished_at timestamptz,
    duration_seconds double precision,
    auto_complete_after_minutes integer check (auto_complete_after_minutes > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version integer not null default 1
);
create index runs_experiment on runs (experiment_id, id);
create index runs_project on runs (project_id, id);
create index runs_tags on runs using gin (tags);
create index runs_running on runs (id) where status = 'running';

create table run_sensors (
    run_id uuid not null references runs on delete cascade,
    sensor_id uuid not null references sensors on delete cascade,
    attached_at timestamptz not null default now(),
    primary key (run_id, sensor_id)
);
create index run_sensors_sensor on run_sensors (sensor_id);

create table run_metrics (
    id uuid primary key,
    run_id uuid not null references runs on delete cascade,
    name text not null check (length(name) between 1 and 200),
    step bigint not null,
    value double precision not null,
    timestamp timestamptz not null,
    created_at timestamptz not null default now()
);
create index run_metrics_series on run_metrics (run_id, name, step);

create table artifacts (
    id uuid primary key,
    run_id uuid not null references runs on delete cascade,
    project_id uuid not null references projects,
    name text not null default '',
    type text not null default '',
    uri text not null,
    stored boolean not null default false,
    content_key text unique,
    checksum text not null default '',
    size bigint,
    content_type text not null default '',
    metadata jsonb not null default '{}',
    created_by uuid references users,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    approved_by uuid references users,
    approved_at timestamptz,
    version integer not null default 1,
    check (stored = (content_key is not null)),
    check ((approved_by is null) = (approved_at is null))
);
create index artifacts_run on artifacts (run_id, id);
comment on column artifacts.stored is 'Whether the hub keeps the content itself; else uri says where it is.';
comment on column artifacts.content_key is 'Where the content is in the hub''s store; drawn anew with each upload.';

-- Capture sessions ---------------------------------------------------------------------------------------------------

create table capture_sessions (
    id uuid primary key,
    run_id uuid not null references runs on delete cascade,
    project_id uuid not null references projects,
    ordinal_number integer not null check (ordinal_number > 0),
    status text not null default 'draft'
        check (status in ('draft', 'running', 'failed', 'succeeded', 'backfilling', 'archived')),
    status_before_backfill text check (status_before_backfill in ('failed', 'succeeded')),
    initiated_by uuid references users,
    notes text not null default '',
    started_at timestamptz,
    stopped_at timestamptz,
    archived boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version integer not null default 1,
    unique (run_id, ordinal_number),
    check (stopped_at is null or started_at is not null),
    check (stopped_at >= started_at)
);
create index capture_sessions_active on capture_sessions (run_id) where status in ('draft', 'running', 'backfilling');
comment on column capture_sessions.archived is 'Whether status is archived; kept apart so that clients can filter.';

create table session_sensors (
    session_id uuid not null references capture_sessions on delete cascade,
    sensor_id uuid not null references sensors,
    time_from timestamptz not null,
    time_to timestamptz,
    primary key (session_id, sensor_id),
    check (time_to >= time_from)
);
create index session_sensors_sensor on session_sensors (sensor_id, time_from);
comment on table session_sensors is
    'Who takes part in a session, from when to when: readings of the sensor with time_from <= time < time_to.';

create table annotations (
    id uuid primary key,
    run_id uuid not null references runs on delete cascade,
    capture_session_id uuid references capture_sessions on delete set null,
    timestamp timestamptz not null,
    text text not null,
    kind text not null default 'note',
    created_by uuid references users,
    created_at timestamptz not null default now()
);
create index annotations_run on annotations (run_id, timestamp, id);

-- Events -------------------------------------------------------------------------------------------------------------
-- One row for everything that was changed, in the transaction that changed it. Ids rise in commit order: whoever inserts
-- holds a lock until the transaction ends, so events are the last thing that a transaction writes (hub.events.change).

create table events (
    id bigint primary key,
    event_type text not null,
    project_id uuid,
    subject_type text not null,
    subject_id uuid,
    actor_type text not null check (actor_type in ('user', 'sensor', 'agent', 'hub')),
    actor_id uuid,
    actor_role text not null default '',
    address text not null default '',
    request_id text not null default '',
    payload jsonb not null default '{}',
    is_public boolean not null default false,
    created_at timestamptz not null default clock_timestamp()
);
create index events_subject on events (subject_id, id);
create index events_project on events (project_id, id);
create index events_age on events (created_at);
create index events_public on events (id) where is_public;
create index events_run on events ((payload ->> 'run_id'), id) where subject_type in ('capture_session', 'artifact');
comment on column events.is_public is 'Whether webhooks, event streams and MQTT are told.';

create sequence event_ids as bigint start 1;

create function number_events() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1280459057, 2);
    return null;
end
$$;
create trigger events_in_order before insert on events for each statement execute function number_events();
create function number_event() returns trigger language plpgsql as $$
begin
    new.id := nextval('event_ids');
    return new;
end
$$;
create trigger event_numbered before insert on events for each row execute function number_event();

create table webhook_subscriptions (
    id uuid primary key,
    project_id uuid not null references projects on delete cascade,
    target_url text not null,
    event_types text[] not null check (cardinality(event_types) > 0),
    secret text not null,
    is_active boolean not null default true,
    created_by uuid references users,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index webhook_subscriptions_project on webhook_subscriptions (project_id);

create table webhook_deliveries (
    id uuid primary key,
    subscription_id uuid not null references webhook_subscriptions on delete cascade,
    project_id uuid not null,
    event_id bigint not null,
    event_type text not null,
    target_url text not null,
    request_body text not null,
    status text not null default 'pending' check (status in ('pending', 'in_progress', 'succeeded', 'dead_lettered')),
    attempt_count integer not null default 0,
    last_error text not null default '',
    dedup_key text not null,
    locked_at timestamptz,
    next_attempt_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    unique (subscription_id, dedup_key)
);
create index webhook_deliveries_due on webhook_deliveries (subscription_id, next_attempt_at, event_id)
    where status = 'pending';
create index webhook_deliveries_under_way on webhook_deliveries (locked_at) where status = 'in_progress';
create index webhook_deliveries_project on webhook_deliveries (project_id, id);
create index webhook_deliveries_age on webhook_deliveries (finished_at) where finished_at is not null;
comment on table webhook_deliveries is 'The outbox: made in the transaction of the event, one row a subscription and event.';
comment on column webhook_deliveries.project_id is
    'The subscription''s. No foreign key: it would lock the project while events wait for one another.';

create table event_cursors (
    name text primary key,
    event_id bigint not null default 0
);
insert into event_cursors (name) values ('mqtt');
comment on table event_cursors is 'Up to which event someone who must be told of all has been told.';

alter table agents
    add column connection text not null default 'offline' check (connection in ('online', 'offline', 'conflict')),
    add column connection_since timestamptz;
comment on column agents.connection is 'What was told last; written with the event, so that several hubs tell it once.';
alter table sensors
    add column connection text not null default 'offline' check (connection in ('online', 'offline')),
    add column connection_since timestamptz;
comment on column sensors.connection is 'What was told last; written with the event, so that several hubs tell it once.';

create function tell_event() returns trigger language plpgsql as $$
begin
    perform pg_notify('labrelay_events', '');
    return null;
end
$$;
create trigger events_told after insert on events for each statement execute function tell_event();
