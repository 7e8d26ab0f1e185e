"""Recordings of a real test bench take the whole way: Modbus → agent → spool → MQTT → hub → database → HTTP."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import pytest

from drivers.simulators.modbus import ModbusSimulator, Replay
from labrelay.up import ports
from shared import wire
from shared.columns import DecodedColumns
from shared.readings import Status, status_of
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.servers import Mosquitto
from tests.fixtures.stack import Stack, wait_for
from tests.path.recordings import COLUMNS, Recording, profile_of, read_recordings, recordings_folder, reference

POLL_INTERVAL_S = 0.02


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """The four files."""
    folder = recordings_folder()
    if folder is None:
        skip_or_fail("the recordings are not here", "LABRELAY_TEST_RECORDINGS=<folder with valve1-*.csv>")
    found = read_recordings(folder)
    assert len(found) == 4
    return found


class Bystander:
    """Listens to what agents publish, so that the test sees who converted."""

    def __init__(self, broker: Mosquitto) -> None:
        self._lock = threading.Lock()
        self.converted = 0
        self.unconverted = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.username, broker.password)
        self._client.on_message = self._read
        self._client.connect(broker.host, broker.port)
        self._client.subscribe("labrelay/v1/agents/+/up/data", qos=1)
        self._client.loop_start()

    def _read(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        for part in wire.split(message.payload):
            content = wire.decode(part).content
            if isinstance(content, DecodedColumns):
                counts = Counter(status_of(status) for status in content.columns.status.tolist())
                with self._lock:
                    self.converted += counts[Status.CONVERTED]
                    self.unconverted += counts.total() - counts[Status.CONVERTED]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def bystander(stack: Stack) -> Iterator[Bystander]:
    """A listener at the broker."""
    listener = Bystander(stack.broker)
    yield listener
    listener.close()


def device_toml(name: str, address: str) -> str:
    points = "\n".join(
        f'{point} = {{ register = "holding:{4 * column}", type = "float64" }}'
        for column, point in enumerate([*COLUMNS, "row"])
    )
    return f"""
[devices.{name}]
{address}
unit = 1
interval_s = {POLL_INTERVAL_S}
timeout_s = 2.0
[devices.{name}.points]
{points}
"""


def replay(recording: Recording) -> Replay:
    """All rows once: the columns from holding register 0, the row's index behind them."""
    return Replay(np.array(recording.rows))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_row_is_stored_once_with_its_bits(
    stack: Stack, bystander: Bystander, recordings: list[Recording], tmp_path: Path
) -> None:
    replayed = {recording.name: recording for recording in recordings} | {"rtu_bench": recordings[0]}
    link = tmp_path / "rtu"
    configuration, simulators = "", []
    for recording in recordings:
        simulators.append(ModbusSimulator(replays=[replay(recording)], port=ports.free_port()))
        address = f'driver = "modbus-tcp"\nhost = "127.0.0.1"\nport = {simulators[-1].port}'
        configuration += device_toml(recording.name, address)
    simulators.append(ModbusSimulator(replays=[replay(recordings[0])], transport="rtu", link=link))
    configuration += device_toml("rtu_bench", f'driver = "modbus-rtu"\nport = "{link}"\nbaudrate = 115200')
    with ExitStack() as running:
        agent = stack.new_agent("bench", configuration)
        stack.enrol(agent, "bench")
        profiles = _create_sensors(stack, list(replayed))
        agent.start()
        _wait_for_configuration(stack, len(profiles))
        for simulator in simulators:
            running.enter_context(simulator)
        total = sum(len(recording.rows) for recording in replayed.values()) * (len(COLUMNS) + 1)
        wait_for(lambda: _stored(stack) >= total, timeout_s=120, what=f"{total} stored readings", interval_s=1.0)
        wait_for(lambda: _backlog(stack) == 0, what="an empty spool")
        assert agent.stop() == 0

    for name, recording in replayed.items():
        _check_device(stack, name, recording, profiles)
    assert bystander.unconverted == sum(len(recording.rows) for recording in replayed.values())  # the row indices
    assert bystander.converted == total - bystander.unconverted


def _create_sensors(stack: Stack, devices: list[str]) -> dict[str, tuple[str, str | None]]:
    """Sensors by name: (sensor id, id of the published profile); the row index has none."""
    made: dict[str, tuple[str, str | None]] = {}
    for device in devices:
        for point in COLUMNS:
            created = stack.sensor(f"{device}.{point}", *profile_of(point))
            made[f"{device}.{point}"] = (created["sensor"]["id"], created["profile"]["id"])
        made[f"{device}.row"] = (stack.sensor(f"{device}.row")["sensor"]["id"], None)
    return made


def _wait_for_configuration(stack: Stack, bindings: int) -> None:
    """Until the agent works with a configuration that knows all its sensors."""

    def current() -> bool:
        (agent,) = stack.get("/api/v1/agents", project_id=stack.project_id)["agents"]
        in_force = agent["config_generation_in_force"] == agent["config_generation"]
        return bool(agent["sensors"] >= bindings and in_force)

    wait_for(current, what="the agent's configuration")


def _stored(stack: Stack) -> int:
    count: int = stack.health()["ingest"]["stored"]
    return count


def _backlog(stack: Stack) -> int:
    agent = stack.get("/api/v1/agents", project_id=stack.project_id)["agents"][0]
    pending: int = agent["backlog_readings"]
    return pending


def _check_device(stack: Stack, name: str, recording: Recording, profiles: dict[str, tuple[str, str | None]]) -> None:
    rows = _points(stack, profiles[f"{name}.row"][0])
    assert [point["raw_value"] for point in rows] == [float(index) for index in range(len(recording.rows))]
    assert {point["conversion_status"] for point in rows} == {"raw_only"}
    assert {point["physical_value"] for point in rows} == {None}
    times = [point["timestamp"] for point in rows]
    for column, point in enumerate(COLUMNS):
        sensor_id, profile_id = profiles[f"{name}.{point}"]
        stored = _points(stack, sensor_id)
        expected = [row[column] for row in recording.rows]
        physical = reference(point)
        assert [reading["raw_value"] for reading in stored] == expected, f"{name}.{point}"
        assert [reading["physical_value"] for reading in stored] == [physical(raw) for raw in expected]
        assert {reading["conversion_status"] for reading in stored} == {"converted"}
        assert {reading["conversion_profile_id"] for reading in stored} == {profile_id}
        assert [reading["timestamp"] for reading in stored] == times


def _points(stack: Stack, sensor_id: str) -> list[dict[str, Any]]:
    """A sensor's readings in the order of their own time."""
    points = stack.points(sensor_id=sensor_id, project_id=stack.project_id, limit=500)
    return sorted(points, key=lambda point: str(point["timestamp"]))
