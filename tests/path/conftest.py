"""What tests of the whole path share beside the stack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from drivers.simulators.modbus import ModbusSimulator, Replay
from tests.fixtures.stack import Agent, Stack


@pytest.fixture
def agent(stack: Stack) -> Iterator[Agent]:
    """An enrolled agent with an instrument that serves each number once."""
    simulator = ModbusSimulator(replays=[Replay(np.arange(20_000, dtype=np.float64).reshape(-1, 1))])
    simulator.start()
    made = stack.new_agent(
        "bench",
        f"""
[devices.counter]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {simulator.port}
unit = 1
interval_s = 0.1
timeout_s = 10.0
[devices.counter.points]
double = {{ register = "holding:0", type = "float64" }}
count = {{ register = "holding:4", type = "float64" }}
""",
    )
    stack.enrol(made, "bench")
    yield made
    made.kill()
    simulator.stop()
