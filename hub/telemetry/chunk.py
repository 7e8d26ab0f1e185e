"""A stretch of committed readings, ready to be handed to any number of streams, serialised at most once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hub.telemetry.catalogue import Catalogue
from hub.telemetry.extras import Extras
from hub.telemetry.live import NO_SENSORS, SensorIds
from hub.telemetry.points import encode_points
from hub.telemetry.raw_values import without_raw
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

    What streams of the same sensors pick is kept, so that a thousand dashboards of one project cost one. Of `hidden`
    sensors the raw values are left out.
    """

    def __init__(self, after: int, through: int, rows: Rows, extras: Extras, catalogue: Catalogue) -> None:
        self.after = after
        self.through = through
        self._rows = rows
        self._extras = extras
        self._catalogue = catalogue
        self._events: list[bytes | None] = [None] * len(rows)
        self._by_sensor: dict[UUID, NDArray[np.intp]] | None = None
        self._bare_events: dict[int, bytes] = {}
        self._picks: dict[tuple[SensorIds, SensorIds], Delivery] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def deliver(
        self, cursor: int, sensor_ids: SensorIds, limit: int | None = None, hidden: SensorIds = NO_SENSORS
    ) -> Delivery:
        """What these sensors have behind `cursor`, the first `limit` of it."""
        if cursor > self.after or limit is not None:
            return self._gather(cursor, sensor_ids, limit, hidden)
        key = sensor_ids, hidden
        found = self._picks.get(key)
        if found is None:
            found = self._gather(cursor, sensor_ids, None, hidden)
            if len(self._picks) < _PICKS_MAX:
                self._picks[key] = found
        return found

    def _gather(self, cursor: int, sensor_ids: SensorIds, limit: int | None, hidden: SensorIds) -> Delivery:
        positions = self._positions(sensor_ids)
        positions = positions[self._rows.id[positions] > cursor]
        through = self.through
        if limit is not None and len(positions) > limit:
            positions = positions[:limit]
            through = int(self._rows.id[positions[-1]]) if limit else cursor
        body = b"".join(self._take(positions, hidden))
        return Delivery(body, len(positions), through)

    def _take(self, positions: NDArray[np.intp], hidden: SensorIds) -> list[bytes]:
        """The events at these positions."""
        bare = np.isin(positions, self._positions(hidden)) if hidden else np.zeros(len(positions), np.bool_)
        self._serialise(positions[~bare])
        self._serialise_bare(positions[bare])
        pairs = zip(positions.tolist(), bare.tolist(), strict=True)
        return [self._bare_events[index] if is_bare else self._events[index] or b"" for index, is_bare in pairs]

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
        for index, event in zip(fresh, self._encode(self._rows.take(np.array(fresh, np.intp))), strict=True):
            self._events[index] = event

    def _serialise_bare(self, positions: NDArray[np.intp]) -> None:
        fresh = [index for index in positions.tolist() if index not in self._bare_events]
        rows = without_raw(self._rows.take(np.array(fresh, np.intp)))
        self._bare_events.update(zip(fresh, self._encode(rows), strict=True))

    def _encode(self, rows: Rows) -> list[bytes]:
        points = encode_points(rows, self._catalogue, self._extras)
        return [
            b"id: %d\nevent: telemetry\ndata: %b\n\n" % (id_, point)
            for id_, point in zip(rows.id.tolist(), points, strict=True)
        ]
