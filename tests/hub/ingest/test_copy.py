"""PostgreSQL reads back from a binary COPY the very bits that were given."""

from __future__ import annotations

import math
import struct
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.ingest.copy import COLUMNS, Rows, encode_rows

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
values = st.one_of(finite, st.just(math.nan), st.just(-0.0))
row = st.tuples(
    st.integers(1, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 253_402_300_799_999_999),
    st.integers(0, 2**53),
    values,
    values,
    st.integers(0, 255),
)


def _rows(of: list[tuple[Any, ...]]) -> Rows:
    series, profile, time_us, ids, raw, physical, status = zip(*of, strict=True)
    return Rows(
        np.array(series, np.int32),
        np.array(profile, np.int32),
        np.array(time_us, np.int64),
        np.array(ids, np.int64),
        np.array(raw, np.float64),
        np.array(physical, np.float64),
        np.array(status, np.uint8),
    )


@pytest.fixture
async def table(database_url: str) -> Any:
    """A connection with a table like `readings`."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        create table readings (series_id integer, profile integer, time timestamptz, id bigint,
                               raw double precision, physical double precision, status smallint)
        """
    )
    yield connection
    await connection.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(of=st.lists(row, min_size=1, max_size=40))
async def test_what_postgres_reads_back_is_what_was_given(table: Any, of: list[tuple[Any, ...]]) -> None:
    await table.execute("truncate readings")
    source: Any = memoryview(encode_rows(_rows(of)))
    await table.copy_to_table("readings", source=source, columns=list(COLUMNS), format="binary")
    stored = await table.fetch(
        """
        select series_id, profile, (extract(epoch from time) * 1000000)::bigint as us, id, raw, physical, status
        from readings
        """
    )
    assert sorted(map(_key, map(tuple, stored))) == sorted(map(_key, of))


def _key(of: tuple[Any, ...]) -> tuple[Any, ...]:
    series, profile, time_us, ids, raw, physical, status = of
    return series, profile, time_us, ids, _bits(raw), _bits(physical), status


def _bits(value: float | None) -> bytes:
    return b"" if value is None or math.isnan(value) else struct.pack(">d", value)
