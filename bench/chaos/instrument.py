"""An instrument that counts: each poll gets the next number, and no number is given twice.

Run as a process of its own: ``python -m bench.chaos.instrument PORT``. Holding registers 0, 2, 4, … are `POINTS` points
(uint32) that all hold the number of the poll; input register 0 tells how far it has counted and counts nothing.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading

from drivers.simulators.modbus import ModbusSimulator, SimulatedRegister

POINTS = 60
"""All of them fit one request, so that a poll is a number."""
_TIMEOUT_S = 5.0


class _Counter:
    def __init__(self) -> None:
        self.value = 0

    def advance(self, _: float) -> float:
        """The first point of a poll."""
        self.value += 1
        return self.value

    def standing(self, _: float) -> float:
        """Every other point."""
        return self.value


def main() -> None:
    """Serve until told to stop."""
    counter = _Counter()
    points = [SimulatedRegister("holding", 0, "uint32", counter.advance)]
    points += [SimulatedRegister("holding", 2 * n, "uint32", counter.standing) for n in range(1, POINTS)]
    points.append(SimulatedRegister("input", 0, "uint32", counter.standing))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with ModbusSimulator(points, port=int(sys.argv[1])):
        stopped.wait()


def standing(port: int) -> int:
    """How far the instrument on this port has counted; asked in plain Modbus TCP, without any of the product's code."""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as line:
        line.settimeout(_TIMEOUT_S)
        line.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, 2))
        answer = b""
        while len(answer) < 13:
            some = line.recv(64)
            if not some:
                raise ConnectionResetError("the instrument has gone")
            answer += some
    return int(struct.unpack(">I", answer[9:13])[0])


if __name__ == "__main__":
    main()
