"""HTTP of an agent's epochs: what came of each, what is missing, and the end of those that have none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel

from hub.access.identity import CurrentUser, Role
from hub.access.rules import OWNER, VIEWER, rule
from hub.agents import epochs
from hub.agents.access import find_agent
from hub.agents.epochs import RANGES_MAX, EpochState, Range, Row, last_seq_of, missing, state_of
from hub.database.pool import Connection, acquire
from hub.errors import conflict, not_found
from hub.events.change import CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Name
from hub.paging import Paging
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/api/v1/agents/{agent_id}/epochs", tags=["agents"])

EpochName = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits.")]


class SeqRange(BaseModel):
    """Batches `first` to `last`."""

    first: int
    last: int


class GapView(BaseModel):
    """Readings that will never come, and why; `readings` is null where nobody can know."""

    cause: str
    time_from: datetime
    time_to: datetime
    readings: int | None


class EpochView(BaseModel):
    """One run of an agent.

    `last_seq` is the last batch that anybody has told of; `holes` are those up to it that are neither stored nor
    explained by a gap record: they may still come, or lie in the agent's quarantine.
    """

    epoch: str
    state: EpochState
    predecessor: str | None
    successor: str | None
    started_at: datetime | None
    first_received_at: datetime
    taken_through: datetime | None
    version: str
    host: str
    first_seq: int | None
    last_seq: int
    stored_batches: int
    explained_batches: int
    holes: list[SeqRange]
    gaps: list[GapView]
    closed_at: datetime | None
    closed_by: UUID | None
    closed_reason: str | None


class Epochs(BaseModel):
    """A page of epochs."""

    epochs: list[EpochView]
    total: int
    page: int
    page_size: int


class Closing(Body):
    """Why nothing more will come."""

    reason: Name


@router.get("", dependencies=[rule(VIEWER)])
async def list_epochs(
    services: CurrentServices, user: CurrentUser, agent_id: UUID, paging: Annotated[Paging, Depends()]
) -> Epochs:
    """An agent's epochs, latest first."""
    await find_agent(services, user, agent_id)
    async with acquire(services.pool) as connection:
        rows, total = await epochs.page(connection, agent_id, paging.page_size, paging.offset)
        running = await _running(services, connection, agent_id)
        views = [await _view(connection, agent_id, row, running) for row in rows]
    return Epochs(epochs=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("/{epoch}/close", dependencies=[rule(OWNER)])
async def close_epoch(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    agent_id: UUID,
    epoch: EpochName,
    body: Closing,
) -> EpochView:
    """Put an end to an epoch that has none, or give up what is missing of it. Batches that come are still taken."""
    agent = await find_agent(services, user, agent_id, Role.OWNER)
    name = bytes.fromhex(epoch)
    async with changes.begin() as change:
        connection = change.connection
        row = await epochs.one(connection, agent_id, name)
        if row is None:
            raise not_found("epoch")
        running = await _running(services, connection, agent_id)
        if state_of(row, running) == "closed" and not await _has_holes(connection, agent_id, row):
            raise conflict("the epoch has an end already", code="epoch_closed")
        presence = services.presence.of(agent_id)
        if presence is not None and presence.online and presence.state.instance == epoch:
            raise conflict("the agent is running in this epoch", code="epoch_running")
        if not await epochs.close(connection, row["id"], user.id, body.reason):
            raise conflict("the epoch has an end already", code="epoch_closed")
        closed = await epochs.one(connection, agent_id, name)
        assert closed is not None
        told = {"agent_id": str(agent_id), "agent_name": agent["name"], "epoch": epoch, "reason": body.reason}
        change.record(NewEvent("epoch.closed", SubjectType.EPOCH, agent_id, agent["project_id"], told))
        return await _view(connection, agent_id, closed, running)


async def _running(services: Services, connection: Connection, agent_id: UUID) -> bytes | None:
    """The epoch that the agent says it is in; else the one that began last."""
    presence = services.presence.of(agent_id)
    if presence is not None:
        try:
            return bytes.fromhex(presence.state.instance)
        except ValueError:
            pass
    return await epochs.latest(connection, agent_id)


async def _has_holes(connection: Connection, agent_id: UUID, row: Row) -> bool:
    """Whether batches are missing that no gap record explains, and that nobody has given up."""
    stored = await epochs.committed(connection, row["id"], row["folded_through"])
    explained = await epochs.explained(connection, agent_id, row["epoch"])
    return row["closed_at"] is None and bool(missing(last_seq_of(row), [*stored, *explained]))


async def _view(connection: Connection, agent_id: UUID, row: Row, running: bytes | None) -> EpochView:
    stored = await epochs.committed(connection, row["id"], row["folded_through"])
    explained = await epochs.explained(connection, agent_id, row["epoch"])
    last_seq = last_seq_of(row)
    holes = missing(last_seq, [*stored, *explained])
    unstored = missing(last_seq, stored)
    return EpochView(
        epoch=row["epoch"].hex(),
        state=state_of(row, running),
        predecessor=row["previous_epoch"].hex() if row["previous_epoch"] else None,
        successor=row["successor"].hex() if row["successor"] else None,
        started_at=row["started_at"],
        first_received_at=row["first_received_at"],
        taken_through=row["taken_through"],
        version=row["version"],
        host=row["host"],
        first_seq=1 if row["folded_through"] else row["ledger_first"],
        last_seq=last_seq,
        stored_batches=last_seq - _count(unstored),
        explained_batches=_count(unstored) - _count(holes),
        holes=[SeqRange(first=hole.first, last=hole.last) for hole in holes[:RANGES_MAX]],
        gaps=[GapView(**dict(gap)) for gap in await epochs.gaps(connection, row["id"])],
        closed_at=row["closed_at"],
        closed_by=row["closed_by"],
        closed_reason=row["closed_reason"],
    )


def _count(ranges: list[Range]) -> int:
    return sum(one.last - one.first + 1 for one in ranges)
