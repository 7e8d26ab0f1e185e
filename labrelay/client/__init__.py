"""Readings in notebooks and scripts::

    from labrelay.client import Client

    with Client.sign_in("https://lab.example", "ada", "…") as lab:
        oven = next(sensor for sensor in lab.sensors() if sensor["name"] == "oven.temperature")
        readings = lab.readings(sensor_id=oven["id"], time_from="2026-01-01T00:00:00Z")
        plt.plot(readings.time, readings.physical)

        for event in lab.stream(sensor_id=oven["id"]):
            print(event.data["timestamp"], event.data["physical_value"])

Needs httpx and numpy, and nothing else of Labrelay.
"""

from labrelay.client.client import Client
from labrelay.client.columns import Readings
from labrelay.client.errors import (
    ClientError,
    HubFailed,
    HubUnreachable,
    NotFound,
    NotPermitted,
    NotSignedIn,
    RequestRefused,
)
from labrelay.client.events import Event

__all__ = [
    "Client",
    "ClientError",
    "Event",
    "HubFailed",
    "HubUnreachable",
    "NotFound",
    "NotPermitted",
    "NotSignedIn",
    "Readings",
    "RequestRefused",
]
