"""What ingest knows of agents, epochs, dictionaries and profiles, kept in memory between transactions.

Invariants
    * Everything here is read inside an ingest transaction, after it has taken the shared catalogue lock, and used only
      inside transactions that found the same generation under the same lock (`enter_ingest` in the schema). So what is
      used is what is committed: nobody can publish or delete in between.
    * No absence is remembered: what was not there is looked up again.
    * Ids of epochs and the content of published profiles never change; these survive a new generation, not a new
      incarnation of the database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from hub.database.pool import Connection
from hub.ingest import catalogue_sql as sql
from hub.ingest.dictionary import AS_THE_HUB, UNKNOWN, Dictionary, Narrowing, Slot, Verdict
from hub.ingest.timeline import FOR_EVER_US, RAW_FOR_EVER, SINCE_EVER_US, NamedTimelines, Term, Timeline
from shared.conversion import ProfileTable, compile_profile
from shared.errors import ProfileError
from shared.readings import Int64

EPOCHS_MAX = 50_000
SLOTS_MAX = 2_000_000
"""More than this is forgotten at once and looked up again."""

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_BINDING_VERDICTS = {"deleted": Verdict.SENSOR_DELETED, "refused": Verdict.SENSOR_REFUSED}

EpochKey: TypeAlias = tuple[UUID, bytes]
PostKey: TypeAlias = tuple[UUID, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent.

    Attributes:
        is_welcome: whether its batches are taken: it is enrolled, or retired and may still deliver.
        is_answered: whether it is told of those that are not: one that is compromised hears nothing.
    """

    project_id: UUID
    is_welcome: bool
    is_answered: bool


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


