"""The registered driver `push`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.api import Device
from drivers.push.bus import PushBus
from drivers.push.device import PushDevice
from drivers.push.settings import push_device
from shared.clock import Clock
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class PushDriver:
    """Listens for what scripts push."""

    name: str = "push"

    def device(self, name: str, table: Mapping[str, Any]) -> PushDevice:
        """See `Driver.device`."""
        return push_device(name, table)

    def open(self, devices: Sequence[Device], clock: Clock) -> PushBus:
        """See `Driver.open`. Raises also: ConfigurationError for two devices on the same ports."""
        first = devices[0]
        if len(devices) > 1:
            raise ConfigurationError(
                f"{first.name} and {devices[1].name} listen on the same ports",
                key=("devices", devices[1].name),
                hint="one device can hold all points that are pushed",
            )
        if not isinstance(first, PushDevice):
            raise ConfigurationError(f"{first.name} is no push device", key=("devices", first.name))
        return PushBus(first, clock)


PUSH = PushDriver()
