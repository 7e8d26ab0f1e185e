"""Takes a content into a folder slowly, and says so; a test kills it meanwhile.

python -m tests.hub.runs.artifacts.dying_upload FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from hub.runs.artifacts.contents import PART_BYTES, open_contents
from hub.settings import HubSettings


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(PART_BYTES)
        print("more", flush=True)
        await asyncio.sleep(0.01)


async def _main() -> None:
    contents = open_contents(HubSettings(artifacts_dir=Path(sys.argv[1])))
    assert contents is not None
    await contents.write("aa/never-whole", _endless())


if __name__ == "__main__":
    asyncio.run(_main())
