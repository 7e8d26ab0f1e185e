"""The `[devices.<name>]` table of a `push` listener, validated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from drivers.api import Point
from drivers.push.device import LOOPBACK, Endpoints, Limits, PushDevice, Range
from shared.errors import ConfigurationError
from shared.readings import DEFAULT_SIGNAL
from shared.tables import parse_table

Port = Annotated[int, Meta(ge=1, le=65_535)]
Text = Annotated[str, Meta(min_length=1)]
DEFAULTS = Limits()


class PointTable(Struct, frozen=True, kw_only=True):
    """`[devices.<name>.points.<point>]`, for points whose sensor, unit or range is known beforehand."""

    sensor: Text | None = None
    signal: Text = DEFAULT_SIGNAL
    unit: str = ""
    valid_min: float = -math.inf
    valid_max: float = math.inf


class PushTable(Struct, frozen=True, kw_only=True):
    """`driver = "push"`: see `Endpoints` and `Limits`."""

    driver: str = ""
    tcp_port: Port | None = None
    udp_port: Port | None = None
    http_port: Port | None = None
    host: Text | None = None
    points_max: Annotated[int, Meta(ge=1, le=10_000)] = DEFAULTS.points_max
    connections_max: Annotated[int, Meta(ge=1, le=10_000)] = DEFAULTS.connections_max
    line_bytes_max: Annotated[int, Meta(ge=64, le=1_048_576)] = DEFAULTS.line_bytes_max
    body_bytes_max: Annotated[int, Meta(ge=64, le=67_108_864)] = DEFAULTS.body_bytes_max
    answer_timeout_s: Annotated[float, Meta(gt=0, le=300)] = DEFAULTS.answer_timeout_s
    points: dict[str, dict[str, Any]] = {}


def push_device(name: str, table: Mapping[str, Any]) -> PushDevice:
    """The device that a table describes. Raises: ConfigurationError that names the key."""
    key = ("devices", name)
    settings = parse_table(table, PushTable, key=key)
    ports = [port for port in (settings.tcp_port, settings.http_port) if port is not None]
    if not ports and settings.udp_port is None:
        raise ConfigurationError(
            f"device {name} listens nowhere", key=key, hint="give at least one of tcp_port, udp_port and http_port"
        )
    if len(set(ports)) < len(ports):
        raise ConfigurationError(f"device {name}: tcp_port and http_port are the same", key=(*key, "http_port"))
    if len(settings.points) > settings.points_max:
        raise ConfigurationError(f"device {name} has more than points_max points", key=(*key, "points"))
    tables = {
        point: parse_table(content, PointTable, key=(*key, "points", point))
        for point, content in settings.points.items()
    }
    for point, content in tables.items():
        if not content.valid_min <= content.valid_max:
            where = (*key, "points", point, "valid_min")
            raise ConfigurationError(f"{'.'.join(where)} is above valid_max", key=where)
    return PushDevice(
        name=name,
        endpoints=Endpoints(
            settings.tcp_port, settings.udp_port, settings.http_port, (settings.host,) if settings.host else LOOPBACK
        ),
        limits=Limits(
            settings.points_max,
            settings.connections_max,
            settings.line_bytes_max,
            settings.body_bytes_max,
            settings.answer_timeout_s,
        ),
        configured=tuple(
            Point(point, content.sensor or f"{name}.{point}", content.signal, content.unit)
            for point, content in tables.items()
        ),
        ranges={point: Range(content.valid_min, content.valid_max) for point, content in tables.items()},
    )
