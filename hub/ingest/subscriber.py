"""The data lane: messages of agents become batches for the writer, and garbage an answer where it says whose it is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Protocol
from uuid import UUID

from hub.broker.lanes import UpMessage
from hub.ingest.acknowledge import BatchAnswer
from hub.ingest.answers import Answer
from hub.ingest.arrivals import Arrival
from hub.ingest.records import is_storable
from hub.ingest.write import IngestWriter
from hub.metrics import Metrics
from shared import wire
from shared.columns import DecodedColumns
from shared.errors import StorageUnavailable, UnsupportedVersion, WireError

log = logging.getLogger(__name__)

_AGENT_AT, _EPOCH_AT, _SEQ_AT, _SEQ_END = 12, 28, 44, 52
_LOGGED_PER_AGENT_MAX = 5
_READINGS_AT_ONCE = 4_000
"""Decoded in a row, which takes about half a millisecond. A full message holds fifty thousand."""


class Incarnate(Protocol):
    """Where the database's incarnation is known (`hub.database.storage.Storage`)."""

    @property
    def incarnation(self) -> UUID: ...


class Subscriber:
    """Takes messages of the data lane, one after the other."""

    def __init__(self, writer: IngestWriter, database: Incarnate, metrics: Metrics) -> None:
        self._writer = writer
        self._database = database
        self._garbage = metrics.counter("labrelay_ingest_garbage_total", "Batches and messages that are not ours")
        self._logged: Counter[UUID] = Counter()

    async def receive(self, message: UpMessage) -> None:
        """Decode a message and queue its batches; waits while the writer has no room."""
        try:
            batches = wire.split(message.payload)
        except WireError as error:
            self._refuse(message.agent_id, memoryview(message.payload), error)
            return
        readings = 0
        for view in batches:
            if readings >= _READINGS_AT_ONCE:
                await asyncio.sleep(0)  # a full message must not keep the loop to itself
                readings = 0
            arrival = self._decode(message.agent_id, view)
            if arrival is not None:
                await self._writer.room()
                self._writer.offer(arrival)
                readings += arrival.readings
        await asyncio.sleep(0)  # nor must a full lane

    def _decode(self, agent_id: UUID, view: memoryview) -> Arrival | None:
        try:
            batch = wire.decode(view)
        except WireError as error:
            self._refuse(agent_id, view, error)
            return None
        header = batch.header
        if header.agent_id != agent_id:
            self._answer(agent_id, header.epoch, header.seq, Answer.NOT_YOURS)
            return None
        if not isinstance(batch.content, DecodedColumns) and not is_storable(batch.content):
            self._answer(agent_id, header.epoch, header.seq, Answer.CORRUPT)
            return None
        return Arrival(header, batch.content, len(view))

    def _refuse(self, agent_id: UUID, view: memoryview, error: WireError) -> None:
        """Count it, and tell the agent if the frame says that it is the agent's."""
        if self._logged[agent_id] < _LOGGED_PER_AGENT_MAX:
            log.warning("event=garbage agent_id=%s bytes=%d error=%r", agent_id, len(view), str(error))
        self._logged[agent_id] += 1
        unsupported = isinstance(error, UnsupportedVersion)
        readable = len(view) >= _SEQ_END and view[:3] == wire.MAGIC
        if not readable or view[_AGENT_AT:_EPOCH_AT] != agent_id.bytes:
            self._garbage.add(kind="unreadable")
            return
        seq = int.from_bytes(view[_SEQ_AT:_SEQ_END], "little")
        answer = Answer.UNSUPPORTED_VERSION if unsupported else Answer.CORRUPT
        self._answer(agent_id, bytes(view[_EPOCH_AT:_SEQ_AT]), seq, answer)

    def _answer(self, agent_id: UUID, epoch: bytes, seq: int, answer: Answer) -> None:
        self._garbage.add(kind=answer.value)
        try:
            incarnation = self._database.incarnation
        except StorageUnavailable:
            return  # it will be offered again
        self._writer.acknowledger.tell(incarnation, [BatchAnswer(agent_id, epoch, seq, answer)])
