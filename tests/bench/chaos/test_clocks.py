"""A process of the stack sees its clock jump, and time go on as before."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from bench.chaos.clocks import WallClock, library, tidy

PROGRAM = """
import sys, time
from datetime import UTC, datetime
sys.stdin.readline()
for _ in iter(sys.stdin.readline, ""):
    before = time.monotonic()
    time.sleep(0.05)
    print(time.time(), datetime.now(UTC).timestamp(), time.time_ns() / 1e9, time.monotonic() - before, flush=True)
"""


@pytest.mark.skipif(library() is None, reason="needs libfaketime (Debian: faketime)")
def test_the_clock_of_a_running_process_is_set_and_set_right(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(PROGRAM)
    clock = WallClock(tmp_path / "clock")
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        clock.program("shown"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
    ) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None
        orders.write("\n")
        for offset_s in (125.5, -3600.0, 0.0):
            clock.step(offset_s)
            orders.write("\n")
            orders.flush()
            *times, slept_s = (float(word) for word in answers.readline().split())
            assert all(abs(one - time.time() - offset_s) < 1.0 for one in times)
            assert 0.05 <= slept_s < 1.0
        process.kill()
    tidy(process.pid)
    assert not list(Path("/dev/shm").glob(f"*faketime*_{process.pid}"))


def test_without_the_library_nothing_is_faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.chaos.clocks._PLACES", (str(tmp_path / "*.so"),))
    clock = WallClock(tmp_path / "clock")
    assert not clock.can_step
    assert "LD_PRELOAD" not in " ".join(clock.program("labrelay.cli"))
