-- Delivery to the end: clocks and what was decided about them, epochs that are closed, a ledger that folds, and what
-- people decide about readings that were set aside.

-- Clocks -------------------------------------------------------------------------------------------------------------

alter table clock_segments
    alter column segment type bigint,
    add column source text not null default 'hub' check (source in ('hub', 'system', 'none'));
comment on column clock_segments.source is
    'hub: measured; system: the agent''s operating system vouches for its clock; none: nobody does (yet).';

create table clock_corrections (
    epoch_id integer not null references epochs on delete cascade,
    segment bigint not null,
    correction_us bigint not null,
    uncertainty_us bigint,
    basis text not null check (basis in ('measured', 'derived', 'vouched', 'neighbours', 'unstated', 'owner')),
    decided_at timestamptz not null default now(),
    decided_by uuid references users,
    primary key (epoch_id, segment)
);
comment on table clock_corrections is
    'Decided once a clock segment, with its first readings: what is added to all of the segment''s times. Never changes.';

alter table ledger
    alter column clock_segment type bigint,
    add column last_id bigint;
comment on column ledger.last_id is 'Greatest id of the batch''s readings; all ids from first_id to here are its own.';
create index ledger_first_id on ledger (first_id) where first_id is not null;

create table corrected_ids (
    first_id bigint primary key,
    last_id bigint not null,
    epoch_id integer not null references epochs on delete cascade,
    segment bigint not null
);
comment on table corrected_ids is
    'Readings of folded batches whose segment has a correction other than zero; see reading_correction_us.';

-- What was added to a reading's own time: select time - reading_correction_us(id) * interval '1 microsecond'.
create function reading_correction_us(reading_id bigint) returns bigint language sql stable as $$
    select coalesce((
        select c.correction_us
        from (
            (select epoch_id, clock_segment as segment, first_id, last_id from ledger
             where first_id <= reading_id order by first_id desc limit 1)
            union all
            (select epoch_id, segment, first_id, last_id from corrected_ids
             where first_id <= reading_id order by first_id desc limit 1)
        ) as batch
        join clock_corrections c using (epoch_id, segment)
        where reading_id <= batch.last_id
        limit 1
    ), 0)
$$;

-- Epochs and their ledger --------------------------------------------------------------------------------------------

alter table epochs
    add column folded_through bigint not null default 0,
    add column closed_at timestamptz,
    add column closed_by uuid references users,
    add column closed_reason text;
comment on column epochs.folded_through is 'Every batch up to this seq is known, though its ledger row is gone.';

alter table gaps drop constraint gaps_epoch_id_seq_fkey;
alter table gaps add foreign key (epoch_id) references epochs on delete cascade;
alter table gaps add column clock_segment bigint not null default 0;

create table ledger_folded (
    epoch_id integer not null references epochs on delete cascade,
    hour timestamptz not null,
    first_seq bigint not null,
    last_seq bigint not null,
    batches bigint not null,
    readings bigint not null,
    stored bigint not null,
    repeated bigint not null,
    set_aside bigint not null,
    series jsonb not null default '{}',
    primary key (epoch_id, hour)
);
comment on table ledger_folded is 'Ledger entries by the hour of their commit; series: stored readings by series id.';

-- Set aside ----------------------------------------------------------------------------------------------------------

alter table set_aside
    add column clock_segment bigint,
    add column correction_us bigint not null default 0;
comment on column set_aside.correction_us is 'What has been added to timestamps_us; nothing while the clock is unknown.';

create table set_aside_decisions (
    id bigint generated always as identity primary key,
    set_aside_id bigint not null,
    project_id uuid references projects on delete cascade,
    action text not null check (action in ('released', 'discarded')),
    sensor_name text not null,
    signal text not null,
    was text not null,
    readings integer not null,
    time_from timestamptz not null,
    time_to timestamptz not null,
    stored integer not null default 0,
    repeated integer not null default 0,
    set_aside_again integer not null default 0,
    reason text not null default '',
    decided_by uuid references users,
    decided_at timestamptz not null default now()
);
create index set_aside_decisions_project on set_aside_decisions (project_id, id);
comment on table set_aside_decisions is 'Who released or discarded what: nothing leaves set_aside without a line here.';
