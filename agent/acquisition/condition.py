"""How each device is doing: counted always, logged when it changes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

from agent.logging import event_log
from drivers.api import Device
from shared.errors import LabrelayError
from shared.messages import DeviceState

TEXTS_MAX = 50

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

    def succeeded(self, readings: int, last_us: int, texts: Mapping[str, str]) -> None:
        """An exchange brought all that was asked for."""
        with self._lock:
            self._count(readings, last_us, texts)
            recovered = self._status in ("failing", "waiting")
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
        self._last_reading_us = max(self._last_reading_us, last_us)
        if texts:
            self._texts = dict(list({**self._texts, **texts}.items())[:TEXTS_MAX])
