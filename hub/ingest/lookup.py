"""Dictionaries of epochs and of posting sensors, as the database has them now. Inside an ingest transaction.

An agent may have thousands of series. So what they rest on is first compared by a digest that the database makes, and
only a dictionary that has changed is made anew, `PIECE` series or sensors at a time: in between everybody else on the
event loop gets a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import numpy as np

from hub.database.pool import Connection
from hub.ingest import catalogue_sql as sql
from hub.ingest.dictionary import AS_THE_HUB, UNKNOWN, Dictionary, Narrowing, Slot, Verdict
from hub.ingest.profiles import Profiles
from hub.ingest.timeline import FOR_EVER_US, RAW_FOR_EVER, SINCE_EVER_US, NamedTimelines, Term, Timeline
from shared.readings import Int64

PIECE = 100
"""Series or sensors that are dealt with in one go, which takes some milliseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_BINDING_VERDICTS = {"deleted": Verdict.SENSOR_DELETED, "refused": Verdict.SENSOR_REFUSED}

_Row = TypeVar("_Row")

PostKey: TypeAlias = tuple[UUID, tuple[str, ...]]
"""A sensor that posts for itself, and its signals."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far from now the hub takes readings, within which projects may take less."""

    ahead_s: int = 86_400
    back_days: int = 3650

    def narrowing(self, clock_skew_s: int | None, retention_days: int | None) -> Narrowing:
        """What a project's policies leave out of it."""
        ahead_s = self.ahead_s if clock_skew_s is None else min(clock_skew_s, self.ahead_s)
        back_days = min(retention_days, self.back_days) if retention_days else self.back_days
        return Narrowing((self.ahead_s - ahead_s) * 1_000_000, (self.back_days - back_days) * _DAY_US)


@dataclass(frozen=True, slots=True)
class _Sensors:
    """What decides over the readings of sensors, by time."""

    timelines: Mapping[UUID, Timeline]
    named: Mapping[UUID, NamedTimelines]
    archived_us: Mapping[UUID, Sequence[tuple[int, int]]]
    narrowings: Mapping[UUID, Narrowing]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Asks over one connection, in an ingest transaction.

    Attributes:
        profiles: takes up those that are met.
    """

    connection: Connection
    profiles: Profiles
    reach: Reach

    async def digests(self, epoch_ids: Collection[int]) -> dict[int, bytes]:
        """Of all that these epochs' dictionaries rest on. To be asked before they are: then no change goes unseen."""
        rows = await self.connection.fetch(sql.DIGESTS, list(epoch_ids))
        return {row["epoch_id"]: row["digest"] for row in rows}

    async def dropped_us(self) -> Int64:
        """int64 (n, 2), ranges (to exclusive) whose raw readings were dropped."""
        ranges = [(_us(row["time_from"]), _us(row["time_to"])) for row in await self.connection.fetch(sql.DROPPED)]
        return np.array(ranges, np.int64).reshape(-1, 2)

    async def epochs(self, epoch_ids: Collection[int]) -> dict[int, Dictionary]:
        """The dictionaries of epochs."""
        rows = await self.connection.fetch(sql.DICTIONARY, list(epoch_ids))
        sent = await self.connection.fetch(sql.DICTIONARY_PROFILES, list(epoch_ids))
        sensors = await self._sensors({row["sensor_id"] for row in rows})
        await self._add_profiles([row for row in sent if row["kind"] is not None], id_column="profile_id")
        slots: dict[int, list[Slot]] = {epoch_id: [] for epoch_id in epoch_ids}
        async for piece in _pieces(rows):
            for row in piece:
                slots[row["epoch_id"]].append(_slot(row["ref"], row, sensors))
        places: dict[int, dict[int, int]] = {epoch_id: {} for epoch_id in epoch_ids}
        for row in sent:
            places[row["epoch_id"]][row["ref"]] = self.profiles.place(row["profile_id"])
        return {epoch_id: Dictionary.of(slots[epoch_id], places[epoch_id]) for epoch_id in epoch_ids}

    async def posts(self, keys: Collection[PostKey]) -> dict[PostKey, Dictionary]:
        """The dictionaries of sensors that post for themselves."""
        rows = await self.connection.fetch(sql.SENSOR_SERIES, [sensor_id for sensor_id, _ in keys])
        sensors = await self._sensors({row["sensor_id"] for row in rows})
        rows_of = _by("sensor_id", rows)
        return {key: _post_dictionary(key, rows_of.get(key[0], []), sensors) for key in keys}

    async def _sensors(self, sensor_ids: Collection[UUID | None]) -> _Sensors:
        wanted = [sensor_id for sensor_id in sensor_ids if sensor_id is not None]
        if not wanted:
            return _Sensors({}, {}, {}, {})
        archived: dict[UUID, list[tuple[int, int]]] = {}
        for row in await self.connection.fetch(sql.ARCHIVED, wanted):
            archived.setdefault(row["sensor_id"], []).append((_us(row["time_from"]), _us(row["time_to"])))
        narrowings = {
            row["sensor_id"]: self.reach.narrowing(row["clock_skew_s"], row["retention_days"])
            for row in await self.connection.fetch(sql.POLICIES, wanted)
        }
        timelines: dict[UUID, Timeline] = {}
        named: dict[UUID, NamedTimelines] = {}
        async for piece in _pieces(list((await self._terms(wanted)).items())):
            for sensor_id, own in piece:
                timelines[sensor_id] = Timeline([one for one in own if not one.session_ids])
                if any(one.session_ids is not None for one in own):
                    named[sensor_id] = NamedTimelines(own)
        return _Sensors(timelines, named, archived, narrowings)

    async def _terms(self, sensor_ids: list[UUID]) -> dict[UUID, list[Term]]:
        queries = (sql.PROFILES, sql.SPLITS, sql.RULINGS)
        rows = [row for query in queries for row in await self.connection.fetch(query, sensor_ids)]
        await self._add_profiles(rows, id_column="id")
        terms: dict[UUID, list[Term]] = {}
        async for piece in _pieces(rows):
            for row in piece:
                place = self.profiles.place(row["id"])
                if place != UNKNOWN:
                    terms.setdefault(row["sensor_id"], []).append(_term(place, row))
        return terms

    async def _add_profiles(self, rows: Sequence[Any], *, id_column: str) -> None:
        ref_column = "ref" if id_column == "id" else "profile_ref"
        async for piece in _pieces([row for row in rows if row[id_column] not in self.profiles]):
            for row in piece:
                self.profiles.add(row[id_column], row[ref_column], row["kind"], row["payload"])


