"""Poll 1,000 Modbus registers a cycle: requests, and CPU against pymodbus's blocking client asking the same.

The simulated instrument runs in a process of its own. Schedule, read and decode, as a bus's thread does them, and the
bare client take turns, cycle by cycle, on the same machine; times are CPU seconds of the calling thread.
`agent_us_per_cycle` is the CPU of a whole agent process (all threads: poll, convert, encode, spool with fsync) a cycle,
with nothing else to do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pymodbus.client import ModbusTcpClient

from agent.acquisition.schedule import Schedule
from drivers.api import PolledBus
from drivers.modbus.driver import MODBUS_TCP
from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock

REGISTERS_PER_REQUEST_MAX = 125
INTERVAL_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--registers", type=int, default=1000, help="16-bit holding registers (default 1000)")
    parser.add_argument("--cycles", type=int, default=200, help="cycles of each side (default 200)")
    parser.add_argument("--agent-seconds", type=float, default=10.0, help="how long the agent runs (default 10)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    with simulator(options.registers) as port:
        figures = _compare(port, options.registers, options.cycles)
        figures["agent_us_per_cycle"] = _agent_us_per_cycle(port, options.registers, options.agent_seconds)
    return figures | {"registers": options.registers, "cycles": options.cycles, "agent_interval_s": INTERVAL_S}


@contextmanager
def simulator(registers: int) -> Iterator[int]:
    """An instrument in a process of its own; yields its port."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_simulate, args=(registers, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join(10)
        if process.is_alive():
            process.kill()


def _simulate(registers: int, pipe: Connection) -> None:
    with ModbusSimulator([SimulatedRegister("holding", n, "int16", n % 1000) for n in range(registers)]) as served:
        pipe.send(served.port)
        pipe.recv()


def _table(port: int, registers: int, interval_s: float) -> dict[str, Any]:
    points = {f"p{n}": {"register": f"holding:{n}", "type": "int16"} for n in range(registers)}
    return {"host": "127.0.0.1", "port": port, "unit": 1, "interval_s": interval_s, "points": points}


def _compare(port: int, registers: int, cycles: int) -> dict[str, Any]:
    device = MODBUS_TCP.device("bench", _table(port, registers, 1.0))
    bus = MODBUS_TCP.open([device], AnchoredClock())
    schedule = Schedule([device], 0.0)
    moment = iter(range(10 * cycles + 100))

    def ours() -> None:
        task = schedule.take(float(next(moment)))
        assert task is not None
        exchange = _read(bus, device, task.points)
        assert len(exchange.samples) == registers
        assert not exchange.errors

    client = ModbusTcpClient("127.0.0.1", port=port, retries=0)
    client.connect()

    def theirs() -> None:
        for address in range(0, registers, REGISTERS_PER_REQUEST_MAX):
            count = min(REGISTERS_PER_REQUEST_MAX, registers - address)
            assert len(client.read_holding_registers(address, count=count, device_id=1).registers) == count

    ours_us, theirs_us = _take_turns(ours, theirs, cycles)
    before = _requests(bus, device, schedule, next(moment))
    bus.close()
    client.close()
    return {
        "requests_per_cycle": before,
        "requests_optimal": -(-registers // REGISTERS_PER_REQUEST_MAX),
        "cpu_ratio": statistics.median(a / b for a, b in zip(ours_us, theirs_us, strict=True)),
        "poll_us_per_cycle": statistics.median(ours_us),
        "pymodbus_us_per_cycle": statistics.median(theirs_us),
    }


def _read(bus: Any, device: Any, points: tuple[int, ...]) -> Any:
    reader: PolledBus = bus
    return reader.read(device, points)


def _requests(bus: Any, device: Any, schedule: Schedule, now_s: int) -> int:
    """Requests of one cycle, counted on the link."""
    link = bus._link
    exchange, asked = link.exchange, []

    def counting(query: Any, timeout_s: float) -> Any:
        asked.append(query)
        return exchange(query, timeout_s)

    link.exchange = counting
    task = schedule.take(float(now_s))
    assert task is not None
    _read(bus, device, task.points)
    return len(asked)


def _take_turns(a: Callable[[], None], b: Callable[[], None], cycles: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for work in (a, b) * 5:
        work()
    for _ in range(cycles):
        for side, work in enumerate((a, b)):
            begin = time.thread_time_ns()
            work()
            times[side].append((time.thread_time_ns() - begin) / 1000)
    return times


def _agent_us_per_cycle(port: int, registers: int, seconds: float) -> float:
    """CPU of a whole agent process for a cycle, from /proc; NaN where there is none."""
    if not Path("/proc/self/stat").exists():
        return float("nan")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "agent.toml"
        lines = [
            f'[devices.bench]\ndriver = "modbus-tcp"\nhost = "127.0.0.1"\nport = {port}\ninterval_s = {INTERVAL_S}'
        ]
        lines.append("[devices.bench.points]")
        lines += [f'p{n} = {{ register = "holding:{n}", type = "int16" }}' for n in range(registers)]
        config.write_text("\n".join(lines))
        command = [sys.executable, "-m", "labrelay.cli", "agent", "run", "--config", str(config)]
        agent = subprocess.Popen([*command, "--data-dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(3.0)
            before, begin = _cpu_s(agent.pid), time.monotonic()
            time.sleep(seconds)
            return (_cpu_s(agent.pid) - before) / ((time.monotonic() - begin) / INTERVAL_S) * 1e6
        finally:
            agent.terminate()
            agent.wait(20)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
