"""HTTP of importing what an agent holds, from its exported spool."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from hub.access.identity import CurrentUser, Role
from hub.access.rules import OWNER, rule
from hub.agents.access import find_agent
from hub.agents.store import Row
from hub.errors import Problem, too_many
from hub.events.change import CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.ingest.spool_import import SpoolImport, Tally

router = APIRouter(prefix="/api/v1/agents/{agent_id}/import", tags=["agents"])

IMPORT_PATH = re.compile(r"/api/v1/agents/[^/]+/import")
"""Where larger bodies are taken."""
IMPORTS_MAX = 2
"""Files that a hub takes in at the same time, some 64 MiB each."""
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_slots = asyncio.Semaphore(IMPORTS_MAX)


class Unsettled(BaseModel):
    """A batch that was not taken, and why."""

    epoch: str
    seq: int
    outcome: str


class ImportView(BaseModel):
    """What became of a file. Whatever was not taken is named, and may be sent again."""

    agent_id: UUID
    bytes: int
    batches: int
    outcomes: dict[str, int] = Field(
        description="Batches by outcome: `committed`; `known` (the hub had them); `conflict` (it has others by that "
        "identity); `not_yours` (of another agent); `corrupt` (what the database cannot hold); `unsupported_version`; "
        "`later` (their dictionary, sensors or clock are missing here); `physical` (their physical values cannot be "
        "derived here); `failed` (see the hub's log)."
    )
    readings_stored: int
    readings_repeated: int = Field(description="That were there already.")
    readings_set_aside: int
    unreadable_bytes: int = Field(description="That belong to no batch which verifies.")
    unsettled: list[Unsettled] = Field(description="Batches that were not taken, the first 1,000.")


@router.post("", dependencies=[rule(OWNER)], openapi_extra=_BODY)
async def import_spool(request: Request, changes: CurrentChanges, user: CurrentUser, agent_id: UUID) -> ImportView:
    """Take in what an agent holds, from the file that `labrelay agent spool export --all` writes on its computer.

    Whatever the agent may do: enrolled, retired or compromised. Nothing is stored twice.
    """
    services = changes.services
    agent = await find_agent(services, user, agent_id, Role.OWNER)
    if _slots.locked():
        raise too_many("other files are being imported; try again soon", retry_after_s=10)
    async with _slots:
        work = SpoolImport(services.ingest, agent_id, timeout_s=services.settings.ingest_post_timeout_s)
        try:
            await work.take(request.stream())
        except (ClientDisconnect, HTTPException) as error:  # what came stays, and is told of
            await work.finish()
            if work.tally.bytes:
                await _record(changes, agent, work.tally, complete=False)
            if isinstance(error, ClientDisconnect):
                raise Problem(400, "the body ended early") from None
            raise
        if not work.tally.bytes:
            raise Problem(422, "the body is empty: send the exported spool", code="invalid_field")
        await work.finish()
        await _record(changes, agent, work.tally, complete=True)
    return _view(agent_id, work.tally)


async def _record(changes: CurrentChanges, agent: Row, tally: Tally, *, complete: bool) -> None:
    told = _view(agent["id"], tally).model_dump(mode="json", exclude={"unsettled"})
    told |= {"name": agent["name"], "complete": complete}
    async with changes.begin() as change:
        change.record(NewEvent("agent.imported", SubjectType.AGENT, agent["id"], agent["project_id"], told))


def _view(agent_id: UUID, tally: Tally) -> ImportView:
    return ImportView(
        agent_id=agent_id,
        bytes=tally.bytes,
        batches=tally.batches,
        outcomes=dict(tally.outcomes),
        readings_stored=tally.stored,
        readings_repeated=tally.repeated,
        readings_set_aside=tally.set_aside,
        unreadable_bytes=tally.unreadable_bytes,
        unsettled=[Unsettled(epoch=epoch, seq=seq, outcome=outcome) for epoch, seq, outcome in tally.unsettled],
    )
