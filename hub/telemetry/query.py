"""Pages of stored readings, in order of id."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hub.database.pool import Connection
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.points import encode_points
from hub.telemetry.scan import Where, horizon, metas, scan

LIMIT_DEFAULT = 2000
LIMIT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Page:
    """Points as JSON objects, and the cursor of the next page (None on the last)."""

    points: list[bytes]
    next_since_id: int | None

    def json(self) -> bytes:
        """The contract's answer."""
        cursor = b"null" if self.next_since_id is None else b"%d" % self.next_since_id
        return b'{"points":[%b],"next_since_id":%b}' % (b",".join(self.points), cursor)


async def read_page(
    connection: Connection,
    catalogue: Catalogue,
    where: Where,
    *,
    since_id: int | None,
    limit: int,
    descending: bool = False,
) -> Page:
    """The readings behind the cursor `since_id`: with higher ids, or with lower ones where `descending`.

    Raises: StorageUnavailable.
    """
    end = await horizon(connection)
    if descending:
        behind = replace(where, id_to=end if since_id is None else min(end, since_id))
    else:
        behind = replace(where, id_from=None if since_id is None else since_id + 1, id_to=end)
    rows = await scan(connection, behind, limit=limit + 1, descending=descending)
    more = len(rows) > limit
    rows = rows.take(slice(0, limit))
    await catalogue.learn(connection, rows)
    points = encode_points(rows, catalogue, await metas(connection, rows))
    return Page(points, int(rows.id[-1]) if more else None)
