-- Splits: a profile that holds for some runs or sessions only, beside the one that holds for everything else. What it
-- holds for are windows of sessions, so ingest must know when one opens, closes or goes. See docs/profiles.md.

alter table conversion_profiles
    add column split_run_ids uuid[] check (cardinality(split_run_ids) > 0),
    add column split_session_ids uuid[] check (cardinality(split_session_ids) > 0),
    add column is_split boolean not null generated always as (
        split_run_ids is not null or split_session_ids is not null
    ) stored,
    add constraint conversion_profiles_one_split check (split_run_ids is null or split_session_ids is null);
create index conversion_profiles_splits on conversion_profiles (sensor_id) where is_split;
comment on column conversion_profiles.split_run_ids is
    'The profile holds for readings of sessions of these runs only, of those too that start later; never changes.';
comment on column conversion_profiles.split_session_ids is
    'The profile holds for readings of these sessions only; never changes.';

-- Which sessions a split is about. Of two that are about one, the one that came into force last holds: decided_at says so.
create view session_splits as
select p.sensor_id, s.id as session_id, p.id as profile_id, p.valid_from, p.valid_to,
       greatest(p.published_at, p.valid_from) as decided_at
from conversion_profiles p
join capture_sessions s on s.id = any(p.split_session_ids) or s.run_id = any(p.split_run_ids)
where p.is_split and (p.published_at is not null or p.status in ('active', 'scheduled'));

-- The part of each session's window in which a split is, was or will be in force.
create view split_windows as
select x.sensor_id, x.session_id, x.profile_id, greatest(w.time_from, x.valid_from) as time_from,
       least(w.time_to, x.valid_to) as time_to, x.decided_at
from session_splits x
join session_sensors w on w.session_id = x.session_id and w.sensor_id = x.sensor_id
where (x.valid_to is null or w.time_from < x.valid_to) and (w.time_to is null or x.valid_from < w.time_to)
  and (x.valid_to is null or x.valid_from < x.valid_to);

-- Whoever makes a session, or lets sensors take part in one, lets no publication pass until his transaction ends. He
-- shares the catalogue lock with ingest, which knows nothing of sessions, unless a profile was split off that is
-- concerned: then he has it alone, and raises the generation. He looks for one with the lock held, so that whatever was
-- published before is seen, and whoever publishes later sees what he has opened. Those who open go one after the other
-- (the lock 9, always before the catalogue's), so that no two who share the lock wait for each other to have it alone.
-- All of it comes when the rows are in and what they refer to is found: nobody who locks those waits for what is held.
create function begin_opening() returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1280459057, 9);
    perform pg_advisory_xact_lock_shared(1280459057, 1);
end
$$;
create function raise_catalogue() returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1280459057, 1);
    perform nextval('catalogue_generation');
end
$$;

create function open_sessions() returns trigger language plpgsql as $$
begin
    perform begin_opening();
    if exists (select from opened o join conversion_profiles p on p.is_split and o.run_id = any(p.split_run_ids)) then
        perform raise_catalogue();
    end if;
    return null;
end
$$;
create trigger catalogue_opened after insert on capture_sessions referencing new table as opened
    for each statement execute function open_sessions();

create function open_session_windows() returns trigger language plpgsql as $$
begin
    perform begin_opening();
    if exists (select from opened o join conversion_profiles p on p.is_split and p.sensor_id = o.sensor_id) then
        perform raise_catalogue();
    end if;
    return null;
end
$$;
create trigger catalogue_opened after insert on session_sensors referencing new table as opened
    for each statement execute function open_session_windows();

-- Whoever closes windows or takes them away keeps ingest out, as a stop does anyway. The lock comes before any row, as
-- everywhere; whether something of the catalogue has changed is looked up behind it.
create function lock_catalogue() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1280459057, 1);
    return null;
end
$$;
create trigger catalogue_lock before update or delete on session_sensors
    for each statement execute function lock_catalogue();

create function change_split_windows() returns trigger language plpgsql as $$
declare
    one record := coalesce(new, old);
begin
    if exists (select from conversion_profiles p where p.sensor_id = one.sensor_id and p.is_split) then
        perform nextval('catalogue_generation');
    end if;
    return null;
end
$$;
create trigger catalogue_change after update or delete on session_sensors
    for each row execute function change_split_windows();
