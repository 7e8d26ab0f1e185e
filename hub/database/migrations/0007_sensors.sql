-- What is kept of sensors beside their readings: how far their streams have come.

create table ingest_streams (
    sensor_id uuid not null,
    stream text not null check (length(stream) between 1 and 100),
    last_seq bigint not null,
    updated_at timestamptz not null default now(),
    primary key (sensor_id, stream)
);
comment on table ingest_streams is
    'Streams over WebSocket: all messages up to last_seq are dealt with. Moved in the transaction of their readings.';
