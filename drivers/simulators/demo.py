"""The demo laboratory: a water bench, a furnace, a balance and a weather mast, and how an agent reads them.

Some points are raw on purpose (current loops, resistances, thermocouple voltages, converter counts), so that the
profiles in `DEMO_PROFILES` have something to convert.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

PORTS_FOLDER = "ports"
"""Where the simulated serial ports are, below the laboratory's folder."""


class Profile(TypedDict):
    """A conversion profile for a sensor of the demo; `unit` is the physical value's."""

    sensor: str
    kind: str
    payload: dict[str, Any]
    unit: str


# Type K thermocouple, reference junction at 0 °C, NIST ITS-90 tables: mV and °C.
_TYPE_K = ((0.0, 0), (4.096, 100), (8.138, 200), (12.209, 300), (16.397, 400), (20.644, 500), (24.905, 600))
# A tank with a conical bottom: counts of the 12-bit level converter and litres.
_TANK = ((410, 0.0), (620, 2.1), (880, 9.5), (1200, 24.0), (2000, 62.0), (3600, 138.0))


def _table(knots: tuple[tuple[float, float], ...]) -> dict[str, Any]:
    return {"table": [{"raw": raw, "physical": physical} for raw, physical in knots]}


DEMO_PROFILES: list[Profile] = [
    {"sensor": "bench.supply_pressure", "kind": "linear", "payload": {"a": 0.625, "b": -2.5}, "unit": "bar"},
    {"sensor": "bench.return_pressure", "kind": "linear", "payload": {"a": 0.375, "b": -1.5}, "unit": "bar"},
    # Nernst slope at 25 °C: 59.16 mV per pH.
    {"sensor": "bench.ph_electrode", "kind": "linear", "payload": {"a": -1 / 59.16, "b": 7.0}, "unit": "pH"},
    # Pt100 after IEC 60751, inverted by a parabola; within 0.1 K between 0 and 120 °C.
    {
        "sensor": "bench.tank_resistance",
        "kind": "polynomial",
        "payload": {"coefficients": [-244.83, 2.3419, 0.0010664]},
        "unit": "°C",
    },
    {"sensor": "bench.tank_level", "kind": "lookup_table", "payload": _table(_TANK), "unit": "l"},
    # Orifice plate: flow goes with the root of the pressure difference.
    {
        "sensor": "bench.orifice",
        "kind": "formula",
        "payload": {"expression": "k * sqrt(max(x, 0))", "constants": {"k": 6.0}},
        "unit": "l/min",
    },
    {"sensor": "furnace.chamber", "kind": "lookup_table", "payload": _table(_TYPE_K), "unit": "°C"},
    # Pyranometer of 12.5 µV per W/m².
    {"sensor": "weather.pyranometer", "kind": "linear", "payload": {"a": 0.08, "b": 0.0}, "unit": "W/m²"},
]

