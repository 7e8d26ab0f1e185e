"""The uplink with a hub in the same process: every word that an acknowledgement may hold."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from agent.hub_link import uplink as module
from agent.hub_link.uplink import Uplink
from agent.spool.batch import PendingBatch, Standing
from agent.spool.reader import SpoolReader
from agent.spool.settings import SpoolSettings
from agent.spool.writer import SpoolWriter
from shared import wire
from shared.clock import AnchoredClock
from shared.conversion import Compiled, compile_profile
from shared.readings import Columns, Status
from shared.records import Dictionary, Gap, ProfileEntry
from tests.agent.hub_link.fake_hub import FakeHub
from tests.agent.spool.contents import contents, records
from tests.agent.spool.readings import AGENT, BEGIN_US, batch, open_spool

PROFILE = UUID(int=77)
LINEAR = compile_profile("linear", {"a": 2.0, "b": 1.0})


class Bench:
    """A spool, an uplink and a hub."""

    def __init__(self, folder: Path, spool: SpoolWriter, *, silence_s: float = 60.0) -> None:
        self.folder = folder
        self.spool = spool
        self.hub = FakeHub()
        self.hellos = 0
        self.executor = ThreadPoolExecutor(2)
        self.uplink = Uplink(spool, self.executor, silence_s=silence_s, hello=self._hello)

    def _hello(self) -> None:
        self.hellos += 1

    async def publish(self, payload: bytes) -> None:
        """Over a line that loses nothing."""
        await asyncio.sleep(0)
        if not self.hub.silent:
            await self.uplink.acknowledged(self.hub.receive(payload))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """One connection."""
        task = asyncio.create_task(self.uplink.run(self.publish), name="uplink")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def drained(self, timeout_s: float = 20.0) -> None:
        """Until everything is acknowledged, and the file says so too: the counters are ahead of it by a commit."""
        await self.until(lambda: self.spool.state().pending_batches == 0, timeout_s)
        self.spool.flush()

    async def close(self) -> None:
        await self.uplink.close()
        self.executor.shutdown()
        self.spool.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "LATER_S", 0.2)
    monkeypatch.setattr(module, "MARKS_EVERY_S", 0.02)
    bench = Bench(tmp_path, open_spool(tmp_path, clock=AnchoredClock()))
    yield bench
    await bench.close()


async def test_batches_share_messages_and_stay_within_the_window(bench: Bench) -> None:
    bench.hub.window_batches = 8
    bench.spool.append([batch(number, 1) for number in range(500)])
    flying: list[int] = []
    publish = bench.publish

    async def watched(payload: bytes) -> None:
        flying.append(len(bench.uplink.window.flights))
        await publish(payload)

    bench.publish = watched  # type: ignore[method-assign]
    async with bench.connected():
        await bench.drained()
    assert bench.hub.readings() == list(range(500))
    assert max(flying[20:]) <= 8
    assert bench.hub.messages < 400


async def test_new_batches_go_out_as_they_are_taken(bench: Bench) -> None:
    async with bench.connected():
        await bench.drained()
        for number in range(20):
            await asyncio.to_thread(bench.spool.append, [batch(number, 1)])
            await bench.until(lambda number=number: number in bench.hub.readings(), 2)  # type: ignore[misc]


async def test_what_was_taken_this_moment_is_not_read_from_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.connected():
        await bench.drained()
        with monkeypatch.context() as patched:
            patched.setattr(SpoolReader, "pending", None)
            for number in range(20):
                await asyncio.to_thread(bench.spool.append, [batch(number, 1)])
                await bench.until(lambda number=number: number in bench.hub.readings(), 2)  # type: ignore[misc]
        await bench.drained()
    assert bench.hub.readings() == list(range(20))
    assert not bench.spool._held


async def test_who_falls_behind_goes_on_from_the_disk_and_catches_up(bench: Bench) -> None:
    bench.hub.window_batches = 8
    async with bench.connected():
        await bench.drained()
        for number in range(600):
            await asyncio.to_thread(bench.spool.append, [batch(2 * number, 1), batch(2 * number + 1, 1)])
            if number == 300:
                await bench.drained()
        await bench.drained()
    assert bench.hub.readings() == list(range(1200))
    assert set(bench.hub.received.values()) == {1}
    assert not bench.spool._held


async def test_batches_taken_while_the_window_is_full_are_not_forgotten(bench: Bench) -> None:
    bench.hub.window_batches = 4
    bench.hub.silent = True
    bench.spool.append([batch(number, 1) for number in range(4)])
    async with bench.connected():
        bench.uplink.window.grant(4)
        await bench.until(lambda: bench.uplink.window.flights)
        for number in range(4, 10):
            bench.spool.append([batch(number, 1)])
            await asyncio.sleep(0.02)
        bench.hub.silent = False
        await bench.drained()
    assert bench.hub.readings() == list(range(10))


async def test_what_the_hub_refuses_goes_to_quarantine_and_nothing_else_waits(bench: Bench) -> None:
    bench.spool.append([batch(number, 1) for number in range(10)])
    bench.hub.refuse[bench.spool.epoch, 5] = "not_yours"
    async with bench.connected():
        await bench.drained()
    assert bench.spool.state().quarantined_batches == 1
    assert bench.hub.readings() == [0, 1, *range(3, 10)]
    [found] = contents(bench.folder, standing=Standing.QUARANTINED)
    assert (found.batch.header.seq, found.reason) == (5, "not_yours")


async def test_a_conflict_is_relabelled_under_an_identity_of_its_own(bench: Bench) -> None:
    bench.spool.append([batch(number, 1) for number in range(6)])
    epoch = bench.spool.epoch
    bench.hub.refuse[epoch, 4] = "conflict"
    async with bench.connected():
        await bench.drained()
    assert bench.hub.readings() == list(range(6))
    assert bench.spool.epoch != epoch
    assert bench.spool.state().quarantined_batches == 0


async def test_later_leaves_the_batch_and_offers_it_again(bench: Bench) -> None:
    bench.spool.append([batch(number, 1) for number in range(10)])
    bench.hub.later = {(bench.spool.epoch, seq) for seq in range(3, 8)}
    async with bench.connected():
        await bench.drained()
    assert bench.hub.readings() == list(range(10))
    assert bench.hub.received[bench.spool.epoch, 3] == 2


async def test_a_hub_that_lacks_the_dictionary_gets_it_again_even_when_it_was_acknowledged(bench: Bench) -> None:
    bench.spool.append([batch(0, 1)])
    async with bench.connected():
        await bench.drained()
        bench.hub.wants_dictionary.add(bench.spool.epoch)
        bench.spool.append([batch(1, 1)])
        await bench.drained()
    assert bench.hub.readings() == [0, 1]
    assert bench.hub.received[bench.spool.epoch, 2] == 2


async def test_another_incarnation_is_offered_all_that_is_held(bench: Bench) -> None:
    bench.spool.append([batch(number, 1) for number in range(10)])
    async with bench.connected():
        await bench.drained()
    bench.hub.incarnation = "restored"
    bench.hub.ledger.clear()
    async with bench.connected():
        bench.spool.append([batch(10, 1)])
        await bench.until(lambda: bench.hub.readings() == list(range(11)))
        await bench.drained()


async def test_a_batch_that_is_never_answered_is_sent_alone_and_then_quarantined(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MIN", 0.02)
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_FIRST", 0.02)
    bench.spool.append([batch(number, 1) for number in range(4)])
    bench.hub.lose.add((bench.spool.epoch, 4))
    async with bench.connected():
        for number in range(4, 3000):
            await asyncio.to_thread(bench.spool.append, [batch(number, 1)])
            if bench.spool.state().quarantined_batches:
                break
        await bench.drained()
    [found] = contents(bench.folder, standing=Standing.QUARANTINED)
    assert (found.batch.header.seq, found.reason) == (4, "unanswered")
    assert bench.hub.received[bench.spool.epoch, 4] >= 8


async def test_nothing_is_given_up_while_nothing_passes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_FIRST", 0.01)
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MIN", 0.01)
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MAX", 0.02)
    bench.spool.append([batch(number, 1) for number in range(4)])
    bench.hub.silent = True
    async with bench.connected():
        await asyncio.sleep(1.5)
        assert bench.spool.state().quarantined_batches == 0
        bench.hub.silent = False
        await bench.drained()


async def test_a_silent_hub_is_greeted_again_and_then_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.hub_link.flight.TIMEOUT_S_MAX", 0.5)
    bench = Bench(tmp_path, open_spool(tmp_path, clock=AnchoredClock()), silence_s=0.3)
    bench.spool.append([batch(0, 1)])
    bench.hub.silent = True
    async with bench.connected():
        await bench.until(lambda: bench.uplink.error)
        assert bench.hellos == 1
        bench.hub.silent = False
        await bench.drained()
        assert bench.uplink.error == ""
    await bench.close()


async def test_a_corrupt_batch_is_not_sent_and_does_not_hold_up_the_rest(bench: Bench) -> None:
    bench.spool.append([batch(number, 1) for number in range(10)])
    with sqlite3.connect(bench.folder / "spool.db") as db:
        db.execute("UPDATE contents SET content = zeroblob(length(content)) WHERE id = 6")
    db.close()
    async with bench.connected():
        await bench.drained()
    assert bench.hub.readings() == [0, 1, 2, *range(4, 10)]
    [gap] = bench.hub.records(Gap)
    assert isinstance(gap, Gap)
    assert gap.batches == [(bench.spool.epoch.hex(), 6, 6)]


@pytest.mark.parametrize("known", [True, False])
async def test_the_physical_column_is_sent_on_request_under_the_same_identity(tmp_path: Path, known: bool) -> None:
    def profile_of(profile_id: UUID) -> Compiled | None:
        return LINEAR if known and profile_id == PROFILE else None

    spool = SpoolWriter(
        tmp_path, agent_id=AGENT, settings=SpoolSettings(), clock=AnchoredClock(), profile_of=profile_of
    )
    spool.declare(profiles=[ProfileEntry(1, PROFILE)])
    raw = np.arange(5.0)
    columns = Columns(
        np.ones(5, np.uint32),
        BEGIN_US + np.arange(5),
        raw,
        2 * raw + 1,
        np.full(5, Status.CONVERTED, np.uint8),
        np.ones(5, np.uint32),
    )
    spool.append([PendingBatch(wire.data_body(columns, derivable=True), 5, BEGIN_US, BEGIN_US + 4, BEGIN_US + 4, 1, 1)])
    bench = Bench(tmp_path, spool)
    bench.hub.wants_physical.add((spool.epoch, 3))
    async with bench.connected():
        await bench.drained()
    if known:
        stored = bench.hub.ledger[spool.epoch, 3].content
        assert stored.columns.physical.tolist() == [1, 3, 5, 7, 9]  # type: ignore[union-attr]
    else:
        assert spool.state().quarantined_batches == 1
    assert records(tmp_path, Dictionary)
    await bench.close()


async def test_a_file_that_reading_finds_damaged_is_replaced_and_delivery_goes_on(tmp_path: Path) -> None:
    filled = open_spool(tmp_path, clock=AnchoredClock())
    filled.append([batch(100 * number, 100, series=number % 3 + 1) for number in range(300)])
    filled.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'contents'").fetchone()[0]
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        page = file.read(4096)
        assert page[0] == 5, "a table of several pages"
        cell = int.from_bytes(page[12:14], "big")
        oldest = int.from_bytes(page[cell : cell + 4], "big")
        file.seek((oldest - 1) * 4096)
        file.write(bytes(200))  # the page of the oldest batches, which the writer does not touch
    bench = Bench(tmp_path, open_spool(tmp_path, clock=AnchoredClock()))
    try:
        async with bench.connected():
            await bench.until(lambda: len(bench.hub.readings()) > 20_000)
            await bench.drained()
    finally:
        await bench.close()
    assert list(tmp_path.glob("spool.damaged-*"))
    assert bench.hub.records(Gap)
