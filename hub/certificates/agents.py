"""What a session's agents say: which of their epochs are concerned, and what each still has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from hub.agents.epochs import Range, committed, explained, missing
from hub.certificates import epochs_store as store
from hub.certificates.epochs_store import Row
from hub.certificates.rules import Epoch, Span, Standing, WaitReason, is_concerned, standing_of
from hub.database.pool import Connection
from hub.telemetry.moments import to_us


@dataclass(frozen=True, slots=True)
class ConcernedEpoch:
    """An epoch that may have readings of the session."""

    row: Row
    epoch: Epoch
    standing: Standing


@dataclass(frozen=True, slots=True)
class UnseenEpoch:
    """An epoch that another one names as its predecessor, and of which not all came."""

    epoch: bytes
    missing: Sequence[Range]


@dataclass(frozen=True, slots=True)
class ConcernedAgent:
    """An agent of the session's sensors.

    Attributes:
        heard: whether anything ever came from it.
    """

    row: Row
    heard: bool
    epochs: Sequence[ConcernedEpoch]
    unseen: Sequence[UnseenEpoch]

    @property
    def waits(self) -> bool:
        """Whether anything is still to come."""
        return not self.heard or bool(self.unseen) or any(one.standing.reason for one in self.epochs)


async def concerned(
    connection: Connection, sensor_ids: Sequence[UUID], window: Span, *, timeout_s: float
) -> list[ConcernedAgent]:
    """The agents of these sensors, with those epochs that may have readings of the window."""
    agents = await store.agents(connection, sensor_ids)
    rows: dict[UUID, list[Row]] = {agent["id"]: [] for agent in agents}
    for row in await store.epochs(connection, list(rows)):
        rows[row["agent_id"]].append(row)
    return [await _agent(connection, agent, rows[agent["id"]], window, timeout_s) for agent in agents]


async def _agent(
    connection: Connection, agent: Row, rows: Sequence[Row], window: Span, timeout_s: float
) -> ConcernedAgent:
    found = []
    for place, row in enumerate(rows):
        before = _ancestors(row, rows)
        later = [one for one in rows[place + 1 :] if one["epoch"] not in before]
        epoch = _epoch(agent, row, later, _heir(row, rows))
        if not is_concerned(epoch, window):
            continue
        epoch = replace(
            epoch,
            known=await committed(connection, row["id"], row["folded_through"]),
            explained=await explained(connection, agent["id"], row["epoch"]),
        )
        if is_concerned(epoch, window):
            epoch = await _with_claims(connection, row, epoch, window, timeout_s)
            found.append(ConcernedEpoch(row, epoch, standing_of(epoch)))
    unseen = [one for row in rows for one in await _unseen(connection, agent["id"], row, rows, window)]
    return ConcernedAgent(agent, bool(rows), found, unseen)


def _epoch(agent: Row, row: Row, later: Sequence[Row], heir: Row | None) -> Epoch:
    following = [heir] if heir is not None else later
    starts = [to_us(one["started_at"]) for one in following if one is not None and one["started_at"] is not None]
    told = None if heir is None else heir["previous_last_seq"] or 0
    return Epoch(
        started_us=_us(row["started_at"]),
        ended_us=min(starts, default=None),
        through_us=_us(row["taken_through"]),
        last_seq=max(row["ledger_last"], row["folded_through"], told or 0),
        told_last_seq=told,
        has_followers=bool(later) or agent["status"] != "enrolled",
        closed=row["closed_at"] is not None,
    )


def _ancestors(row: Row, rows: Sequence[Row]) -> set[bytes]:
    """The epochs that certainly came before this one, whatever their clocks say."""
    previous = {one["epoch"]: one["previous_epoch"] for one in rows}
    found: set[bytes] = set()
    one: bytes | None = row["previous_epoch"]
    while one is not None and one not in found:
        found.add(one)
        one = previous.get(one)
    return found


def _heir(row: Row, rows: Sequence[Row]) -> Row | None:
    """The epoch that says what this one's last batch was; of several, the one that tells of the most."""
    heirs = [one for one in rows if one["previous_epoch"] == row["epoch"]]
    return max(heirs, key=lambda one: one["previous_last_seq"] or 0, default=None)


async def _with_claims(connection: Connection, row: Row, epoch: Epoch, window: Span, timeout_s: float) -> Epoch:
    claims = await store.claims(connection, row["id"], window.from_us, window.to_us, timeout_s=timeout_s)
    covering = claims["covering_seq"] or None
    folded = row["folded_taken_through"]
    if folded is not None and to_us(folded) >= window.to_us:
        covering = row["folded_through"]
    return replace(epoch, covering_seq=covering, before_seq=claims["before_seq"])


async def _unseen(
    connection: Connection, agent_id: UUID, row: Row, rows: Sequence[Row], window: Span
) -> list[UnseenEpoch]:
    """The predecessor that an epoch names and of which nothing came, if it may have readings of the window."""
    previous: bytes | None = row["previous_epoch"]
    if previous is None or any(one["epoch"] == previous for one in rows):
        return []
    started_us = _us(row["started_at"])
    if started_us is not None and started_us <= window.from_us:
        return []
    holes = missing(row["previous_last_seq"] or 0, await explained(connection, agent_id, previous))
    return [UnseenEpoch(previous, holes)] if holes else []


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


REASONS = {
    WaitReason.TAKEN_THROUGH: "has not said yet that everything up to the session's end was taken",
    WaitReason.BATCHES: "has batches that have not come, and that no gap record explains",
    WaitReason.UNKNOWN_TAIL: "has an epoch whose end nobody knows; an owner can close it with a reason",
    WaitReason.UNSEEN_EPOCH: "names an epoch of which nothing has come",
    WaitReason.UNHEARD_AGENT: "is bound to sensors of the session and was never heard from",
}
