"""`labrelay` on a machine whose clock is wrong: python wrong_clock.py OFFSET_S ARGUMENTS…"""

from __future__ import annotations

import sys
import time

offset_ns = int(sys.argv[1]) * 1_000_000_000
right_ns = time.time_ns
time.time_ns = lambda: right_ns() + offset_ns

from agent import system_clock  # noqa: E402 - the clock first
from labrelay.cli import main  # noqa: E402

system_clock.system_vouch = lambda: None
sys.argv = ["labrelay", *sys.argv[2:]]
sys.exit(main())
