"""What the agent says about itself on `up/state`: retained, every few seconds and whenever something changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from agent.hub_link.offset import OffsetMeter
from agent.spool.writer import SpoolWriter
from shared.clock import Clock
from shared.messages import DeviceState, EpochRange, State, encode

LOOK_EVERY_S = 0.5
"""How soon a change is reported."""

Publish = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AgentReport:
    """What the rest of the agent contributes.

    Attributes:
        generation: of the configuration in force.
        adjusted_timestamps: moved on because two of a series were equal.
        error: what keeps the agent from working, for people.
    """

    generation: int = 0
    devices: list[DeviceState] = field(default_factory=list)
    adjusted_timestamps: int = 0
    error: str = ""


class StateReporter:
    """Composes the state and publishes it.

    Args:
        report: asked each time; must not block.
        link_error: what is wrong with the delivery, if anything.
        acknowledged: what the hub's database is said to hold.
    """

    def __init__(
        self,
        writer: SpoolWriter,
        meter: OffsetMeter,
        clock: Clock,
        *,
        report: Callable[[], AgentReport],
        link_error: Callable[[], str],
        acknowledged: Callable[[], list[EpochRange]] = list,
        version: str,
        host: str,
        interval_s: float,
    ) -> None:
        self._writer = writer
        self._meter = meter
        self._clock = clock
        self._report = report
        self._link_error = link_error
        self._acknowledged = acknowledged
        self._version = version
        self._host = host
        self._interval_s = interval_s
        self._now = asyncio.Event()

    def state(self) -> State:
        """How the agent is now."""
        report = self._report()
        spool = msgspec.structs.replace(self._writer.state(), adjusted_timestamps=report.adjusted_timestamps)
        offset = self._meter.latest
        return State(
            status="online",
            instance=self._writer.epoch.hex(),
            at_us=self._clock.now_us(),
            version=self._version,
            host=self._host,
            started_us=self._writer.started_us,
            generation=report.generation,
            clock_offset_us=offset.offset_us if offset else 0,
            clock_uncertainty_us=offset.uncertainty_us if offset else -1,
            spool=spool,
            devices=report.devices,
            error=report.error or self._link_error() or self._writer.error,
            incarnation=self._writer.incarnation,
            acknowledged=self._acknowledged(),
        )

    def farewell(self, instance: str) -> State:
        """The last will, and what a stopping agent says itself."""
        return State(status="offline", instance=instance, version=self._version, host=self._host)

    def hello(self) -> None:
        """Publish at once."""
        self._now.set()

    async def run(self, publish: Publish) -> None:
        """Publish until cancelled, or until `publish` fails."""
        while True:
            self._now.clear()
            state = self.state()
            await publish(encode(state))
            await self._pause(_notable(state))

    async def _pause(self, said: tuple[object, ...]) -> None:
        """Until the next report is due, or something notable differs from what was said."""
        looks = max(round(self._interval_s / LOOK_EVERY_S), 1)
        for _ in range(looks):
            try:
                async with asyncio.timeout(self._interval_s / looks):
                    await self._now.wait()
                    return
            except TimeoutError:
                if _notable(self.state()) != said:
                    return


def _notable(state: State) -> tuple[object, ...]:
    """What is worth a message of its own when it changes."""
    devices = tuple((device.name, device.status, device.error) for device in state.devices)
    return (state.error, state.generation, state.instance, state.spool.quarantined_batches, devices)
