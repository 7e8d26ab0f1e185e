"""What arrives to be written: batches of agents, and posts of sensors over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from hub.ingest.correction import Placing
from hub.ingest.streams import StreamKey, StreamPlace
from shared.columns import DecodedColumns
from shared.readings import Columns
from shared.records import Record
from shared.wire import Header


@dataclass(frozen=True, slots=True)
class Arrival:
    """One batch of an agent, decoded. Its identity goes into the ledger, in the transaction of its readings.

    Attributes:
        content: with its times corrected once `hub.ingest.clocks` has placed them.
        size_bytes: on the wire.
        correction_us: what has been added to the times.
        placing: whether the place of its clock segment is known.
        imported: it was brought by an owner, and is taken whatever its agent may do.
    """

    header: Header
    content: DecodedColumns | Record
    size_bytes: int
    correction_us: int = 0
    placing: Placing = Placing.PLACED
    imported: bool = False

    @property
    def agent_id(self) -> UUID:
        """Who sent it; also what orders it: batches of an agent are written one after the other."""
        return self.header.agent_id

    @property
    def taken_through_us(self) -> int:
        """All samples up to then, corrected, are in this batch or in earlier ones; 0 where it does not say."""
        known = self.placing is Placing.PLACED and self.header.taken_through_us > 0
        return self.header.taken_through_us + self.correction_us if known else 0

    @property
    def readings(self) -> int:
        """How many readings it holds."""
        return len(self.content.columns) if isinstance(self.content, DecodedColumns) else 0


@dataclass(frozen=True, slots=True)
class Origin:
    """The batch in which readings of an agent came that were set aside.

    Attributes:
        segment: the clock segment of the batch.
        correction_us: what has been added to the times by now.
    """

    agent_id: UUID
    epoch_id: int | None
    seq: int | None
    segment: int | None
    correction_us: int


@dataclass(frozen=True, slots=True)
class Submission:
    """Readings of one sensor that came without an identity; uniqueness of (series, time) alone guards them.

    Attributes:
        signals: names; `columns.series` counts them from 1.
        columns: sorted by (series, timestamp); status raw_only or client_provided (or failed), no profiles. Equal
            timestamps in a series are allowed: an equal raw value is a repeat, another one is set aside.
        meta: by row of `columns`.
        session_id: the capture session that the readings belong to, whatever their times; None: by their times.
        place: in the stream over WebSocket that it is a message of; None for a post.
        released_id: the row of `set_aside` that these readings were in; it goes in the same transaction.
        origin: where they had come from before they were set aside; None where that was a post.
    """

    sensor_id: UUID
    signals: tuple[str, ...]
    columns: Columns
    meta: tuple[tuple[int, dict[str, Any]], ...] = ()
    released_id: int | None = None
    session_id: UUID | None = None
    origin: Origin | None = None
    place: StreamPlace | None = None

    @property
    def readings(self) -> int:
        """How many readings it holds."""
        return len(self.columns)

    @property
    def stream(self) -> StreamKey | None:
        """The stream that it is a message of."""
        return None if self.place is None else (self.sensor_id, self.place.stream)


Item: TypeAlias = Arrival | Submission


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of readings.

    Attributes:
        new: stored now.
        repeated: were stored already, with the same raw value.
        set_aside: kept with a reason, not stored as readings.
    """

    new: int
    repeated: int = 0
    set_aside: int = 0
