"""How each device is doing: counted always, logged when it changes, and then for a while no more.

A device that fails and recovers by turns (a script that sends one bad line in two) is told of once in `QUIET_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Literal

from agent.logging import event_log
from drivers.api import Device
from shared.errors import LabrelayError
from shared.messages import DeviceState

TEXTS_MAX = 50
QUIET_S = 60.0

_log = event_log("device")


class Condition:
    """One device's state. Safe to use from any thread."""

    def __init__(self, device: Device, driver: str) -> None:
        self.device = device
        self._driver = driver
        self._lock = threading.Lock()
        self._status: Literal["starting", "ok", "failing", "waiting"] = "starting"
        self._readings = 0
        self._failures = 0
        self._overruns = 0
        self._last_reading_us = 0
        self._error = ""
        self._texts: dict[str, str] = {}
        self._told = False
        self._quiet_until_s = 0.0

    def succeeded(self, readings: int, last_us: int, texts: Mapping[str, str]) -> None:
        """An exchange brought all that was asked for."""
        with self._lock:
            self._count(readings, last_us, texts)
            recovered = self._status in ("failing", "waiting") and self._told
            first = self._status == "starting"
            self._status = "ok"
            self._error = ""
        if recovered:
            _log.info("device_recovered", device=self.device.name, failures=self._failures)
        elif first:
            _log.info("device_answers", device=self.device.name, bus=self.device.bus)

    def partly_failed(self, readings: int, last_us: int, texts: Mapping[str, str], error: LabrelayError) -> None:
        """An exchange brought something, and an error beside it."""
        with self._lock:
            self._count(readings, last_us, texts)
        self.failed(error)

    def failed(self, error: LabrelayError, *, waiting: bool = False) -> None:
        """An exchange brought an error; `waiting` says that the device is left alone for a while."""
        with self._lock:
            self._failures += 1
            first = self._status in ("starting", "ok")
            self._status = "waiting" if waiting else "failing"
            self._error = str(error)
            if first:
                now_s = time.monotonic()
                self._told = now_s >= self._quiet_until_s
                self._quiet_until_s = now_s + QUIET_S if self._told else self._quiet_until_s
        if first and self._told:
            _log.warning("device_failing", device=self.device.name, bus=self.device.bus, error=error)

    def overran(self, polls: int) -> None:
        """Polls were skipped because the bus was not done with those before."""
        with self._lock:
            first = self._overruns == 0
            self._overruns += polls
        if first:
            _log.warning("polls_skipped", device=self.device.name, bus=self.device.bus, polls=polls)

    def state(self, points: int) -> DeviceState:
        """What there is to tell."""
        with self._lock:
            return DeviceState(
                name=self.device.name,
                driver=self._driver,
                status=self._status,
                points=points,
                readings=self._readings,
                failures=self._failures,
                overruns=self._overruns,
                last_reading_us=self._last_reading_us,
                error=self._error,
                texts=dict(self._texts),
            )

    def _count(self, readings: int, last_us: int, texts: Mapping[str, str]) -> None:
        self._readings += readings
        self._last_reading_us = last_us or self._last_reading_us  # may go back: so may the system's clock
        if texts:
            self._texts = dict(list({**self._texts, **texts}.items())[:TEXTS_MAX])
