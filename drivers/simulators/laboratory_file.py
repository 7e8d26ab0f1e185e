"""A laboratory's TOML file: which instruments there are, what they measure and how they misbehave.

::

    [[modbus]]                       # transport "tcp" with host and port, "rtu" or "ascii" with pty (a path)
    name = "bench"
    port = 5020
    registers = [
        { table = "input", address = 0, type = "uint16", scale = 0.001, value = { kind = "sine", … } },
        { table = "coil", address = 0, type = "bit", value = 1 },
    ]

    [[line]]                         # pty (a path), or host and port
    name = "balance"
    pty = "ports/balance"
    quantities = { mass = { kind = "walk", … } }
    answers = { SI = "S S {mass:10.3f} g" }
    faults = { garbage = 0.001 }

    [[push]]
    name = "counter"
    port = 4840
    point = "counts"
    value = { kind = "noise", … }
    scenarios = [{ kind = "late", every_s = 60, delay_s = 20 }]

Paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from drivers.line.checksum import Checksum, Format, Kind
from drivers.modbus.registers import Order, ValueType
from drivers.simulators.feeder import Feed
from drivers.simulators.line import Faults, LineInstrument
from drivers.simulators.registers import SimulatedRegister, Source
from drivers.simulators.scenarios import Chain, scenario
from drivers.simulators.signals import waveform
from shared.errors import ConfigurationError
from shared.tables import check_keys, parse_table

Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class RegisterTable(Struct, frozen=True, kw_only=True):
    """One of a server's `registers`: see `SimulatedRegister`."""

    table: Literal["coil", "discrete", "input", "holding"]
    address: Annotated[int, Meta(ge=0, le=65_535)]
    type: ValueType
    value: dict[str, Any] | float | bool | str
    unit: Annotated[int, Meta(ge=0, le=255)] = 1
    scale: float = 1.0
    offset: float = 0.0
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: Annotated[int, Meta(ge=0, le=15)] = 0


class ModbusTable(Struct, frozen=True, kw_only=True):
    """`[[modbus]]`."""

    name: str
    transport: Literal["tcp", "rtu", "ascii"] = "tcp"
    host: str = "127.0.0.1"
    port: Port = 0
    pty: str = ""
    registers: list[dict[str, Any]]


class FaultsTable(Struct, frozen=True, kw_only=True):
    """`faults` of a line instrument: see `Faults`."""

    silent: Probability = 0.0
    late: Probability = 0.0
    late_s: Annotated[float, Meta(ge=0)] = 1.0
    garbage: Probability = 0.0
    wrong_checksum: Probability = 0.0
    vanish_every_s: Annotated[float, Meta(ge=0)] = 0.0
    vanish_s: Seconds = 5.0
    seed: int = 0


class LineTable(Struct, frozen=True, kw_only=True):
    """`[[line]]`: see `LineInstrument`."""

    name: str
    pty: str = ""
    host: str = "127.0.0.1"
    port: Port | None = None
    quantities: dict[str, dict[str, Any]]
    answers: dict[str, str] = {}
    stream: list[str] = []
    stream_interval_s: Seconds = 1.0
    terminator: Annotated[str, Meta(min_length=1)] = "\r\n"
    prompt_terminator: Annotated[str, Meta(min_length=1)] = "\r\n"
    checksum: Kind = "none"
    checksum_format: Format = "hex"
    checksum_start: str = ""
    checksum_separator: str = ""
    answer_s: Annotated[float, Meta(ge=0, le=60)] = 0.005
    echo: bool = False
    unknown: str = ""
    faults: dict[str, Any] = {}
    scenarios: list[dict[str, Any]] = []


class PushTable(Struct, frozen=True, kw_only=True):
    """`[[push]]`: see `Feed`."""

    name: str
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)]
    point: Annotated[str, Meta(min_length=1)]
    value: dict[str, Any]
    interval_s: Seconds = 1.0
    unit: str = ""
    scenarios: list[dict[str, Any]] = []


class ModbusServer(Struct, frozen=True):
    """A Modbus server to be run."""

    settings: ModbusTable
    registers: Sequence[SimulatedRegister]
    link: Path | None


class LineStation(Struct, frozen=True):
    """A line instrument to be run, on a pty where `link` is given, else on TCP."""

    settings: LineTable
    instrument: LineInstrument
    faults: Faults
    link: Path | None


class Laboratory(Struct, frozen=True):
    """All of it."""

    modbus: Sequence[ModbusServer]
    line: Sequence[LineStation]
    push: Sequence[tuple[str, Feed]]


