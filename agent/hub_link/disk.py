"""The spool's file as the event loop sees it: read and written on a thread, by one reader at a time.

A file that turns out to be damaged is replaced, and the next call reads the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from agent.spool.batch import StoredBatch
from agent.spool.connection import SpoolDamaged
from agent.spool.reader import SpoolReader
from agent.spool.writer import SpoolWriter

T = TypeVar("T")


class Disk:
    """A reader beside the writer. Whatever it reads raises SpoolUnavailable when the disk cannot be read.

    Args:
        executor: its threads do the work.
    """

    def __init__(self, writer: SpoolWriter, executor: Executor) -> None:
        self._writer = writer
        self._executor = executor
        self._reader = SpoolReader(writer.path)
        self._reading = asyncio.Lock()
        self._rewinds = writer.rewinds

    @property
    def is_rewound(self) -> bool:
        """Whether batches that had been read are pending again: read from the beginning."""
        return self._rewinds != self._writer.rewinds

    @property
    def last_id(self) -> int:
        """Where the latest page ended."""
        return self._reader.last_id

    @property
    def exhausted(self) -> bool:
        """Whether there was nothing behind it."""
        return self._reader.exhausted

    async def rewind(self) -> None:
        """Read from the beginning, whichever file that is now."""
        self._rewinds = self._writer.rewinds
        self._reader.last_id = 0
        await self.run(self._reader.close)

    def passed(self, batch_id: int) -> None:
        """All batches up to this one came without being read."""
        self._reader.last_id = batch_id

    async def read(self, read: Callable[[SpoolReader], T]) -> T:
        """Raises: SpoolUnavailable."""
        async with self._reading:
            return await self._attempt(lambda: read(self._reader))

    async def held(self, read: Callable[[SpoolReader], list[StoredBatch]]) -> list[StoredBatch]:
        """Read batches that the quota cannot drop any more: held first, then looked at once more if it dropped some.

        Raises: SpoolUnavailable.
        """

        def read_and_hold() -> list[StoredBatch]:
            before = self._writer.drops
            batches = read(self._reader)
            for batch_id in self._reader.corrupt:
                self._writer.marks.quarantine_corrupt(batch_id)
            new = [batch.id for batch in batches]
            if new and self._writer.hold(new) != before:
                left = self._reader.still_pending(new)
                batches = [batch for batch in batches if batch.id in left]
                self._writer.let_go(set(new) - left)
            return batches

        async with self._reading:
            return await self._attempt(read_and_hold)

    async def flush(self) -> None:
        """Commit what has been left for the next commit. Raises: SpoolUnavailable."""
        await self.run(self._writer.flush)

    async def close(self) -> None:
        """Close the file; the next call opens it anew."""
        await self.run(self._reader.close)

    async def run(self, work: Callable[[], T]) -> T:
        """Anything that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _attempt(self, read: Callable[[], T]) -> T:
        try:
            return await self.run(read)
        except SpoolDamaged as error:
            damage = error
            await self.close()
            if not self.is_rewound:  # else it was the old file, which has been replaced already
                await self.run(lambda: self._writer.damaged(damage))
            raise
