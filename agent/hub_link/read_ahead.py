"""What is to be sent next: handed over by the writer as it is taken, read from the spool by whoever has fallen behind.

Batches come in the order of their ids, each once, until the writer rewinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from agent.hub_link.disk import Disk
from agent.hub_link.flight import Window
from agent.hub_link.handover import Handover
from agent.hub_link.wake import set_within
from agent.logging import event_log
from agent.spool.batch import StoredBatch
from agent.spool.writer import SpoolWriter
from shared.errors import SpoolUnavailable

READ_BYTES_MAX = 1024 * 1024
SPOOL_RETRY_S = 1.0

_log = event_log("uplink")


class ReadAhead:
    """Keeps the window supplied. For one event loop.

    Args:
        added: called whenever the window has got more.
    """

    def __init__(self, writer: SpoolWriter, disk: Disk, window: Window, added: Callable[[], None]) -> None:
        self.error = ""
        """Why the spool cannot be read; empty if it can."""
        self.is_behind = False
        """Whether the spool may hold more than was read."""
        self._writer = writer
        self._disk = disk
        self._window = window
        self._added = added
        self._after_id = 0
        self._reading = False
        self._taken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handover = Handover(self._wake)

    def look(self) -> None:
        """There may be more to read, or to wait for."""
        self._taken.set()

    def add(self, batches: Sequence[StoredBatch], *, first: bool = False) -> None:
        """Batches that are to be sent."""
        self._window.add(batches, first=first)
        self._added()

    async def run(self) -> None:
        """Read on as the window empties, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._writer.on_append = self._handover.offer
        try:
            await self._read_on()
        finally:
            self._writer.on_append = None

    async def _read_on(self) -> None:
        while True:
            self._taken.clear()
            self._reading = True
            try:
                if not self._take_handed():
                    while await self._read_page():
                        pass
                self.error = ""
            except SpoolUnavailable as error:
                self.error = str(error)
                _log.error("spool_not_read", error=error)
                await asyncio.sleep(SPOOL_RETRY_S)
                continue
            finally:
                self._reading = False
            due_s = min(self._window.parked.values(), default=None)
            await set_within(self._taken, None if due_s is None else due_s - time.monotonic())

    def _wake(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended; what was taken stays in the spool
            self._loop.call_soon_threadsafe(self._handed)

    def _handed(self) -> None:
        if self._reading or not self._take_handed():
            self._taken.set()

    def _take_handed(self) -> bool:
        """Take what the writer has handed over, if it follows what was read last. Returns: whether that is all."""
        batches, missed = self._handover.take()
        if not batches:
            return False
        caught_up = batches[0].id == self._after_id + 1 and not self.is_behind and not self._disk.is_rewound
        if caught_up and len(batches) <= self._window.room and not self._window.parked:
            self.add(batches)
            self._after_id = batches[-1].id
            self._disk.passed(self._after_id)
            return not missed
        self._writer.let_go([batch.id for batch in batches if batch.id > self._after_id])  # the others were read
        return False

    async def _read_page(self) -> bool:
        """Read some more. Returns: whether there may be still more, and room for it."""
        if self._disk.is_rewound:
            self._after_id = 0
            self._writer.let_go(self._window.drop_waiting())
            await self._disk.rewind()
        due = self._window.unpark(time.monotonic(), max(self._window.room, 1))
        if due:
            self.add(await self._disk.held(lambda reader: reader.by_id(due)), first=True)
        room, after_id = self._window.room, self._after_id
        if not self._window.is_hungry:
            self.is_behind = True
            return False
        page = await self._disk.held(lambda reader: reader.pending(after_id, limit=room, bytes_max=READ_BYTES_MAX))
        self.add(page)
        self._after_id = max(after_id, self._disk.last_id)
        self.is_behind = not self._disk.exhausted
        return self.is_behind
