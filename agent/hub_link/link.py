"""The connection to the hub's broker, and everything that goes over it.

::

    not enrolled ─► connecting ─► online ─► offline ─► connecting …       (back-off: doubled, capped, jittered)
                        └► refused: the broker does not know us           (slow retries, and at once on new credentials)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import aiomqtt

from agent.hub_link import credentials as stored
from agent.hub_link.broker import connected, publish, subscribe
from agent.hub_link.connection import Connection
from agent.hub_link.control import Control, Handler
from agent.hub_link.credentials import Credentials
from agent.hub_link.live import LiveLane
from agent.hub_link.offset import OffsetMeter
from agent.hub_link.report import AgentReport, StateReporter
from agent.hub_link.settings import HubSettings
from agent.hub_link.uplink import Uplink
from agent.logging import event_log
from agent.spool.writer import SpoolWriter
from shared import topics
from shared.clock import Clock
from shared.errors import CorruptBatch, CredentialsRefused, LimitExceeded, LinkUnavailable, SpoolUnavailable
from shared.messages import Ack, Command, Config, State, TimeAnswer, decode, encode

LOOK_FOR_CREDENTIALS_S = 1.0
LOOK_FOR_EPOCH_S = 0.5
TIME_LOOK_S = 1.0

Phase = Literal["not_enrolled", "connecting", "online", "offline", "refused"]

_log = event_log("link")


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How the way to the hub is; `detail` is for people."""

    phase: Phase
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.phase.replace('_', ' ')}: {self.detail}" if self.detail else self.phase.replace("_", " ")


