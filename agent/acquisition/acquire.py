"""All buses of an agent: which devices share one, and their workers."""

from __future__ import annotations

from collections.abc import Sequence

from agent.acquisition.condition import Condition
from agent.acquisition.worker import BusWorker, Outlet
from agent.logging import event_log
from agent.settings import DeviceSettings
from shared.messages import DeviceState

_log = event_log("acquisition")


class Acquisition:
    """The workers of all buses.

    Args:
        devices: as configured; those whose `Device.bus` is equal share a worker.
    """

    def __init__(self, devices: Sequence[DeviceSettings], outlet: Outlet) -> None:
        self._outlet = outlet
        self._conditions = {entry.device.name: Condition(entry.device, entry.driver.name) for entry in devices}
        by_bus: dict[str, list[DeviceSettings]] = {}
        for entry in devices:
            by_bus.setdefault(entry.device.bus, []).append(entry)
        self._workers = [self._worker(entries) for entries in by_bus.values()]

    def start(self) -> None:
        """Start reading."""
        _log.info("acquisition_starts", devices=len(self._conditions), buses=len(self._workers))
        for worker in self._workers:
            worker.thread.start()

    def stop(self) -> None:
        """Stop reading and release all ports; blocks for some seconds at most."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            if not worker.join():
                _log.error("bus_does_not_stop", bus=worker.name)

    def states(self) -> list[DeviceState]:
        """How each device is doing, in the order of the configuration. From any thread."""
        roster = self._outlet.roster
        return [c.state(roster.points(roster.number(c.device))) for c in self._conditions.values()]

    def _worker(self, entries: Sequence[DeviceSettings]) -> BusWorker:
        return BusWorker(
            entries[0].driver,
            [self._conditions[entry.device.name] for entry in entries],
            [entry.flush_interval_s for entry in entries],
            self._outlet,
        )
