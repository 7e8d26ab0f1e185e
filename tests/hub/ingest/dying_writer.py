"""A hub's writer as a process of its own that kills itself: `python dying_writer.py URL PLACE FILE`.

PLACE is a checkpoint of `IngestWriter` and how often it is passed before the end, e.g. `after commit:1`. FILE holds a
message of batches. Acknowledgements are printed as they are sent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from pydantic import SecretStr

from hub.database.storage import Storage
from hub.ingest.arrivals import Arrival
from hub.ingest.write import IngestWriter
from hub.metrics import Metrics
from hub.settings import HubSettings
from shared import wire
from shared.clock import AnchoredClock


class Printer:
    """Prints what would be published."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        print(payload.decode(), flush=True)


class Silent:
    """A tail that nobody reads."""

    def notify(self) -> None:
        return


async def main(url: str, place: str, file: str) -> None:
    """Write until the checkpoint is reached."""
    name, _, passes = place.partition(":")
    left = int(passes)

    async def checkpoint(here: str) -> None:
        nonlocal left
        if here == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = HubSettings(database_url=SecretStr(url), ingest_writers=1)
    storage = Storage(settings)
    await storage.pool
    await storage.prepare()
    writer = IngestWriter(
        settings, storage, Printer(), Silent(), clock=AnchoredClock(), metrics=Metrics(), checkpoint=checkpoint
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        for view in wire.split(Path(file).read_bytes()):
            batch = wire.decode(view)
            writer.offer(Arrival(batch.header, batch.content, len(view)))
            while writer.state().waiting_batches:  # a group of its own: so many commits come, however slow they are
                await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
