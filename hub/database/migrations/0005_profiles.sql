-- Recalculation of stored readings with another profile: the tasks, how far each has come, what was decided by them for
-- readings that are still to come, and the profiles that readings had before. See docs/adr/0014-recalculation.md.

create table backfill_tasks (
    id uuid primary key,
    sensor_id uuid not null references sensors on delete cascade,
    profile_id uuid not null references conversion_profiles on delete cascade,
    scope text not null check (scope in ('all', 'capture_sessions')),
    capture_session_ids uuid[] not null default '{}',
    time_from timestamptz,
    time_to timestamptz,
    before_id bigint not null,
    status text not null default 'pending' check (status in ('pending', 'running', 'succeeded', 'failed')),
    total_records bigint,
    processed_records bigint not null default 0,
    changed_records bigint not null default 0,
    error text,
    created_by uuid references users,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz
);
create index backfill_tasks_sensor on backfill_tasks (sensor_id, id);
create index backfill_tasks_open on backfill_tasks (id) where status in ('pending', 'running');
comment on table backfill_tasks is 'Recalculations of a sensor''s stored readings with one of its profiles.';
comment on column backfill_tasks.before_id is
    'Readings with this id or a higher one came after the decision, and were converted by it as they came.';

create table backfill_slices (
    task_id uuid not null references backfill_tasks on delete cascade,
    number integer not null,
    series_id integer not null,
    time_at timestamptz not null,
    time_to timestamptz not null,
    processed bigint not null default 0,
    changed bigint not null default 0,
    primary key (task_id, number)
);
comment on table backfill_slices is
    'What a running task works through: a series from time_at, which rises in the transactions that write, to before time_to.';

create table profile_rulings (
    id bigint generated always as identity primary key,
    sensor_id uuid not null references sensors on delete cascade,
    profile_id uuid not null references conversion_profiles on delete cascade,
    task_id uuid references backfill_tasks on delete set null,
    time_from timestamptz,
    time_to timestamptz not null,
    session_ids uuid[],
    decided_at timestamptz not null,
    check (time_from < time_to)
);
create index profile_rulings_sensor on profile_rulings (sensor_id);
comment on table profile_rulings is
    'Times for which a recalculation has decided the profile, whatever was in force then; what arrives later obeys it too.';
comment on column profile_rulings.session_ids is
    'For which readings: null for all; empty for those that name no session; else for posts that name one of these.';
create trigger catalogue_change before insert or update or delete on profile_rulings
    for each statement execute function change_catalogue();

create table previous_profiles (
    id bigint generated always as identity primary key,
    series_id integer not null,
    time_from timestamptz not null,
    time_to timestamptz not null,
    first_id bigint not null,
    last_id bigint not null,
    readings integer not null,
    profile integer not null,
    task_id uuid references backfill_tasks on delete set null,
    replaced_at timestamptz not null
);
create index previous_profiles_series on previous_profiles (series_id, time_from);
comment on table previous_profiles is
    'Readings of a series from time_from up to and including time_to, with ids from first_id to last_id, that were converted '
    'with `profile` (conversion_profiles.ref, 0: not at all) before; task_id is null where an agent had converted them so.';
