"""A program that becomes a hub, which does nothing but recalculate, at each line of its input: `URL READINGS_A_STEP`.

It forks for it, so that only its own start takes time; it says the hub's process id, and `ended` when that is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

from pydantic import SecretStr

from hub.database.storage import Storage
from hub.recalculation import chunk
from hub.recalculation.work import Recalculation
from hub.settings import HubSettings
from shared.clock import AnchoredClock


async def _recalculate(database_url: str) -> None:
    storage = Storage(HubSettings(database_url=SecretStr(database_url)))
    await storage.open()
    await storage.prepare()
    await Recalculation(storage, AnchoredClock()).once()


def _be_hub(database_url: str) -> None:
    try:
        asyncio.run(_recalculate(database_url))
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def main() -> None:
    """Until the input ends."""
    for line in sys.stdin:
        database_url, readings_max = line.split()
        chunk.READINGS_MAX = int(readings_max)
        pid = os.fork()
        if pid == 0:
            _be_hub(database_url)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