class HubLink:
    """Keeps the agent connected for as long as `run` runs. Make it on the event loop's thread.

    Args:
        data_dir: where enrolment stores the credentials.
        on_config: called on the event loop with every configuration that arrives; decides itself whether it is newer.
        report: what the rest of the agent contributes to its state; must not block.
        commands: what the hub may ask for, besides `ping` and `resend`.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        settings: HubSettings,
        writer: SpoolWriter,
        live: LiveLane,
        clock: Clock,
        on_config: Callable[[Config], object],
        report: Callable[[], AgentReport] = AgentReport,
        commands: Mapping[str, Handler] | None = None,
        version: str = "",
        host: str = "",
    ) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._writer = writer
        self._live = live
        self._clock = clock
        self._on_config = on_config
        self._config: Config | None = None
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="spool")
        self._uplink = Uplink(writer, self._executor, silence_s=settings.silence_s, hello=self._hello)
        self._meter = OffsetMeter(clock, started_us=writer.started_us)
        self._reporter = StateReporter(
            writer,
            self._meter,
            clock,
            report=report,
            link_error=lambda: self._uplink.error,
            acknowledged=self._uplink.claims.ranges,
            version=version,
            host=host,
            interval_s=settings.state_interval_s,
        )
        own: dict[str, Handler] = {"ping": lambda _: {"at_us": clock.now_us()}, "resend": lambda _: self._resend()}
        self._control = Control(own | dict(commands or {}))
        self.status = LinkStatus("not_enrolled")
        self._told: set[LinkStatus] = set()

    def stepped(self, step_us: int) -> None:
        """Tell the link that the system's clock was set by so much and a new clock segment has opened."""
        self._meter.stepped(step_us)

    def state(self) -> State:
        """What the agent says about itself."""
        return self._reporter.state()

    async def drained(self) -> None:
        """Returns when the hub has acknowledged everything; never, without a link."""
        await self._uplink.drained()

    async def run(self) -> None:
        """Until cancelled; then says goodbye to the broker and commits what was acknowledged."""
        failures = 0
        try:
            while True:
                access = await self._credentials()
                began_s = time.monotonic()
                async with asyncio.TaskGroup() as group:  # whose count of cancellations ends with it
                    group.create_task(self._session(access), name="link session")
                failures = 0 if time.monotonic() - began_s > self._settings.retry_s_max else failures + 1
                await self._pause(access, failures)
        finally:
            await asyncio.shield(self._uplink.close())
            self._executor.shutdown(wait=False)

    async def _credentials(self) -> Credentials:
        """What enrolment has stored; waits for it."""
        while True:
            try:
                access = stored.load(self._data_dir)
            except CredentialsRefused as error:
                self._become(LinkStatus("refused", str(error)))
            else:
                if access is not None:
                    return access
                self._become(LinkStatus("not_enrolled", "enrol with: labrelay agent enrol --hub URL --code CODE"))
            await asyncio.sleep(LOOK_FOR_CREDENTIALS_S)

    async def _session(self, access: Credentials) -> None:
        """One connection, from beginning to end."""
        if self.status.phase != "refused":
            self._become(LinkStatus("connecting", f"{access.mqtt.host}:{access.mqtt.port}"))
        instance = self._writer.epoch.hex()
        farewell = encode(self._reporter.farewell(instance))
        try:
            async with connected(access, instance=instance, farewell=farewell, settings=self._settings) as client:
                await self._serve(client, access, instance)
        except CredentialsRefused as error:
            self._become(LinkStatus("refused", str(error)))
        except LinkUnavailable as error:
            self._become(LinkStatus("offline", str(error)))

    async def _pause(self, access: Credentials, failures: int) -> None:
        """Back off; new credentials end the pause."""
        settings = self._settings
        pause_s = min(settings.retry_s_min * 2 ** min(failures, 16), settings.retry_s_max)
        if self.status.phase == "refused":
            pause_s = settings.refused_retry_s
        until_s = time.monotonic() + pause_s * random.uniform(0.5, 1.0)
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, LOOK_FOR_CREDENTIALS_S))
            with contextlib.suppress(CredentialsRefused):
                if stored.load(self._data_dir) != access:
                    return

    async def _serve(self, client: Connection, access: Credentials, instance: str) -> None:
        agent_id = access.agent_id
        await subscribe(
            client,
            [
                (topics.down(agent_id, "ack"), 1),
                (topics.down(agent_id, "config"), 1),
                (topics.down(agent_id, "cmd"), 1),
                (topics.down(agent_id, "time"), 0),
            ],
        )
        self._become(LinkStatus("online", f"{access.mqtt.host}:{access.mqtt.port}"))

        def lane(name: topics.Up, *, qos: int, retain: bool = False) -> Callable[[bytes], Awaitable[None]]:
            return partial(publish, client, topics.up(agent_id, name), qos=qos, retain=retain)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._leave_with(instance), name="link instance")
            group.create_task(self._receive(client), name="link receiver")
            group.create_task(self._reporter.run(lane("state", qos=1, retain=True)), name="link state")
            group.create_task(self._live.run(lane("live", qos=0)), name="link live")
            group.create_task(self._control.run(lane("reply", qos=1)), name="link control")
            group.create_task(self._deliver(lane("data", qos=1), lane("time", qos=0)), name="link delivery")

    async def _leave_with(self, instance: str) -> None:
        """The last will and the client's id name the instance for as long as a connection lasts: once another epoch is
        opened, it takes a connection of its own. Raises: aiomqtt.MqttError then."""
        while True:
            await asyncio.sleep(LOOK_FOR_EPOCH_S)
            if self._writer.epoch.hex() != instance:
                break
        raise aiomqtt.MqttError("another epoch was opened, which needs a last will of its own")

    async def _deliver(
        self, data: Callable[[bytes], Awaitable[None]], ask_time: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Measure the clock before anything is sent, and again as time goes by."""
        await self._measure(ask_time)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._uplink.run(data), name="uplink")
            group.create_task(self._measure_again(ask_time), name="link time")

    async def _measure_again(self, ask_time: Callable[[bytes], Awaitable[None]]) -> None:
        measured_s, tried = time.monotonic(), self._clock.segment
        while True:
            await asyncio.sleep(TIME_LOOK_S)
            due_s = TIME_LOOK_S * 10 if self._meter.is_due else self._settings.time_interval_s
            if tried != self._clock.segment or time.monotonic() - measured_s >= due_s:
                measured_s, tried = time.monotonic(), self._clock.segment
                await self._measure(ask_time)

    async def _measure(self, ask_time: Callable[[bytes], Awaitable[None]]) -> None:
        record = await self._meter.measure(ask_time)
        if record is None:
            _log.info("hub_time_unknown")
            return
        self._writer.note(record)
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._writer.flush)
        except SpoolUnavailable as error:
            _log.warning("spool_not_flushed", error=error)

    async def _receive(self, client: Connection) -> None:
        async for topic, payload in client.received():
            try:
                await self._received(topic.rpartition("/")[2], payload)
            except (CorruptBatch, LimitExceeded, ValueError) as error:
                _log.warning("message_not_understood", topic=topic, error=error)
            except SpoolUnavailable as error:
                _log.warning("spool_not_read", error=error)

    async def _received(self, lane: str, payload: bytes) -> None:
        if lane == "ack":
            await self._uplink.acknowledged(decode(payload, Ack))
        elif lane == "time":
            self._meter.answered(decode(payload, TimeAnswer))
        elif lane == "cmd":
            self._control.commanded(decode(payload, Command))
        elif lane == "config" and payload:
            self._on_config(decode(payload, Config))

    def _resend(self) -> dict[str, int]:
        waiting = self._writer.state().quarantined_batches
        self._writer.marks.resend_quarantined()
        return {"batches": waiting}

    def _hello(self) -> None:
        _log.warning("hub_silent_says_hello")
        self._reporter.hello()

    def _become(self, status: LinkStatus) -> None:
        """Log what is new since the last connection: not that another attempt begins, or ends as one before did."""
        if status.phase == "online":
            self._told.clear()
        if status.phase != "connecting" and status not in self._told:
            _log.info(f"link_{status.phase}", detail=status.detail)
            self._told.add(status)
        self.status = status