_LABORATORY = """\
# The demo laboratory, run by `labrelay simulate`.

[[modbus]]
name = "bench"
transport = "tcp"
port = <modbus_port>
registers = [
    # 4-20 mA loops, in µA
    { table = "input", address = 0, type = "uint16", scale = 0.001, value = { kind = "sum", parts = [
        { kind = "sine", offset = 10.4, amplitude = 1.6, period_s = 40 },
        { kind = "noise", sigma = 0.03, seed = 1 } ] } },
    { table = "input", address = 1, type = "uint16", scale = 0.001, value = { kind = "sum", parts = [
        { kind = "sine", offset = 7.2, amplitude = 0.5, period_s = 40, phase = 0.05 },
        { kind = "noise", sigma = 0.02, seed = 2 } ] } },
    { table = "input", address = 2, type = "uint16", value = { kind = "walk", start = 2100, step = 12, low = 700, \
high = 3500, interval_s = 0.5, seed = 3 } },
    { table = "input", address = 4, type = "float32", value = { kind = "sum", parts = [
        { kind = "sine", offset = 25, amplitude = 4.5, period_s = 40 },
        { kind = "noise", sigma = 0.15, seed = 4 } ] } },
    { table = "input", address = 6, type = "float32", value = { kind = "sum", parts = [
        { kind = "sine", offset = 30, amplitude = 2.7, period_s = 40 },
        { kind = "noise", sigma = 0.12, seed = 5 } ] } },
    { table = "input", address = 8, type = "float32", value = { kind = "walk", start = 116.2, step = 0.01, low = 112,\
 high = 121, interval_s = 0.5, seed = 6 } },
    { table = "input", address = 10, type = "float32", value = { kind = "walk", start = -21, step = 0.25, low = -60, \
high = 40, interval_s = 1, seed = 7 } },
    { table = "input", address = 12, type = "float32", value = { kind = "walk", start = 512, step = 1.5, low = 420, \
high = 640, interval_s = 1, seed = 8 } },
    { table = "holding", address = 0, type = "int16", scale = 0.1, value = { kind = "sum", parts = [
        { kind = "sine", offset = 18.5, amplitude = 1.2, period_s = 300 },
        { kind = "noise", sigma = 0.05, interval_s = 1, seed = 9 } ] } },
    { table = "holding", address = 1, type = "int16", scale = 0.1, value = { kind = "sum", parts = [
        { kind = "sine", offset = 24.8, amplitude = 2.0, period_s = 300, phase = 0.9 },
        { kind = "noise", sigma = 0.05, interval_s = 1, seed = 10 } ] } },
    { table = "holding", address = 2, type = "uint16", value = { kind = "sum", parts = [
        { kind = "sine", offset = 1480, amplitude = 130, period_s = 40 },
        { kind = "noise", sigma = 3, seed = 11 } ] } },
    { table = "holding", address = 3, type = "uint16", scale = 0.1, value = { kind = "pulse", low = 42, high = 68, \
period_s = 90, duty = 0.6 } },
    { table = "holding", address = 4, type = "uint32", scale = 0.1, value = { kind = "saw", low = 0, high = 43200, \
period_s = 86400 } },
    { table = "holding", address = 6, type = "float32", value = { kind = "sum", parts = [
        { kind = "sine", offset = 310, amplitude = 65, period_s = 40 },
        { kind = "noise", sigma = 2.5, seed = 12 } ] } },
    { table = "discrete", address = 0, type = "bit", value = { kind = "pulse", period_s = 600, duty = 0.98 } },
    { table = "discrete", address = 1, type = "bit", value = { kind = "pulse", low = 1, high = 0, period_s = 450, \
duty = 0.98 } },
]

[[modbus]]
name = "furnace"
transport = "rtu"
pty = <furnace>
registers = [
    { unit = 3, table = "input", address = 0, type = "float32", word_order = "little", value = { kind = "sum", \
parts = [
        { kind = "sine", offset = 14.3, amplitude = 2.1, period_s = 420 },
        { kind = "noise", sigma = 0.01, interval_s = 0.5, seed = 21 } ] } },
    { unit = 3, table = "input", address = 2, type = "uint16", scale = 0.1, value = { kind = "sum", parts = [
        { kind = "sine", offset = 55, amplitude = 30, period_s = 420, phase = 0.2 },
        { kind = "noise", sigma = 0.8, seed = 22 } ] } },
    { unit = 3, table = "input", address = 3, type = "uint16", scale = 0.01, value = { kind = "sum", parts = [
        { kind = "sine", offset = 9.6, amplitude = 5.2, period_s = 420, phase = 0.2 },
        { kind = "noise", sigma = 0.05, seed = 23 } ] } },
    { unit = 3, table = "holding", address = 0, type = "int16", value = { kind = "pulse", low = 300, high = 400, \
period_s = 420 } },
    { unit = 3, table = "holding", address = 1, type = "uint16", value = { kind = "saw", low = 1, high = 9, \
period_s = 840 } },
    { unit = 3, table = "discrete", address = 0, type = "bit", value = { kind = "pulse", low = 1, high = 0, \
period_s = 240, duty = 0.97 } },
]

[[line]]
name = "balance"
pty = <balance>
answers = { SI = "S S {mass:10.3f} g", TI = "T A {temperature:6.2f} C" }
unknown = "ES"
quantities.mass = { kind = "sum", parts = [
    { kind = "saw", low = 0, high = 240, period_s = 180 },
    { kind = "noise", sigma = 0.004, interval_s = 0.2, seed = 31 } ] }
quantities.temperature = { kind = "walk", start = 22.4, step = 0.01, low = 20, high = 25, interval_s = 2, seed = 32 }

[[line]]
name = "weather"
pty = <weather>
checksum = "xor"
checksum_start = "$"
checksum_separator = "*"
stream_interval_s = 1.0
stream = [
    "$WIMWV,{direction:.0f},R,{speed:.1f},M,A",
    "$WIXDR,C,{air:.2f},C,0,H,{humidity:.1f},P,0,P,{pressure:.2f},H,0",
    "$WIXDR,U,{light:.1f},V,PYR",
]
quantities.speed = { kind = "walk", start = 4.2, step = 0.3, low = 0, high = 14, interval_s = 1, seed = 41 }
quantities.direction = { kind = "walk", start = 225, step = 4, low = 150, high = 320, interval_s = 1, seed = 42 }
quantities.air = { kind = "sum", parts = [
    { kind = "sine", offset = 14.6, amplitude = 2.2, period_s = 1800 },
    { kind = "noise", sigma = 0.03, interval_s = 1, seed = 43 } ] }
quantities.humidity = { kind = "walk", start = 61, step = 0.2, low = 35, high = 95, interval_s = 1, seed = 44 }
quantities.pressure = { kind = "walk", start = 1013, step = 0.02, low = 990, high = 1035, interval_s = 1, seed = 45 }
quantities.light = { kind = "walk", start = 6200, step = 90, low = 0, high = 12500, interval_s = 1, seed = 46 }
"""

