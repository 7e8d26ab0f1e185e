"""The spool against a model of it, over any sequence of operations and crashes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.spool.batch import Standing
from agent.spool.reader import SpoolReader
from shared.clock import ManualClock
from tests.agent.spool.contents import contents, gaps, numbers
from tests.agent.spool.readings import BEGIN_US, batch, open_spool

QUOTA_BYTES = 256 * 1024


class SpoolMachine(RuleBasedStateMachine):
    """Taken readings are pending, acknowledged or accounted for; acknowledged ones never come back but by a new hub."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-machine-"))
        self.clock = ManualClock(BEGIN_US)
        self.spool = self.open()
        self.taken: set[int] = set()
        self.acked: set[int] = set()
        self.held: list[int] = []

    def open(self):  # type: ignore[no-untyped-def]
        return open_spool(self.folder, clock=self.clock, quota_bytes=QUOTA_BYTES, retain_acked_s=50.0)

    @rule(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30))
    def append(self, sizes: list[int]) -> None:
        number = max(self.taken, default=-1) + 1
        batches = []
        for size in sizes:
            batches.append(batch(number, size, series=size % 3 + 1))
            self.taken.update(range(number, number + size))
            number += size
        self.spool.append(batches)

    @rule(share=st.floats(0, 1))
    def acknowledge_a_part(self, share: float) -> None:
        reader = SpoolReader(self.spool.path)
        page = reader.pending(0, limit=40, bytes_max=1 << 20)
        reader.close()
        acknowledged = page[: round(len(page) * share)]
        for one in acknowledged:
            self.spool.marks.acknowledge(one.epoch, one.seq, one.seq)
            found = next(c for c in contents(self.folder) if c.id == one.id)
            if one.readings:
                self.acked.update(int(raw) for raw in found.batch.content.columns.raw)  # type: ignore[union-attr]
        through = {one.id for one in acknowledged}
        self.spool.let_go(through)
        self.held = [held for held in self.held if held not in through]
        self.spool.flush()

    @rule()
    def hold_the_oldest(self) -> None:
        self.spool.let_go(self.held)
        reader = SpoolReader(self.spool.path)
        self.held = [one.id for one in reader.pending(0, limit=10, bytes_max=1 << 20)]
        reader.close()
        self.spool.hold(self.held)

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.clock.advance_s(seconds)
        self.spool.flush()

    @rule()
    def stop_and_start(self) -> None:
        self.spool.close()
        self.held = []
        self.spool = self.open()

    @rule()
    def crash(self) -> None:
        """The file as a killed process leaves it, on another disk."""
        copy = Path(tempfile.mkdtemp(prefix="spool-machine-"))
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, copy / path.name)
        self.spool.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.held = []
        self.spool = self.open()

    @invariant()
    def everything_taken_is_there_or_accounted_for(self) -> None:
        pending = set(numbers(self.folder, standing=Standing.PENDING))
        lost = sum(gap.readings for gap in gaps(self.folder, "quota_oldest"))
        assert pending <= self.taken
        assert not pending & self.acked, "an acknowledged reading is pending again"
        assert len(pending) + len(self.acked) + lost == len(self.taken)

    @invariant()
    def the_counters_are_right(self) -> None:
        state = self.spool.state()
        assert state.pending_readings == len(numbers(self.folder, standing=Standing.PENDING))
        assert state.pending_batches == len(contents(self.folder, standing=Standing.PENDING))
        assert state.bytes <= QUOTA_BYTES + 32 * 1024

    @invariant()
    def what_is_in_flight_stays(self) -> None:
        assert set(self.held) <= {found.id for found in contents(self.folder)}

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder, ignore_errors=True)


SpoolMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpool = SpoolMachine.TestCase