def read_laboratory(file: Path) -> Laboratory:
    """The laboratory in a file. Raises: ConfigurationError that names file and key."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        return parse_laboratory(tables, file.parent)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", file=str(file)) from None
    except ConfigurationError as error:
        raise ConfigurationError(error.message, key=error.key, file=str(file), hint=error.hint) from None


def parse_laboratory(tables: dict[str, Any], folder: Path) -> Laboratory:
    """The laboratory in parsed TOML; paths are relative to `folder`. Raises: ConfigurationError."""
    check_keys(tables, ["modbus", "line", "push"])
    laboratory = Laboratory(
        [_modbus(table, ("modbus", str(i)), folder) for i, table in enumerate(_list(tables, "modbus"))],
        [_line(table, ("line", str(i)), folder) for i, table in enumerate(_list(tables, "line"))],
        [_push(table, ("push", str(i)), folder) for i, table in enumerate(_list(tables, "push"))],
    )
    if not (laboratory.modbus or laboratory.line or laboratory.push):
        raise ConfigurationError("no instruments", hint="[[modbus]], [[line]] or [[push]]")
    return laboratory


def _list(tables: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = tables.get(name, [])
    if not isinstance(found, list):
        raise ConfigurationError(f"{name} must be a list of tables", key=(name,), hint=f"[[{name}]]")
    return found


def _modbus(table: dict[str, Any], key: tuple[str, ...], folder: Path) -> ModbusServer:
    settings = parse_table(table, ModbusTable, key=key)
    if settings.transport != "tcp" and not settings.pty:
        raise ConfigurationError(f"{settings.name}: no `pty` for {settings.transport}", key=(*key, "pty"))
    registers = [_register(one, (*key, "registers", str(i)), folder) for i, one in enumerate(settings.registers)]
    link = folder / settings.pty if settings.transport != "tcp" else None
    return ModbusServer(settings, registers, link)


def _register(table: dict[str, Any], key: tuple[str, ...], folder: Path) -> SimulatedRegister:
    register = parse_table(table, RegisterTable, key=key)
    value = register.value
    source: Source = waveform(value, key=(*key, "value"), folder=folder) if isinstance(value, dict) else value
    return SimulatedRegister(
        register.table,
        register.address,
        register.type,
        source,
        register.unit,
        register.scale,
        register.offset,
        register.word_order,
        register.byte_order,
        register.bit,
    )


def _line(table: dict[str, Any], key: tuple[str, ...], folder: Path) -> LineStation:
    settings = parse_table(table, LineTable, key=key)
    if bool(settings.pty) == (settings.port is not None):
        raise ConfigurationError(f"{settings.name}: give one of `pty` and `port`", key=key)
    quantities = {
        name: waveform(source, key=(*key, "quantities", name), folder=folder)
        for name, source in settings.quantities.items()
    }
    for text in (*settings.answers.values(), *settings.stream, settings.unknown):
        _check_text(text, list(quantities), key)
    faults = parse_table(settings.faults, FaultsTable, key=(*key, "faults"))
    instrument = LineInstrument(
        quantities=quantities,
        answers=settings.answers,
        stream=settings.stream,
        stream_interval_s=settings.stream_interval_s,
        terminator=settings.terminator.encode(),
        prompt_terminator=settings.prompt_terminator.encode(),
        checksum=Checksum(
            settings.checksum,
            settings.checksum_format,
            settings.checksum_start.encode(),
            settings.checksum_separator.encode(),
        ),
        answer_s=settings.answer_s,
        echo=settings.echo,
        unknown=settings.unknown,
        scenario=_chain(settings.scenarios, key),
    )
    link = folder / settings.pty if settings.pty else None
    return LineStation(settings, instrument, Faults(**{n: getattr(faults, n) for n in faults.__struct_fields__}), link)


def _check_text(text: str, names: Sequence[str], key: tuple[str, ...]) -> None:
    try:
        text.format(**dict.fromkeys(names, 1.0)).encode("ascii")
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise ConfigurationError(
            f"{'.'.join(key)}: {text!r} cannot be written: {error}", key=key, hint=f"quantities: {', '.join(names)}"
        ) from None


def _push(table: dict[str, Any], key: tuple[str, ...], folder: Path) -> tuple[str, Feed]:
    settings = parse_table(table, PushTable, key=key)
    source = waveform(settings.value, key=(*key, "value"), folder=folder)
    chain = _chain(settings.scenarios, key)
    feed = Feed(settings.host, settings.port, settings.point, source, settings.interval_s, settings.unit, chain)
    return settings.name, feed


def _chain(tables: Sequence[dict[str, Any]], key: tuple[str, ...]) -> Chain:
    return Chain([scenario(table, key=(*key, "scenarios", str(i))) for i, table in enumerate(tables)])
