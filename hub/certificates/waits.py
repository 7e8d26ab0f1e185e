"""What is still to come before a certificate is final, and from whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hub.certificates import counts
from hub.certificates.agents import REASONS, ConcernedAgent, ConcernedEpoch
from hub.certificates.rules import WaitReason
from hub.certificates.subject import Subject
from hub.certificates.views import Wait, seq_ranges
from hub.database.pool import Connection


async def waits_of(connection: Connection, subject: Subject) -> list[Wait]:
    """What is still to come before the certificate is final; a session that runs waits for nobody."""
    row = subject.row
    if row["stopped_at"] is None:
        return []
    waits = [_backfill_wait()] if row["status"] == "backfilling" else []
    for agent in subject.agents:
        waits += _agent_waits(agent, subject.span[1])
    sensors = sorted(subject.membership.sensor_ids)
    for sensor_id, readings in (await counts.unplaced(connection, sensors, row["started_at"])).items():
        detail = f"{readings} readings are set aside because nobody knows their time; an owner can place them"
        waits.append(Wait(reason=WaitReason.CLOCK, sensor_id=sensor_id, detail=detail))
    return waits


def _agent_waits(agent: ConcernedAgent, through: datetime) -> list[Wait]:
    named: dict[str, Any] = {"agent_id": agent.row["id"], "agent_name": agent.row["name"]}
    if not agent.heard:
        return [Wait(reason=WaitReason.UNHEARD_AGENT, detail=REASONS[WaitReason.UNHEARD_AGENT], **named)]
    waits = [_epoch_wait(one, through, named) for one in agent.epochs if one.standing.reason is not None]
    reason = WaitReason.UNSEEN_EPOCH
    waits += [
        Wait(reason=reason, epoch=one.epoch.hex(), seqs=seq_ranges(one.missing), detail=REASONS[reason], **named)
        for one in agent.unseen
    ]
    return waits


def _epoch_wait(epoch: ConcernedEpoch, through: datetime, named: dict[str, Any]) -> Wait:
    reason = epoch.standing.reason
    assert reason is not None
    return Wait(
        reason=reason,
        epoch=epoch.row["epoch"].hex(),
        seqs=seq_ranges(epoch.standing.missing),
        through=through if reason is WaitReason.TAKEN_THROUGH else None,
        detail=REASONS[reason],
        **named,
    )


def _backfill_wait() -> Wait:
    return Wait(reason=WaitReason.BACKFILL, detail="a backfill is under way, and has to be completed")
