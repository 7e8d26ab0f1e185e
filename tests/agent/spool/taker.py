"""A process that appends as fast as it can and says what was taken: `python -m …taker FOLDER FIRST`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.agent.spool.readings import batch, open_spool


def main(folder: Path, number: int) -> None:
    """Until killed. Prints each reading's number once it is taken; acknowledges some on the way."""
    spool = open_spool(folder, retain_acked_s=3600.0)
    print("ready", flush=True)
    while True:
        size = number % 7 + 1
        spool.append([batch(number, size)])
        number += size
        print(number - 1, flush=True)
        if number % 5 == 0:
            spool.marks.acknowledge(spool.epoch, 3, 4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
