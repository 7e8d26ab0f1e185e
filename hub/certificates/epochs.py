"""A session's agents and their epochs, as its certificate shows them."""

from __future__ import annotations

from hub.certificates import epochs_store
from hub.certificates.agents import ConcernedAgent, ConcernedEpoch
from hub.certificates.subject import TIMEOUT_S
from hub.certificates.views import AgentCertificate, ClockSegment, EpochCertificate, SeqRange, seq_ranges
from hub.database.pool import Connection


async def certified(connection: Connection, agent: ConcernedAgent) -> AgentCertificate:
    """An agent with its epochs. Raises: StorageUnavailable."""
    epochs = [await _epoch(connection, one) for one in agent.epochs]
    ids = list(agent.row["sensor_ids"])
    return AgentCertificate(agent_id=agent.row["id"], name=agent.row["name"], sensor_ids=ids, epochs=epochs)


async def _epoch(connection: Connection, concerned: ConcernedEpoch) -> EpochCertificate:
    row, standing = concerned.row, concerned.standing
    batches = await epochs_store.batches(connection, row["id"], *standing.seqs, timeout_s=TIMEOUT_S)
    ids = batches["first_ids"], batches["last_ids"]
    segments = await epochs_store.segments(connection, row["id"])
    return EpochCertificate(
        epoch=row["epoch"].hex(),
        version=row["version"],
        started_at=row["started_at"],
        taken_through=row["taken_through"],
        seqs=SeqRange(first=standing.seqs.first, last=standing.seqs.last),
        folded_through=row["folded_through"],
        **{name: batches[name] for name in ("batches", "readings", "stored", "repeated", "set_aside")},
        present=await epochs_store.present(connection, *ids, timeout_s=TIMEOUT_S),
        unexplained=seq_ranges(standing.missing),
        closed_reason=row["closed_reason"],
        waits_for=standing.reason,
        clock=[ClockSegment(**{name: one[name] for name in ClockSegment.model_fields}) for one in segments],
    )
