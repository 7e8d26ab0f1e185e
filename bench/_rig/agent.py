"""`labrelay`, with one driver more: the instrument that delivers arrays on command."""

from __future__ import annotations

import sys

from drivers import registry
from labrelay.cli import main

registry.BUILT_IN["bench"] = "bench._rig.instrument:INSTRUMENT"

if __name__ == "__main__":
    sys.exit(main())