async def _pieces(rows: Sequence[_Row]) -> AsyncIterator[Sequence[_Row]]:
    """`PIECE` at a time; everybody else on the event loop gets a turn in between."""
    for start in range(0, len(rows), PIECE):
        if start:
            await asyncio.sleep(0)
        yield rows[start : start + PIECE]


def _term(place: int, row: Any) -> Term:
    since_us = SINCE_EVER_US if row["valid_from"] is None else _us(row["valid_from"])
    until_us = FOR_EVER_US if row["valid_to"] is None else _us(row["valid_to"])
    decided_us = SINCE_EVER_US if row["decided_at"] is None else _us(row["decided_at"])
    sessions = None if row["session_ids"] is None else frozenset(row["session_ids"])
    return Term(place, since_us, until_us, decided_us, row["is_ruling"], row["is_split"], sessions)


def _post_dictionary(key: PostKey, rows: Sequence[Any], sensors: _Sensors) -> Dictionary:
    by_signal = {row["signal"]: row for row in rows}
    slots = [
        _slot(place, by_signal[signal], sensors)
        if signal in by_signal
        else Slot(place, "", signal, Verdict.UNRESOLVED, sensor_id=key[0])
        for place, signal in enumerate(key[1], start=1)
    ]
    return Dictionary.of(slots, {})


def _by(column: str, rows: Sequence[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def _slot(ref: int, row: Any, sensors: _Sensors) -> Slot:
    verdict = _verdict(row)
    return Slot(
        ref,
        row["sensor_name"],
        row["signal"],
        verdict,
        row["series_id"] if verdict is Verdict.STORE else 0,
        row["sensor_id"],
        row["project_id"],
        sensors.timelines.get(row["sensor_id"], RAW_FOR_EVER),
        sensors.named.get(row["sensor_id"]),
        tuple(sensors.archived_us.get(row["sensor_id"], ())),
        sensors.narrowings.get(row["sensor_id"], AS_THE_HUB),
    )


def _verdict(row: Any) -> Verdict:
    if row["state"] is None:
        return Verdict.SENSOR_REFUSED
    if row["state"] in _BINDING_VERDICTS:
        return _BINDING_VERDICTS[row["state"]]
    if row["sensor_id"] is None or row["sensor_status"] is None:
        return Verdict.SENSOR_DELETED
    if row["sensor_status"] == "decommissioned":
        return Verdict.SENSOR_DECOMMISSIONED
    return Verdict.UNRESOLVED if row["series_id"] is None else Verdict.STORE


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
