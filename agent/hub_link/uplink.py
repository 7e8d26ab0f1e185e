"""From the spool to the hub: sends within the hub's window, acts on its acknowledgements.

One uplink lives as long as the agent; `run` is one connection. What is in flight stays so from one to the next and is
then sent again first. Live values share the line: messages are as large as the broker confirms in a quarter of a
second, and only `MESSAGES_AT_ONCE` are on the way, so that a backlog never keeps a live value waiting for much longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from agent.hub_link.claims import RANGES_MAX, Claims
from agent.hub_link.disk import Disk
from agent.hub_link.flight import Flight, Window
from agent.hub_link.read_ahead import ReadAhead
from agent.hub_link.wake import set_within
from agent.logging import event_log
from agent.spool.batch import StoredBatch
from agent.spool.reader import SpoolReader
from agent.spool.writer import SpoolWriter
from shared.errors import SpoolUnavailable
from shared.messages import Ack, EpochRange, Refusal
from shared.wire import MESSAGE_BYTES_MAX

MESSAGES_AT_ONCE = 4
MARKS_EVERY_S = 0.2
HOUSEKEEPING_EVERY_S = 5.0
LATER_S = 5.0
DICTIONARY_EVERY_S = 1.0
MESSAGE_BYTES_FIRST = 32 * 1024
MESSAGE_BYTES_MIN = 4 * 1024
QUICK_S, SLOW_S = 0.1, 0.25
"""A message confirmed more quickly lets the next ones be larger, a slower one makes them smaller."""
CORRUPT_RETRIES = 3
_SILENT = "the hub acknowledges nothing; check that it runs and that the broker lets this agent publish"

Publish = Callable[[bytes], Awaitable[None]]

_log = event_log("uplink")


class Uplink:
    """Delivers the spool's batches. Runs on the event loop; the disk is read and written by `executor`.

    Args:
        silence_s: how long the hub may be silent while batches are in flight.
        hello: called once when it has been; says hello to the hub again.
    """

    def __init__(
        self, writer: SpoolWriter, executor: Executor, *, silence_s: float, hello: Callable[[], None] = lambda: None
    ) -> None:
        self.window = Window()
        self.claims = Claims()
        """What the hub's database is said to hold."""
        self._claims_read = False
        self._writer = writer
        self._disk = Disk(writer, executor)
        self._changed = asyncio.Event()
        self._ahead = ReadAhead(writer, self._disk, self.window, self._changed.set)
        self._silence_s = silence_s
        self._silence = ""
        self._hello = hello
        self._greeted = False
        self._message_bytes = MESSAGE_BYTES_FIRST
        self._dictionary_sent_s: dict[bytes, float] = {}
        self._heard_s = time.monotonic()
        self._marked = asyncio.Event()

    @property
    def error(self) -> str:
        """What keeps batches from being delivered, for the operator; empty if nothing does."""
        return self._ahead.error or self._silence

    async def run(self, publish: Publish) -> None:
        """Deliver over one connection until cancelled, or until `publish` fails.

        Args:
            publish: sends one message and returns when the broker has confirmed it.
        """
        self.window.all_due()
        self._message_bytes = MESSAGE_BYTES_FIRST
        self._heard_s, self._greeted = time.monotonic(), False
        await self._read_claims()
        await self._send_clock_records()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ahead.run(), name="uplink reader")
            group.create_task(self._mark(), name="uplink marks")
            group.create_task(self._watch(), name="uplink watch")
            group.create_task(self._send(publish, group), name="uplink sender")

    async def close(self) -> None:
        """Commit what is known to be acknowledged and close the files."""
        try:
            await self._disk.flush()
        except SpoolUnavailable as error:
            _log.warning("spool_not_flushed", error=error)
        await self._disk.close()

    async def drained(self) -> None:
        """Returns when nothing waits for an acknowledgement."""
        while self._writer.state().pending_batches:
            self._marked.set()
            await asyncio.sleep(0.05)

    async def acknowledged(self, ack: Ack) -> None:
        """Act on what the hub says. Raises: SpoolUnavailable when the disk cannot be read."""
        now_s = time.monotonic()
        self._heard_s, self._greeted, self._silence = now_s, False, ""
        if self._writer.meet(ack.incarnation):
            self.claims.clear()
            await self._disk.flush()
        self.window.grant(ack.window_batches)
        for some in ack.acked:
            epoch = bytes.fromhex(some.epoch)
            self._writer.marks.acknowledge(epoch, some.first, some.last)
            self.claims.add(some)
            self._writer.let_go(self.window.acknowledge(epoch, some.first, some.last, now_s))
        for some in ack.later:
            until_s = now_s + LATER_S * self.window.random.uniform(0.8, 1.2)
            self._writer.let_go(self.window.park(bytes.fromhex(some.epoch), some.first, some.last, until_s))
        for refusal in ack.refused:
            await self._refused(refusal)
        if ack.physical:
            await self._add_physical(ack.physical)
        for name in ack.dictionary:
            await self._send_dictionary(bytes.fromhex(name))
        self._marked.set()
        if self.window.waiting or self._ahead.is_behind or ack.refused:
            self._changed.set()
        if ack.later:
            self._ahead.look()  # the reader has to know when they are due

    async def _refused(self, refusal: Refusal) -> None:
        flight = self.window.refuse(bytes.fromhex(refusal.epoch), refusal.seq)
        if flight is None:
            return
        batch = flight.batch
        _log.warning("batch_refused", epoch=refusal.epoch, seq=refusal.seq, reason=refusal.reason)
        if refusal.reason == "corrupt" and flight.attempts < CORRUPT_RETRIES:  # it was sound when we read it
            self.window.flights[batch.epoch, batch.seq] = Flight(batch, attempts=flight.attempts, due_s=0.0)
            return
        self._writer.let_go((batch.id,))
        if refusal.reason == "conflict":
            self._writer.marks.relabel(batch.id, batch.epoch, batch.seq)
            await self._disk.flush()
            self.window.park_ids((batch.id,), 0.0)
            self._ahead.look()
        else:
            self._writer.marks.quarantine(batch.id, refusal.reason)

    async def _add_physical(self, ranges: Sequence[EpochRange]) -> None:
        ids: list[int] = []
        for some in ranges:
            epoch = bytes.fromhex(some.epoch)
            self._writer.let_go(self.window.park(epoch, some.first, some.last, 0.0))
            ids += await self._disk.read(partial(SpoolReader.ids_of, epoch=epoch, first=some.first, last=some.last))
        for batch_id in ids:
            self._writer.marks.add_physical(batch_id)
        self.window.park_ids(ids, 0.0)
        await self._disk.flush()
        self._ahead.look()

    async def _send_dictionary(self, epoch: bytes) -> None:
        now_s = time.monotonic()
        if now_s - self._dictionary_sent_s.get(epoch, float("-inf")) < DICTIONARY_EVERY_S:
            return
        self._dictionary_sent_s[epoch] = now_s
        batches = await self._disk.read(lambda reader: reader.dictionary(epoch))
        if not batches:
            _log.error("dictionary_not_held", epoch=epoch.hex())
        for batch in batches:
            self.window.flights.pop((batch.epoch, batch.seq), None)
        self._ahead.add(batches, first=True)

    async def _send_clock_records(self) -> None:
        """Ahead of all others: the hub places the times of everything that follows by them."""
        try:
            self._ahead.add(await self._disk.read(SpoolReader.clock_records), first=True)
        except SpoolUnavailable as error:
            _log.warning("spool_not_read", error=error)

    async def _read_claims(self) -> None:
        """What was acknowledged to earlier processes, once: the database may have gone back while it was down."""
        if self._claims_read:
            return
        try:
            for epoch, first, last in await self._disk.read(lambda reader: reader.acknowledged(RANGES_MAX)):
                self.claims.add(EpochRange(epoch.hex(), first, last))
        except SpoolUnavailable as error:
            _log.warning("spool_not_read", error=error)
            return
        self._claims_read = True

    async def _send(self, publish: Publish, group: asyncio.TaskGroup) -> None:
        """Hand out what is due, `MESSAGES_AT_ONCE` at a time."""
        slots = asyncio.Semaphore(MESSAGES_AT_ONCE)
        while True:
            await slots.acquire()
            self._changed.clear()
            now_s = time.monotonic()
            message = self.window.next_message(now_s, self._message_bytes)
            if self._ahead.is_behind and self.window.is_hungry:
                self._ahead.look()
            if not message:
                slots.release()
                due_s = self.window.next_due_s()
                await set_within(self._changed, None if due_s is None else due_s - now_s)
                continue
            group.create_task(self._send_one(publish, message, slots), name="uplink message")

    async def _send_one(self, publish: Publish, message: Sequence[StoredBatch], slots: asyncio.Semaphore) -> None:
        began_s = time.monotonic()
        try:
            await publish(b"".join([batch.content for batch in message]))
        finally:
            slots.release()
        self._adapt(time.monotonic() - began_s)

    def _adapt(self, confirmed_after_s: float) -> None:
        """Messages as large as the line takes in a moment."""
        if confirmed_after_s < QUICK_S:
            self._message_bytes = min(self._message_bytes * 2, MESSAGE_BYTES_MAX)
        elif confirmed_after_s > SLOW_S:
            self._message_bytes = max(self._message_bytes // 2, MESSAGE_BYTES_MIN)

    async def _mark(self) -> None:
        """Commit acknowledgements that no append has carried along, and look after the spool now and then."""
        while True:
            await set_within(self._marked, HOUSEKEEPING_EVERY_S)
            self._marked.clear()
            await asyncio.sleep(MARKS_EVERY_S)
            try:
                await self._disk.flush()
            except SpoolUnavailable as error:
                _log.warning("spool_not_flushed", error=error)
            if self._disk.is_rewound:
                self._ahead.look()

    async def _watch(self) -> None:
        """Give up what stays unanswered while others pass; notice a hub that answers nothing at all."""
        while True:
            await asyncio.sleep(min(self._silence_s / 4, 1.0))
            for batch in self.window.give_up():
                self._writer.let_go((batch.id,))
                self._writer.marks.quarantine(batch.id, "unanswered")
                self._marked.set()
            now_s = time.monotonic()
            if not self.window.flights:
                self._heard_s = now_s
            elif now_s - self._heard_s > 2 * self._silence_s and not self._silence:
                self._silence = _SILENT
                _log.error("hub_silent", seconds=round(now_s - self._heard_s))
            elif now_s - self._heard_s > self._silence_s and not self._greeted:
                self._greeted = True
                self._hello()