class Profiles:
    """All profiles that ingest has met: one `ProfileTable`, and their places in it."""

    def __init__(self) -> None:
        self.table = ProfileTable()
        self.refs = np.zeros(1, np.int32)
        """int32 (n_profiles + 1,), `conversion_profiles.ref` by place in the table."""
        self.ids: list[UUID | None] = [None]
        self._places: dict[UUID, int] = {}

    def place(self, profile_id: UUID) -> int:
        """The profile's place in the table, `UNKNOWN` if it was not added."""
        return self._places.get(profile_id, UNKNOWN)

    def __contains__(self, profile_id: object) -> bool:
        return profile_id in self._places

    def add(self, profile_id: UUID, ref: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Take up a published profile. One that does not compile is reported, and is as if it were not there."""
        if profile_id in self._places:
            return
        try:
            compiled = compile_profile(kind, payload)
        except ProfileError as error:
            log.warning("event=profile_unusable profile_id=%s error=%r", profile_id, str(error))
            self._places[profile_id] = UNKNOWN
            return
        self.table = self.table.with_profile(compiled)
        self.refs = np.append(self.refs, np.int32(ref))
        self.ids.append(profile_id)
        self._places[profile_id] = len(self.table)


@dataclass(frozen=True, slots=True)
class Known:
    """What one group needs, to be used in its transaction only; stays whole when others forget.

    Attributes:
        dropped_us: int64 (n, 2), ranges (to exclusive) whose raw readings were dropped.
    """

    dictionaries: Mapping[int, Dictionary]
    posts: Mapping[PostKey, Dictionary]
    profiles: Profiles
    dropped_us: Int64


class Catalogue:
    """The memory; for one event loop."""

    def __init__(self, reach: Reach = Reach()) -> None:
        self._reach = reach
        self._met: tuple[UUID, int] | None = None
        self._generation = -1
        self._profiles = Profiles()
        self.epochs: dict[EpochKey, int] = {}
        self._agents: dict[UUID, Agent] = {}
        self._dictionaries: dict[int, Dictionary] = {}
        self._posts: dict[PostKey, Dictionary] = {}
        self._dropped_us: Int64 | None = None
        self._slots = 0

    @property
    def generation(self) -> int:
        """Of the catalogue, as last seen; -1 before."""
        return self._generation

    def meet(self, incarnation: UUID, connects: int = 0) -> None:
        """The database is this one, sought so often; forget everything if it was, or may have been, another."""
        if (incarnation, connects) != self._met:
            self._met = (incarnation, connects)
            self.epochs.clear()
            self._profiles = Profiles()
            self.forget()

    def forget(self) -> None:
        """Forget what may have changed, or what a rolled back transaction had written."""
        self._generation = -1
        self._agents.clear()
        self._dictionaries.clear()
        self._posts.clear()
        self._dropped_us = None
        self._slots = 0
        if len(self.epochs) > EPOCHS_MAX:
            self.epochs.clear()

    async def enter(self, connection: Connection, epoch_ids: Sequence[int]) -> None:
        """Begin an ingest transaction: lock, and forget what was changed since the last one.

        Args:
            epoch_ids: that the transaction writes for, rising.
        """
        generation: int = await connection.fetchval(sql.ENTER, epoch_ids)
        if generation != self._generation or self._slots > SLOTS_MAX:
            self.forget()
            self._generation = generation

    async def load_agents(self, connection: Connection, agent_ids: Iterable[UUID]) -> Mapping[UUID, Agent]:
        """Those of the agents that there are."""
        wanted = set(agent_ids)
        known = {agent_id: self._agents[agent_id] for agent_id in wanted & self._agents.keys()}
        if wanted - known.keys():
            for row in await connection.fetch(sql.AGENTS, list(wanted - known.keys())):
                known[row["id"]] = Agent(row["project_id"], row["is_welcome"], row["status"] != "compromised")
        self._agents.update(known)
        return known

    def has_post(self, key: PostKey) -> bool:
        """Whether the signals of a sensor that posts for itself are known."""
        return key in self._posts

    def outdate(self, epoch_id: int) -> None:
        """The epoch's dictionary grows in this transaction: look it up again."""
        self._dictionaries.pop(epoch_id, None)

    async def load(self, connection: Connection, epoch_ids: Iterable[int], posts: Iterable[PostKey]) -> Known:
        """The dictionaries of epochs and posts, and what belongs to them."""
        profiles, wanted_epochs, wanted_posts = self._profiles, set(epoch_ids), set(posts)
        dictionaries = {key: self._dictionaries[key] for key in wanted_epochs & self._dictionaries.keys()}
        own = {key: self._posts[key] for key in wanted_posts & self._posts.keys()}
        dropped_us = self._dropped_us
        if dropped_us is None:
            ranges = [(_us(row["time_from"]), _us(row["time_to"])) for row in await connection.fetch(sql.DROPPED)]
            dropped_us = np.array(ranges, np.int64).reshape(-1, 2)
        if missing := list(wanted_epochs - dictionaries.keys()):
            dictionaries |= await _load_epochs(connection, profiles, missing, self._reach)
        if absent := list(wanted_posts - own.keys()):
            own |= await _load_posts(connection, profiles, absent, self._reach)
        self._keep(dictionaries, own, dropped_us)
        return Known(dictionaries, own, profiles, dropped_us)

    def recall(self, epoch_of: Mapping[EpochKey, int]) -> Known | None:
        """What is known of these epochs and their agents without asking; None where something is not.

        It holds for `generation`, which is to be compared under the catalogue lock.
        """
        agents = [self._agents.get(agent_id) for agent_id, _ in epoch_of]
        epoch_ids = epoch_of.values()
        if self._generation < 0 or self._dropped_us is None or not self._dictionaries.keys() >= set(epoch_ids):
            return None
        if any(agent is None or not agent.is_welcome for agent in agents):
            return None
        dictionaries = {epoch_id: self._dictionaries[epoch_id] for epoch_id in epoch_ids}
        return Known(dictionaries, {}, self._profiles, self._dropped_us)

    def _keep(
        self, dictionaries: Mapping[int, Dictionary], posts: Mapping[PostKey, Dictionary], dropped_us: Int64
    ) -> None:
        """Remember what is complete; what is still to be registered is looked up again."""
        for epoch_id, dictionary in dictionaries.items():
            if epoch_id not in self._dictionaries and dictionary.is_complete:
                self._dictionaries[epoch_id] = dictionary
                self._slots += len(dictionary.slots)
        for key, dictionary in posts.items():
            if key not in self._posts and dictionary.is_complete:
                self._posts[key] = dictionary
                self._slots += len(dictionary.slots)
        self._dropped_us = dropped_us


@dataclass(frozen=True, slots=True)
class _Sensors:
    """What decides over the readings of sensors, by time."""

    timelines: Mapping[UUID, Timeline]
    named: Mapping[UUID, NamedTimelines]
    archived_us: Mapping[UUID, Sequence[tuple[int, int]]]
    narrowings: Mapping[UUID, Narrowing]


async def _load_epochs(
    connection: Connection, profiles: Profiles, epoch_ids: list[int], reach: Reach
) -> dict[int, Dictionary]:
    rows = await connection.fetch(sql.DICTIONARY, epoch_ids)
    sent = await connection.fetch(sql.DICTIONARY_PROFILES, epoch_ids)
    sensors = await _sensors(connection, profiles, {row["sensor_id"] for row in rows}, reach)
    for row in sent:
        if row["kind"] is not None:
            profiles.add(row["profile_id"], row["profile_ref"], row["kind"], row["payload"])
    slots_of, sent_of = _by("epoch_id", rows), _by("epoch_id", sent)
    return {
        epoch_id: Dictionary.of(
            [_slot(row["ref"], row, sensors) for row in slots_of.get(epoch_id, [])],
            {row["ref"]: profiles.place(row["profile_id"]) for row in sent_of.get(epoch_id, [])},
        )
        for epoch_id in epoch_ids
    }


async def _load_posts(
    connection: Connection, profiles: Profiles, keys: list[PostKey], reach: Reach
) -> dict[PostKey, Dictionary]:
    rows = await connection.fetch(sql.SENSOR_SERIES, [sensor_id for sensor_id, _ in keys])
    sensors = await _sensors(connection, profiles, {row["sensor_id"] for row in rows}, reach)
    rows_of = _by("sensor_id", rows)
    return {key: _post_dictionary(key, rows_of.get(key[0], []), sensors) for key in keys}


def _post_dictionary(key: PostKey, rows: Sequence[Any], sensors: _Sensors) -> Dictionary:
    by_signal = {row["signal"]: row for row in rows}
    slots = [
        _slot(place, by_signal[signal], sensors)
        if signal in by_signal
        else Slot(place, "", signal, Verdict.UNRESOLVED, sensor_id=key[0])
        for place, signal in enumerate(key[1], start=1)
    ]
    return Dictionary.of(slots, {})


async def _sensors(connection: Connection, profiles: Profiles, sensor_ids: set[UUID | None], reach: Reach) -> _Sensors:
    wanted = [sensor_id for sensor_id in sensor_ids if sensor_id is not None]
    if not wanted:
        return _Sensors({}, {}, {}, {})
    archived: dict[UUID, list[tuple[int, int]]] = {}
    for row in await connection.fetch(sql.ARCHIVED, wanted):
        archived.setdefault(row["sensor_id"], []).append((_us(row["time_from"]), _us(row["time_to"])))
    narrowings = {
        row["sensor_id"]: reach.narrowing(row["clock_skew_s"], row["retention_days"])
        for row in await connection.fetch(sql.POLICIES, wanted)
    }
    terms = await _terms(connection, profiles, wanted)
    return _Sensors(
        {sensor_id: Timeline([one for one in own if not one.session_ids]) for sensor_id, own in terms.items()},
        {
            sensor_id: NamedTimelines(own)
            for sensor_id, own in terms.items()
            if any(one.session_ids is not None for one in own)
        },
        archived,
        narrowings,
    )


async def _terms(connection: Connection, profiles: Profiles, sensor_ids: list[UUID]) -> dict[UUID, list[Term]]:
    terms: dict[UUID, list[Term]] = {}
    queries = (sql.PROFILES, sql.SPLITS, sql.RULINGS)
    for row in [row for query in queries for row in await connection.fetch(query, sensor_ids)]:
        profiles.add(row["id"], row["ref"], row["kind"], row["payload"])
        place = profiles.place(row["id"])
        if place != UNKNOWN:
            since_us = SINCE_EVER_US if row["valid_from"] is None else _us(row["valid_from"])
            until_us = FOR_EVER_US if row["valid_to"] is None else _us(row["valid_to"])
            decided_us = SINCE_EVER_US if row["decided_at"] is None else _us(row["decided_at"])
            sessions = None if row["session_ids"] is None else frozenset(row["session_ids"])
            term = Term(place, since_us, until_us, decided_us, row["is_ruling"], row["is_split"], sessions)
            terms.setdefault(row["sensor_id"], []).append(term)
    return terms


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
