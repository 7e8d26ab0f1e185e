"""The driver interface: how the agent reads an instrument, whatever it is.

A driver turns one device's table of the configuration into a `Device` (pure, opens nothing) and opens the *bus* that
the device hangs on. Devices that name the same bus share one connection and one thread and take turns, so no driver
needs a lock. There are two kinds of bus:

* a `PolledBus` answers when asked (Modbus, prompt–response instruments);
* a `ListeningBus` delivers when it has something (instruments that talk unasked, the `push` listener).

All calls on a bus are blocking and come from that bus's one thread; only `close` may come from another thread, to end
a blocked call. Nothing here uses what Windows lacks. A third party registers its driver under the entry point group
`labrelay.drivers`; `docs/drivers.md` has one in twenty lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.clock import Clock
from shared.errors import InstrumentError
from shared.readings import DEFAULT_SIGNAL, Samples


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a device, and the series that it feeds.

    Attributes:
        name: the key in the configuration, unique within the device.
        sensor: the sensor's name at the hub, by default `<device>.<point>`; points that share one differ by `signal`.
        signal: the signal of that sensor.
        unit: unit of the raw value, e.g. `bar`; empty if none.
        interval_s: time between two polls; ignored by a listening bus.
    """

    name: str
    sensor: str
    signal: str = DEFAULT_SIGNAL
    unit: str = ""
    interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one poll of a device brought: what could be read, and what went wrong beside it.

    A poll of several requests may half succeed. `errors` is empty after a full success; when it is not, `samples` still
    holds every good value. `texts` are string points, which are shown as device information and are no readings.
    """

    samples: Samples
    errors: Sequence[InstrumentError] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


class Device(Protocol):
    """One instrument as configured. Immutable but for its points, which a listening device may add to at run time."""

    @property
    def name(self) -> str:
        """The device's key in the configuration."""
        ...

    @property
    def bus(self) -> str:
        """Devices whose bus is equal share a connection, e.g. `/dev/ttyUSB0` or `tcp:192.168.1.20:502`."""
        ...

    @property
    def points(self) -> Sequence[Point]:
        """All points; `Samples.point` indexes into this sequence."""
        ...

    @property
    def timeout_s(self) -> float:
        """The longest that one request to this device may take."""
        ...


class PolledBus(Protocol):
    """A connection that answers when asked."""

    def read(self, device: Device, points: Sequence[int]) -> Exchange:
        """Read some points of a device on this bus, in as few requests as possible.

        Args:
            device: one of the devices that the bus was opened for.
            points: indices into `device.points`, ascending; the same tuple object on every poll of a schedule.

        Returns: at least one of samples and errors; after `InstrumentTimeout` the remaining requests are not tried.
            A late answer to this call is never taken for the answer to a later one.
        """
        ...

    def close(self) -> None:
        """Release the port. Idempotent; may come from another thread and ends a blocked `read`."""
        ...


class Sink(Protocol):
    """Where a listening bus delivers; provided by the agent. All methods may be called from any thread."""

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        """Hand over readings. The future is done when they are committed to the spool.

        Raises: SpoolFull when acquisition is blocked; the caller tells its instrument or counts the loss.
        """
        ...

    def add_point(self, device: Device, point: Point) -> int:
        """Make a new point known and return its index. Raises: ConfigurationError beyond the device's bound."""
        ...

    def failed(self, device: Device, error: InstrumentError) -> None:
        """Report what could not be understood; counted and shown, logged once per state."""
        ...


class ListeningBus(Protocol):
    """A connection that delivers when it has something."""

    def listen(self, sink: Sink) -> None:
        """Deliver to `sink` until `close` is called.

        Raises: InstrumentUnavailable when the port is gone; the agent opens the bus again with back-off.
        """
        ...

    def close(self) -> None:
        """End `listen` and release the port. Idempotent; comes from another thread."""
        ...


Bus = PolledBus | ListeningBus


class Driver(Protocol):
    """The registered object of a driver."""

    @property
    def name(self) -> str:
        """The word after `driver =` in the configuration."""
        ...

    def device(self, name: str, table: Mapping[str, Any]) -> Device:
        """Validate one `[devices.<name>]` table. Pure.

        Raises: ConfigurationError whose `key` hint names the nearest known key; the agent adds file and line.
        """
        ...

    def open(self, devices: Sequence[Device], clock: Clock) -> Bus:
        """Open the bus that these devices share.

        Raises: InstrumentUnavailable with a hint (`is it plugged in? is the user in group dialout?`).
        """
        ...
