"""The front panels of the benchmark's instruments: orders go out, reports come back."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench._rig.instrument import BLOCK, values_of
from shared.readings import Float64, Int64

CONNECT_TIMEOUT_S = 30.0
REPORT_TIMEOUT_S = 120.0


class Panel:
    """One device's. Listens from the start; `connected` waits for its instrument.

    Args:
        folder: where its account is kept.
        signals: how many series the device has.
        sensor: one for all signals; empty for one each.
        walk: float64 random walks instead of 16-bit integers.
        flush_s: the agent's `flush_interval_s`; None for its default.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        signals: int,
        *,
        sensor: str = "",
        walk: bool = False,
        flush_s: float | None = None,
    ) -> None:
        self.name = name
        self.signals = signals
        self.sensor = sensor
        self.walk = walk
        self.flush_s = flush_s
        self._account = folder / f"{name}.account"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(CONNECT_TIMEOUT_S)
        self._line: socket.socket | None = None
        self._blocks = 0

    def table(self) -> str:
        """The device in the agent's configuration."""
        lines = [f"[devices.{self.name}]", 'driver = "bench"', f"panel_port = {self._listener.getsockname()[1]}"]
        lines += [f"signals = {self.signals}", f'account = "{self._account}"', f'sensor = "{self.sensor}"']
        lines.append(f"walk = {str(self.walk).lower()}")
        if self.flush_s is not None:
            lines.append(f"flush_interval_s = {self.flush_s}")
        return "\n".join(lines)

    @property
    def sensors(self) -> list[str]:
        """The names of its sensors at the hub."""
        return [self.sensor] if self.sensor else [f"{self.name}.p{n}" for n in range(self.signals)]

    def connected(self) -> None:
        """Returns when the instrument is there."""
        self._line, _ = self._listener.accept()
        self._line.settimeout(REPORT_TIMEOUT_S)
        self._line.makefile("r").readline()

    def order(self, blocks: int, count: int, *, step_us: int = 1, interval_s: float = 0.0) -> None:
        """Have so many blocks more delivered, of `count` readings a series, at once or every `interval_s`."""
        self._blocks += blocks
        self._send({"until": self._blocks, "count": count, "step_us": step_us, "interval_s": interval_s})

    def report(self) -> dict[str, Any]:
        """What it delivered: `blocks`, `readings`, and the `cpu_s` that it took for itself. All is on the disk then."""
        assert self._line is not None
        self._send({})
        with self._line.makefile("r") as answers:
            return dict(json.loads(answers.readline()))

    def account(self) -> NDArray[np.void]:
        """The instrument's own account, `BLOCK` (n,)."""
        return np.fromfile(self._account, BLOCK)

    def values_of(self, numbers: Int64, signal: int) -> Float64:
        """The raw values of readings by number, of one of its series."""
        return values_of(numbers, signal, walk=self.walk)

    def close(self) -> None:
        """Unplug it."""
        if self._line is not None:
            self._line.close()
        self._listener.close()

    def _send(self, order: dict[str, Any]) -> None:
        assert self._line is not None
        self._line.sendall(json.dumps(order).encode() + b"\n")
