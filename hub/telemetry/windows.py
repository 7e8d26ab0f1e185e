"""Reading in order of id without an index that has that order.

Ids rise with the place of a row on disk, so a block-range index finds a range of ids but cannot deliver them sorted,
and `order by id limit n` over everything behind a cursor would read and sort all of it for each page. So ids are read
in windows, which widen while little is found and narrow when a page fills.
"""

from __future__ import annotations

from dataclasses import replace

from hub.database.pool import Connection
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.chunk import Chunk
from hub.telemetry.extras import extras
from hub.telemetry.scan import Where, scan

CHUNK_ROWS_MAX = 4096
BLOCK_IDS = 16_384
"""Ids that one commit draws."""
_WINDOW_IDS_FIRST = 64 * BLOCK_IDS
_WINDOW_IDS_MAX = 1 << 52


class Windows:
    """One reader's way through the ids. Not shared between tasks.

    Args:
        wide: start with a window that covers everything, for a reader who knows that little matches.
    """

    def __init__(self, catalogue: Catalogue, *, wide: bool = False) -> None:
        self._catalogue = catalogue
        self._ids = _WINDOW_IDS_MAX if wide else _WINDOW_IDS_FIRST

    async def read(self, connection: Connection, cursor: int, end: int, where: Where = Where()) -> Chunk:  # noqa: B008
        """The next readings behind `cursor` and below `end`, at most `CHUNK_ROWS_MAX`.

        The chunk reaches from `cursor` as far as was read; it may be empty although there is more.

        Raises: StorageUnavailable.
        """
        id_to = min(end, cursor + 1 + self._ids)
        rows = await scan(connection, replace(where, id_from=cursor + 1, id_to=id_to), limit=CHUNK_ROWS_MAX)
        if len(rows) == CHUNK_ROWS_MAX:
            through = int(rows.id[-1])
            self._ids = max(BLOCK_IDS, 2 * (through - cursor))
        else:
            through = id_to - 1
            if len(rows) < CHUNK_ROWS_MAX // 4:
                self._ids = min(4 * self._ids, _WINDOW_IDS_MAX)
        await self._catalogue.learn(connection, rows)
        return Chunk(cursor, through, rows, await extras(connection, rows, self._catalogue), self._catalogue)
