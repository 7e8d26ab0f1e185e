"""The `[devices.<name>]` table of a line instrument, validated."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from drivers.api import Point
from drivers.line.checksum import Checksum, Format, Kind, Position
from drivers.line.device import LineDevice, Mode, SerialAddress, Speech, TcpAddress
from drivers.line.extract import Extraction
from shared.errors import ConfigurationError
from shared.readings import DEFAULT_SIGNAL
from shared.tables import parse_table

Text = Annotated[str, Meta(min_length=1)]
PositiveS = Annotated[float, Meta(gt=0, le=86_400)]
TimeoutS = Annotated[float, Meta(gt=0, le=600)]
STREAM_TIMEOUT_S = 10.0
POLL_TIMEOUT_S = 1.0
POINTS_MAX = 1000


class PointTable(Struct, kw_only=True):
    """`[devices.<name>.points.<point>]`: see `Point` and `Extraction`."""

    prompt: Text | None = None
    pattern: Text | None = None
    field: int | None = None
    separator: Text | None = None
    prefix: str = ""
    decimal: Literal[".", ","] = "."
    scale: float = 1.0
    offset: float = 0.0
    valid_min: float = -math.inf
    valid_max: float = math.inf
    unit: str = ""
    sensor: Text | None = None
    signal: Text = DEFAULT_SIGNAL
    interval_s: PositiveS | None = None


class DeviceTable(Struct, kw_only=True):
    """What both kinds of line device have in common: see `Speech`."""

    driver: str = ""
    mode: Mode = "poll"
    terminator: Text = "\r\n"
    write_terminator: str | None = None
    encoding: Text = "ascii"
    checksum: Kind = "none"
    checksum_format: Format = "hex"
    checksum_start: str = ""
    checksum_separator: str = ""
    checksum_position: Position = "before"
    prompt_checksum: bool = False
    prompt: Text | None = None
    separator: Text = ","
    echo: bool = False
    answer_lines: Annotated[int, Meta(ge=1, le=100)] = 1
    expect: Text | None = None
    refused: Text | None = None
    ignore: Text | None = None
    line_bytes_max: Annotated[int, Meta(ge=1, le=65_536)] = 1000
    timeout_s: TimeoutS | None = None
    late_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    interval_s: PositiveS = 1.0
    start: str = ""
    stop: str = ""
    points: dict[str, dict[str, Any]]


class SerialTable(DeviceTable, kw_only=True):
    """`driver = "line-serial"`."""

    port: Text
    baudrate: Annotated[int, Meta(ge=50, le=4_000_000)] = 9600
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["none", "even", "odd", "mark", "space", "N", "E", "O", "M", "S"] = "none"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False

    def address(self, key: tuple[str, ...]) -> SerialAddress:
        """The port. Raises: ConfigurationError."""
        if self.stopbits not in (1, 1.5, 2):
            raise ConfigurationError(f"{'.'.join(key)}: stopbits is 1, 1.5 or 2", key=(*key, "stopbits"))
        return SerialAddress(
            self.port,
            self.baudrate,
            self.bytesize,
            self.parity[0].upper(),
            self.stopbits,
            self.xonxoff,
            self.rtscts,
            self.dsrdtr,
        )


class TcpTable(DeviceTable, kw_only=True):
    """`driver = "line-tcp"`."""

    host: Text
    port: Annotated[int, Meta(ge=1, le=65_535)]

    def address(self, key: tuple[str, ...]) -> TcpAddress:
        """The host and port."""
        return TcpAddress(self.host, self.port)


def line_device(name: str, table: Mapping[str, Any], structure: type[SerialTable] | type[TcpTable]) -> LineDevice:
    """The device that a table describes. Raises: ConfigurationError that names the key."""
    key = ("devices", name)
    settings = parse_table(table, structure, key=key)
    if not 1 <= len(settings.points) <= POINTS_MAX:
        raise ConfigurationError(
            f"device {name} has {len(settings.points)} points",
            key=(*key, "points"),
            hint=f"1 to {POINTS_MAX}, each as [devices.{name}.points.<point>]",
        )
    timeout_s = settings.timeout_s or (POLL_TIMEOUT_S if settings.mode == "poll" else STREAM_TIMEOUT_S)
    speech = _speech(settings, timeout_s, key)
    tables = {
        point: parse_table(content, PointTable, key=(*key, "points", point))
        for point, content in settings.points.items()
    }
    return LineDevice(
        name=name,
        address=settings.address(key),
        mode=settings.mode,
        speech=speech,
        points=tuple(_point(name, point, content, settings) for point, content in tables.items()),
        prompts=tuple(_prompt(content, settings, (*key, "points", point)) for point, content in tables.items()),
        extractions=tuple(_extraction(content, settings, (*key, "points", point)) for point, content in tables.items()),
        timeout_s=timeout_s,
    )


def _speech(settings: DeviceTable, timeout_s: float, key: tuple[str, ...]) -> Speech:
    _check_encoding(settings.encoding, (*key, "encoding"))

    def encoded(text: str, name: str) -> bytes:
        return _encoded(text, settings.encoding, (*key, name))

    terminator = encoded(settings.terminator, "terminator")
    guard = Checksum(
        kind=settings.checksum,
        format=settings.checksum_format,
        start=encoded(settings.checksum_start, "checksum_start"),
        separator=encoded(settings.checksum_separator, "checksum_separator"),
        position=settings.checksum_position,
        terminator=terminator,
    )
    _check_checksum(guard, settings, key)
    for name in ("start", "stop"):
        encoded(getattr(settings, name), name)
    written = settings.terminator if settings.write_terminator is None else settings.write_terminator
    return Speech(
        terminator=terminator,
        write_terminator=encoded(written, "write_terminator"),
        encoding=settings.encoding,
        checksum=guard,
        prompt_checksum=settings.prompt_checksum,
        line_bytes_max=settings.line_bytes_max,
        echo=settings.echo,
        answer_lines=settings.answer_lines,
        expect=_pattern(settings.expect, (*key, "expect")),
        refused=_pattern(settings.refused, (*key, "refused")),
        ignore=_pattern(settings.ignore, (*key, "ignore")),
        late_s=timeout_s if settings.late_s is None else settings.late_s,
        start=settings.start,
        stop=settings.stop,
    )


def _point(device: str, name: str, table: PointTable, settings: DeviceTable) -> Point:
    return Point(
        name=name,
        sensor=table.sensor or f"{device}.{name}",
        signal=table.signal,
        unit=table.unit,
        interval_s=table.interval_s or settings.interval_s,
    )


def _prompt(table: PointTable, settings: DeviceTable, key: tuple[str, ...]) -> str:
    prompt = table.prompt or settings.prompt
    if settings.mode == "stream":
        if table.prompt or settings.prompt:
            raise ConfigurationError(
                f"{'.'.join(key)}: a streaming instrument is not prompted",
                key=(*key, "prompt"),
                hint='leave `prompt` out, or set mode = "poll"; a command that starts the stream is `start`',
            )
        return ""
    if not prompt:
        raise ConfigurationError(
            f"{'.'.join(key)}: no `prompt`, neither here nor for the device",
            key=key,
            hint='an instrument that talks unasked has mode = "stream"',
        )
    _encoded(prompt, settings.encoding, (*key, "prompt"))
    return prompt


def _extraction(table: PointTable, settings: DeviceTable, key: tuple[str, ...]) -> Extraction:
    where = ".".join(key)
    if (table.pattern is None) == (table.field is None):
        raise ConfigurationError(f"{where}: give one of `pattern` and `field`", key=key)
    if table.field == 0:
        raise ConfigurationError(
            f"{where}: there is no field 0", key=(*key, "field"), hint="fields count from 1, or backwards from -1"
        )
    if not table.valid_min <= table.valid_max:
        raise ConfigurationError(f"{where}: valid_min is above valid_max", key=(*key, "valid_min"))
    if not (math.isfinite(table.scale) and math.isfinite(table.offset)) or table.scale == 0:
        raise ConfigurationError(f"{where}: scale and offset are finite numbers, scale not 0", key=(*key, "scale"))
    return Extraction(
        prefix=table.prefix,
        pattern=_pattern(table.pattern, (*key, "pattern")),
        field=table.field,
        separator=table.separator or settings.separator,
        decimal=table.decimal,
        scale=table.scale,
        offset=table.offset,
        valid_min=table.valid_min,
        valid_max=table.valid_max,
    )


def _pattern(source: str | None, key: tuple[str, ...]) -> re.Pattern[str] | None:
    if source is None:
        return None
    try:
        return re.compile(source)
    except re.error as error:
        raise ConfigurationError(f"{'.'.join(key)}: not a regular expression: {error}", key=key) from None


def _check_encoding(encoding: str, key: tuple[str, ...]) -> None:
    try:
        known = "A\r\n".encode(codecs.lookup(encoding).name) == b"A\r\n"
    except LookupError:
        known = False
    if not known:
        raise ConfigurationError(
            f"{'.'.join(key)}: `{encoding}` is no encoding of lines", key=key, hint='"ascii", "latin-1" or "utf-8"'
        )


def _encoded(text: str, encoding: str, key: tuple[str, ...]) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{'.'.join(key)}: {text!r} cannot be written in {encoding}", key=key, hint='encoding = "latin-1"?'
        ) from None


def _check_checksum(guard: Checksum, settings: DeviceTable, key: tuple[str, ...]) -> None:
    if guard.kind == "none" and settings.prompt_checksum:
        raise ConfigurationError(
            f"{'.'.join(key)}: prompt_checksum without checksum", key=(*key, "prompt_checksum"), hint='checksum = "xor"'
        )
    if guard.kind != "none" and guard.format == "decimal" and (not guard.separator or guard.position == "after"):
        raise ConfigurationError(
            f"{'.'.join(key)}: a decimal checksum needs a checksum_separator and stands before the terminator",
            key=(*key, "checksum_format"),
        )
