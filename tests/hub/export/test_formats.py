"""Rows as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.export.formats import FORMULA_STARTS, ExportFormat, Sheet, csv_cell, new_encoder

SHEET = Sheet("things", ("id", "name", "value"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries({"id": st.uuids(), "name": TEXTS, "value": st.none() | st.integers() | st.booleans()}),
    max_size=10,
)


def file(kind: ExportFormat, *batches: list[dict[str, Any]]) -> bytes:
    encoder = new_encoder(kind, SHEET)
    return b"".join([encoder.head(), *(encoder.rows(batch) for batch in batches), encoder.tail()])


@given(ROWS, ROWS)
def test_csv_is_read_back_by_what_reads_csv(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    text = file(ExportFormat.CSV, first, second).decode()
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["id", "name", "value"]
    assert len(read) == 1 + len(first) + len(second)
    for line, row in zip(read[1:], first + second, strict=True):
        assert line[0] == str(row["id"])
        assert line[1].removeprefix("'") == row["name"].removeprefix("'")
        assert not line[1].startswith(FORMULA_STARTS)


@given(ROWS.filter(lambda rows: all(row["value"] is None or -(2**63) <= row["value"] < 2**64 for row in rows)), ROWS)
def test_json_is_one_object_with_all_rows(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    second = [row | {"value": None} for row in second]
    read = json.loads(file(ExportFormat.JSON, first, second))
    assert read["total"] == len(first) + len(second)
    assert read["things"] == [row | {"id": str(row["id"])} for row in first + second]


def test_json_without_its_end_is_no_json() -> None:
    whole = file(ExportFormat.JSON, [{"id": 1, "name": "a", "value": None}])
    for length in range(len(whole.rstrip())):
        with pytest.raises(ValueError, match=r"line|char"):
            json.loads(whole[:length])


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        (["=a", "b"], "'=a,b"),
        ("a=1", "a=1"),
        (-1.5, -1.5),
        (-3, -3),
        (None, ""),
        (True, "true"),
        (["a", "b"], "a,b"),
        ([], ""),
        ({"a": [1]}, '{"a":[1]}'),
        ([1, 2], "[1,2]"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 3, 2, 12, 0, 0, 5, UTC), "2026-03-02T12:00:00.000005Z"),
    ],
)
def test_cells(value: Any, cell: Any) -> None:
    assert csv_cell(value) == cell


def test_a_list_of_nothing_is_a_file_all_the_same() -> None:
    assert file(ExportFormat.CSV) == b"id,name,value\r\n"
    assert json.loads(file(ExportFormat.JSON)) == {"things": [], "total": 0}