_AGENT = """\
[devices.bench]
driver = "modbus-tcp"
host = "127.0.0.1"
port = <modbus_port>
interval_s = 0.2
[devices.bench.points]
supply_pressure = { register = "input:0", type = "uint16", scale = 0.001, unit = "mA" }
return_pressure = { register = "input:1", type = "uint16", scale = 0.001, unit = "mA" }
tank_level = { register = "input:2", type = "uint16", unit = "counts" }
orifice = { register = "input:4", type = "float32", unit = "mbar" }
flow = { register = "input:6", type = "float32", unit = "l/min", interval_s = 0.1 }
tank_resistance = { register = "input:8", type = "float32", unit = "Ω" }
ph_electrode = { register = "input:10", type = "float32", unit = "mV", interval_s = 1.0 }
conductivity = { register = "input:12", type = "float32", unit = "µS/cm", interval_s = 1.0 }
inlet_temperature = { register = "holding:0", type = "int16", scale = 0.1, unit = "°C", interval_s = 1.0 }
outlet_temperature = { register = "holding:1", type = "int16", scale = 0.1, unit = "°C", interval_s = 1.0 }
pump_speed = { register = "holding:2", type = "uint16", unit = "1/min" }
valve_position = { register = "holding:3", type = "uint16", scale = 0.1, unit = "%" }
volume = { register = "holding:4", type = "uint32", scale = 0.1, unit = "l", interval_s = 1.0 }
pump_power = { register = "holding:6", type = "float32", unit = "W" }
pump_running = { register = "discrete:0", interval_s = 1.0 }
leak_alarm = { register = "discrete:1", interval_s = 1.0 }

[devices.furnace]
driver = "modbus-rtu"
port = <furnace>
unit = 3
interval_s = 0.5
word_order = "little"
[devices.furnace.points]
chamber = { register = "input:0", type = "float32", unit = "mV" }
heater_power = { register = "input:2", type = "uint16", scale = 0.1, unit = "%" }
heater_current = { register = "input:3", type = "uint16", scale = 0.01, unit = "A" }
setpoint = { register = "holding:0", type = "int16", unit = "°C", interval_s = 1.0 }
program_step = { register = "holding:1", type = "uint16", interval_s = 1.0 }
door_open = { register = "discrete:0", interval_s = 1.0 }

[devices.balance]
driver = "line-serial"
port = <balance>
refused = "^E[SLT]"
interval_s = 0.5
points.mass = { prompt = "SI", pattern = '^S [SD] +([-+]?[0-9.]+) g', unit = "g" }
points.temperature = { prompt = "TI", pattern = '^T A +([-+]?[0-9.]+) C', unit = "°C", interval_s = 1.0 }

[devices.weather]
driver = "line-serial"
port = <weather>
baudrate = 4800
mode = "stream"
checksum = "xor"
checksum_start = "$"
checksum_separator = "*"
[devices.weather.points]
wind_direction = { prefix = "$WIMWV", field = 2, unit = "°" }
wind_speed = { prefix = "$WIMWV", field = 4, unit = "m/s" }
air_temperature = { prefix = "$WIXDR,C", field = 3, unit = "°C" }
humidity = { prefix = "$WIXDR,C", field = 7, unit = "%" }
air_pressure = { prefix = "$WIXDR,C", field = 11, unit = "hPa" }
pyranometer = { prefix = "$WIXDR,U", field = 3, unit = "µV" }
"""


def demo_laboratory(directory: Path, modbus_port: int) -> tuple[str, str]:
    """The demo as two TOML texts: the laboratory's file, and the agent's `[devices.*]` tables that match it.

    Args:
        directory: the simulated serial ports are made in its folder `ports`.
        modbus_port: of the water bench, on the loopback.
    """
    ports = directory.absolute() / PORTS_FOLDER
    places = {name: json.dumps(str(ports / name)) for name in ("furnace", "balance", "weather")}
    places["modbus_port"] = str(modbus_port)
    return _filled(_LABORATORY, places), _filled(_AGENT, places)


def _filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(f"<{name}>", value)
    return text
