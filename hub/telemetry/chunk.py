"""A stretch of committed readings, ready to be handed to any number of streams, serialised at most once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hub.telemetry.catalogue import Catalogue
from hub.telemetry.extras import Extras
from hub.telemetry.live import SensorIds
from hub.telemetry.points import encode_points
from hub.telemetry.scan import Rows

_PICKS_MAX = 64


@dataclass(frozen=True, slots=True)
class Delivery:
    """Events for one stream.

    Attributes:
        body: the events, as Server-Sent Events.
        count: how many they are.
        through: the cursor behind them: nothing with an id up to here is still to come.
    """

    body: bytes
    count: int
    through: int


class Chunk:
    """The readings with ids from `after` (exclusive) to `through`, in order of id.

    What streams of the same sensors pick is kept, so that a thousand dashboards of one project cost one.
    """

    def __init__(self, after: int, through: int, rows: Rows, extras: Extras, catalogue: Catalogue) -> None:
        self.after = after
        self.through = through
        self._rows = rows
        self._extras = extras
        self._catalogue = catalogue
        self._events: list[bytes | None] = [None] * len(rows)
        self._by_sensor: dict[UUID, NDArray[np.intp]] | None = None
        self._picks: dict[SensorIds, Delivery] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def deliver(self, cursor: int, sensor_ids: SensorIds, limit: int | None = None) -> Delivery:
        """What these sensors have behind `cursor`, the first `limit` of it."""
        if cursor > self.after or limit is not None:
            return self._gather(cursor, sensor_ids, limit)
        found = self._picks.get(sensor_ids)
        if found is None:
            found = self._gather(cursor, sensor_ids, None)
            if len(self._picks) < _PICKS_MAX:
                self._picks[sensor_ids] = found
        return found

    def _gather(self, cursor: int, sensor_ids: SensorIds, limit: int | None) -> Delivery:
        positions = self._positions(sensor_ids)
        positions = positions[self._rows.id[positions] > cursor]
        through = self.through
        if limit is not None and len(positions) > limit:
            positions = positions[:limit]
            through = int(self._rows.id[positions[-1]]) if limit else cursor
        self._serialise(positions)
        body = b"".join([self._events[index] or b"" for index in positions.tolist()])
        return Delivery(body, len(positions), through)

    def _positions(self, sensor_ids: SensorIds) -> NDArray[np.intp]:
        if self._by_sensor is None:
            self._by_sensor = self._index()
        fewer, more = sorted((sensor_ids, self._by_sensor.keys()), key=len)
        parts = [self._by_sensor[sensor] for sensor in fewer if sensor in more]
        if not parts:
            return np.empty(0, np.intp)
        return np.sort(np.concatenate(parts)) if len(parts) > 1 else parts[0]

    def _index(self) -> dict[UUID, NDArray[np.intp]]:
        order = np.argsort(self._rows.series, kind="stable")
        refs, starts = np.unique(self._rows.series[order], return_index=True)
        parts: dict[UUID, list[NDArray[np.intp]]] = {}
        for ref, positions in zip(refs.tolist(), np.split(order, starts)[1:], strict=True):
            series = self._catalogue.series.get(ref)
            if series is not None:
                parts.setdefault(series.sensor_id, []).append(positions)
        return {sensor: np.sort(np.concatenate(found)) for sensor, found in parts.items()}

    def _serialise(self, positions: NDArray[np.intp]) -> None:
        fresh = [index for index in positions.tolist() if self._events[index] is None]
        rows = self._rows.take(np.array(fresh, np.intp))
        for index, id_, point in zip(
            fresh, rows.id.tolist(), encode_points(rows, self._catalogue, self._extras), strict=True
        ):
            self._events[index] = b"id: %d\nevent: telemetry\ndata: %b\n\n" % (id_, point)
