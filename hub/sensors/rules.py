"""What holds for sensors and profiles, apart from any database."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

ONLINE_WITHIN = timedelta(seconds=30)
DELAYED_WITHIN = timedelta(minutes=5)


class SensorStatus(StrEnum):
    """What a sensor is for us."""

    REGISTERING = "registering"
    ACTIVE = "active"
    INACTIVE = "inactive"
    DECOMMISSIONED = "decommissioned"


class ConnectionStatus(StrEnum):
    """Whether a sensor sends."""

    ONLINE = "online"
    DELAYED = "delayed"
    OFFLINE = "offline"


class ProfileStatus(StrEnum):
    """Where a profile is in its life: draft → scheduled | active | deprecated, scheduled → active | deprecated, …"""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    DEPRECATED = "deprecated"


class ProfileKind(StrEnum):
    """How a profile converts."""

    LINEAR = "linear"
    POLYNOMIAL = "polynomial"
    LOOKUP_TABLE = "lookup_table"
    FORMULA = "formula"


def connection_status(last_heard: datetime | None, now: datetime) -> ConnectionStatus:
    """Whether a sensor that was last heard then is online."""
    if last_heard is None or now - last_heard > DELAYED_WITHIN:
        return ConnectionStatus.OFFLINE
    return ConnectionStatus.ONLINE if now - last_heard < ONLINE_WITHIN else ConnectionStatus.DELAYED


def in_force_from(asked: datetime | None, now: datetime, *, is_first: bool) -> datetime | None:
    """From when a profile that is published now is in force; None for all earlier times too.

    Args:
        asked: the `valid_from` given, if any.
        is_first: whether it is the first that was ever published for its sensor.
    """
    if asked is not None:
        return asked
    return None if is_first else now
