"""How rows become a file, apart from where they come from.

CSV is RFC 4180 in UTF-8: a header line, CRLF at the end of lines, quotes where needed. Lists of words are one cell,
separated by commas, objects are JSON, nothing is an empty cell. A text that a spreadsheet would take for a formula
(one that begins with `=`, `+`, `-`, `@`, a tab or a carriage return) gets an apostrophe in front.

JSON is one object, `{"<plural>": [...], "total": n}`, whose rows look like those of the list. Its end, and with it
`total`, is only there where all rows are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import orjson

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_JSON_OPTIONS = orjson.OPT_UTC_Z


class Row(Protocol):
    """What a line is made from: a row of the database, or a dict."""

    def __getitem__(self, column: str, /) -> Any:
        """The value in a column."""


class ExportFormat(StrEnum):
    """What a file can be."""

    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file holds.

    Attributes:
        name: of its rows, in the plural.
        columns: their fields, in order.
        titles: what CSV calls them, where that says more than their names.
    """

    name: str
    columns: tuple[str, ...]
    titles: tuple[str, ...] = ()


class Encoder(Protocol):
    """Writes one file, from its head on."""

    @property
    def media_type(self) -> str:
        """For the answer's header."""

    def head(self) -> bytes:
        """What comes before all rows."""

    def rows(self, batch: Sequence[Row]) -> bytes:
        """The next rows."""

    def tail(self) -> bytes:
        """What comes after all rows."""


class CsvEncoder:
    """CSV with a header line."""

    media_type = "text/csv; charset=utf-8"

    def __init__(self, sheet: Sheet) -> None:
        self._columns = sheet.columns
        self._titles = sheet.titles or sheet.columns

    def head(self) -> bytes:
        return _csv_lines([[csv_cell(title) for title in self._titles]])

    def rows(self, batch: Sequence[Row]) -> bytes:
        return _csv_lines([[csv_cell(row[column]) for column in self._columns] for row in batch])

    def tail(self) -> bytes:
        return b""


class JsonEncoder:
    """One object with all rows in an array."""

    media_type = "application/json"

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._total = 0

    def head(self) -> bytes:
        return b'{"%b":[' % self._sheet.name.encode()

    def rows(self, batch: Sequence[Row]) -> bytes:
        fields = [{column: row[column] for column in self._sheet.columns} for row in batch]
        parts = [orjson.dumps(one, default=str, option=_JSON_OPTIONS) for one in fields]
        first = b"\n" if self._total == 0 else b",\n"
        self._total += len(batch)
        return first + b",\n".join(parts) if parts else b""

    def tail(self) -> bytes:
        return b'\n],"total":%d}\n' % self._total


def new_encoder(kind: ExportFormat, sheet: Sheet) -> Encoder:
    """The writer of one file."""
    return CsvEncoder(sheet) if kind is ExportFormat.CSV else JsonEncoder(sheet)


def csv_cell(value: Any) -> str | int | float:
    """The value as a cell; only texts can be formulas, numbers stay numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    text = _text(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)


def _csv_lines(lines: Sequence[Sequence[str | int | float]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()
