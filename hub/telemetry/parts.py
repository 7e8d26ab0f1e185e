"""Buckets of a selection: of series over a range of time, or of sessions, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hub.database.pool import Connection
from hub.telemetry.as_of import AsOf
from hub.telemetry.as_of_buckets import read_buckets_as_of
from hub.telemetry.buckets import MINUTE_US, Buckets, Extent, default_interval_us, extent_of, read_buckets
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.membership import Membership
from hub.telemetry.scan import Where
from hub.telemetry.selection import Selection


@dataclass(frozen=True, slots=True)
class Part:
    """Series over one stretch of time.

    Attributes:
        session_id: whose buckets these are.
        belongs: what else holds for their readings, as SQL about `r`; then nothing comes from whole minutes.
    """

    series: list[int]
    extent: Extent
    session_id: UUID | None = None
    belongs: str = ""


async def parts_of(connection: Connection, selection: Selection) -> list[Part]:
    """The stretches of time that a selection is made of. Raises: StorageUnavailable."""
    extent = await extent_of(connection, selection.series_ids)
    extent = extent and extent.within(selection.range.from_us, selection.range.to_us)
    if extent is None:
        return []
    if selection.sessions is None:
        return [Part(selection.series_ids, extent, belongs=_of_ids(selection))]
    return [part for one in selection.sessions for part in _of_session(one, selection, extent)]


def interval_for(parts: Sequence[Part]) -> int:
    """An interval in microseconds that gives neither too many buckets a series nor too many in all."""
    if not parts:
        return MINUTE_US
    hull = Extent(min(one.extent.from_us for one in parts), max(one.extent.to_us for one in parts))
    return default_interval_us(hull, len({series for one in parts for series in one.series}))


async def read_parts(
    connection: Connection,
    catalogue: Catalogue,
    parts: Sequence[Part],
    interval_us: int,
    limit: int,
    *,
    as_of: AsOf | None = None,
    descending: bool = False,
) -> Buckets:
    """The first `limit` buckets that hold readings, by time; the latest ones, latest first, where `descending`.

    Args:
        as_of: the profile that its sensor's readings are to be seen with; these are then summed up one by one.

    Raises: Problem 422 for more of these than can be; StorageUnavailable.
    """
    found: Buckets = []
    for part in parts:
        own = (
            [] if as_of is None else [one for one in part.series if catalogue.series[one].sensor_id == as_of.sensor_id]
        )
        rest = [one for one in part.series if one not in own] if own else part.series
        buckets: Buckets = []
        if rest:
            buckets += await read_buckets(
                connection,
                catalogue,
                rest,
                part.extent,
                interval_us,
                limit,
                belongs=part.belongs,
                descending=descending,
            )
        if as_of is not None and own:
            where = Where(
                series=tuple(own),
                time_from_us=part.extent.from_us,
                time_to_us=part.extent.to_us,
                belongs=part.belongs,
            )
            buckets += await read_buckets_as_of(connection, catalogue, where, interval_us, as_of)
        session_id = part.session_id and str(part.session_id)
        found += [bucket | {"capture_session_id": session_id} for bucket in buckets]
    if len(parts) > 1 or as_of is not None:
        found.sort(key=lambda bucket: (bucket["sensor_id"], bucket["signal"]))
        found.sort(key=lambda bucket: bucket["bucket"], reverse=descending)  # keeps the order of equals
    return found[:limit]


def _of_session(session: Membership, selection: Selection, extent: Extent) -> list[Part]:
    """A session's windows; where single readings are excepted, all of it at once, reading by reading."""
    if len(session.named) or len(session.elsewhere) or (len(session.held) and not selection.with_held):
        belongs = session.condition(selection.series, with_held=selection.with_held)
        return [Part(selection.series_ids, extent, session.session_id, _all_of(belongs, _of_ids(selection)))]
    groups: dict[Extent, list[int]] = {}
    for window in session.windows:
        within = extent.within(window.from_us, window.to_us)
        if within is not None:
            groups.setdefault(within, []).extend(selection.series.get(window.sensor_id, ()))
    ids = _of_ids(selection)
    return [Part(sorted(series), within, session.session_id, ids) for within, series in groups.items() if series]


def _of_ids(selection: Selection) -> str:
    """What holds for the ids, as SQL about `r`; nothing where all will do."""
    if selection.id_from is None and selection.id_to is None:
        return ""
    return Where(id_from=selection.id_from, id_to=selection.id_to).condition()


def _all_of(*conditions: str) -> str:
    return " and ".join(one for one in conditions if one)
