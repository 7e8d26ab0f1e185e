"""Other people's programs at our borders: curl, mosquitto_sub, and a script of three lines that pushes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labrelay.up import ports
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.stack import Stack, wait_for

PUSH_SCRIPT = """
import json, socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10).makefile("rw")
for value in range(int(sys.argv[2])):
    print(json.dumps({"point": "level", "value": value}), file=line, flush=True)
    print(line.readline().strip())
"""


def run(command: list[str], *, timeout_s: float = 30.0, check: bool = True) -> str:
    """What a program prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        skip_or_fail(f"{command[0]} is not installed", "apt-get install curl mosquitto-clients")
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def curl(*arguments: str, check: bool = True) -> tuple[int, Any]:
    """Status and JSON of an HTTP call by curl."""
    printed = run(["curl", "-sS", "-w", "\n%{http_code}", *arguments], check=check)
    body, _, status = printed.rpartition("\n")
    return int(status), json.loads(body) if body else None


def send(stack: Stack, token: str, body: dict[str, Any]) -> tuple[int, Any]:
    """POST /api/v1/telemetry as a sensor."""
    return curl(
        *("-X", "POST", f"{stack.url}/api/v1/telemetry"),
        *("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"),
        *("-d", json.dumps(body)),
    )


def readings(*values: float, start: datetime | None = None) -> list[dict[str, Any]]:
    first = start or datetime.now(UTC) - timedelta(minutes=1)
    return [
        {"timestamp": (first + timedelta(milliseconds=10 * n)).isoformat(), "raw_value": value}
        for n, value in enumerate(values)
    ]


def test_a_rest_client_sends_and_reads(stack: Stack) -> None:
    made = stack.sensor("oven", "linear", {"a": 2.0, "b": 1.0})
    sensor_id, token = made["sensor"]["id"], made["token"]
    body = {"sensor_id": sensor_id, "meta": {"operator": "ada"}, "readings": readings(1.0, 2.0, 3.0)}
    body["readings"][1] |= {"physical_value": 40.0, "meta": {"operator": "bob"}}
    assert send(stack, token, body) == (202, {"status": "accepted", "accepted": 3})
    assert send(stack, token, body) == (202, {"status": "accepted", "accepted": 0})
    points = stack.points(sensor_id=sensor_id)
    assert [point["raw_value"] for point in points] == [1.0, 2.0, 3.0]
    assert [point["physical_value"] for point in points] == [3.0, 40.0, 7.0]
    assert [point["conversion_status"] for point in points] == ["converted", "client_provided", "converted"]
    assert [point["meta"]["operator"] for point in points] == ["ada", "bob", "ada"]
    (bucket,) = stack.get("/api/v1/telemetry/aggregated", sensor_id=sensor_id, bucket_interval="1d")["buckets"]
    assert (bucket["sample_count"], bucket["min_raw"], bucket["max_raw"], bucket["avg_raw"]) == (3, 1.0, 3.0, 2.0)


def test_a_rest_client_is_told_what_is_wrong(stack: Stack) -> None:
    made = stack.sensor("oven")
    sensor_id, token = made["sensor"]["id"], made["token"]
    status, problem = send(stack, "not-a-token", {"sensor_id": sensor_id, "readings": readings(1.0)})
    assert status == 401
    assert problem["error"] == problem["detail"]
    assert problem["request_id"]
    assert send(stack, token, {"sensor_id": sensor_id, "readings": []})[0] == 422
    assert send(stack, token, {"sensor_id": sensor_id, "readings": readings(1.0), "reading": 1})[0] == 422
    other = stack.sensor("other")["sensor"]["id"]
    assert send(stack, token, {"sensor_id": other, "readings": readings(1.0)})[0] in (403, 404)
    status, _ = curl(
        *("-X", "POST", f"{stack.url}/api/v1/telemetry", "-H", f"Authorization: Bearer {token}"),
        *("-H", "Content-Type: application/json", "-d", "{not json"),
    )
    assert status == 400


def test_a_batch_of_ten_thousand_fits(stack: Stack, tmp_path: Any) -> None:
    made = stack.sensor("fast")
    body = {"sensor_id": made["sensor"]["id"], "readings": readings(*(float(n) for n in range(10_000)))}
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))
    status, answer = curl(
        *("-X", "POST", f"{stack.url}/api/v1/telemetry", "-H", f"Authorization: Bearer {made['token']}"),
        *("-H", "Content-Type: application/json", "--data-binary", f"@{file}"),
    )
    assert (status, answer) == (202, {"status": "accepted", "accepted": 10_000})


def events(printed: str) -> list[tuple[int | None, str, dict[str, Any]]]:
    """(id, event, data) of a server-sent event stream."""
    found = []
    for block in re.split(r"\r?\n\r?\n", printed):
        fields = dict(
            line.split(": ", 1) if ": " in line else (line, "")
            for line in block.splitlines()
            if line and not line.startswith(":")
        )
        if "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append((number, fields.get("event", "message"), json.loads(fields["data"])))
    return found


def stream(stack: Stack, token: str, *arguments: str, query: str = "") -> list[tuple[int | None, str, dict[str, Any]]]:
    address = f"{stack.url}/api/v1/telemetry/stream?{query}"
    return events(run(["curl", "-sSN", "-H", f"Authorization: Bearer {token}", *arguments, address]))


def test_an_sse_client_resumes_where_it_stopped(stack: Stack) -> None:
    made = stack.sensor("oven")
    sensor_id, token = made["sensor"]["id"], made["token"]
    send(stack, token, {"sensor_id": sensor_id, "readings": readings(1.0, 2.0, 3.0, 4.0, 5.0)})
    first = stream(stack, token, query=f"sensor_id={sensor_id}&since_id=0&max_events=2")
    assert [(kind, data["raw_value"]) for _, kind, data in first] == [("telemetry", 1.0), ("telemetry", 2.0)]
    last = first[-1][0]
    again = stream(stack, token, "-H", f"Last-Event-ID: {last}", query=f"sensor_id={sensor_id}&max_events=3")
    assert [data["raw_value"] for _, _, data in again] == [3.0, 4.0, 5.0]
    ids = [number for number, _, _ in first + again]
    assert ids == sorted(set(ids))
    nothing = stream(
        stack, token, "-H", f"Last-Event-ID: {ids[-1]}", query=f"sensor_id={sensor_id}&idle_timeout_seconds=1"
    )
    assert nothing == []


def test_an_sse_client_sees_what_comes_while_it_listens(stack: Stack) -> None:
    made = stack.sensor("oven")
    sensor_id, token = made["sensor"]["id"], made["token"]
    address = f"{stack.url}/api/v1/telemetry/stream?sensor_id={sensor_id}&max_events=3&access_token={token}"
    with subprocess.Popen(["curl", "-sSNi", address], stdout=subprocess.PIPE, text=True) as listener:
        time.sleep(1.0)
        late = datetime.now(UTC) - timedelta(hours=1)
        send(stack, token, {"sensor_id": sensor_id, "readings": readings(1.0, 2.0)})
        send(stack, token, {"sensor_id": sensor_id, "readings": readings(0.5, start=late)})
        printed, _ = listener.communicate(timeout=20)
    head, _, body = printed.partition("\n\n")
    assert "x-accel-buffering: no" in head.lower()
    assert "cache-control: no-cache" in head.lower()
    assert [data["raw_value"] for _, _, data in events(body)] == [1.0, 2.0, 0.5]


def push_config(port: int) -> str:
    return f'[devices.script]\ndriver = "push"\ntcp_port = {port}\n'


def push(port: int, count: int) -> list[str]:
    return run([sys.executable, "-c", PUSH_SCRIPT, str(port), str(count)], timeout_s=60).splitlines()


def test_a_script_pushes_and_mosquitto_sub_sees_it_live(stack: Stack) -> None:
    port = ports.free_port()
    agent = stack.new_agent("pushing", push_config(port))
    stack.enrol(agent, "pushing")
    agent.start()
    wait_for(lambda: stack.health()["agents_online"] == 1, what="the agent at the hub")
    wait_for(lambda: ports.accepts("127.0.0.1", port), what="the push listener")
    assert [json.loads(answer) for answer in push(port, 5)] == [{"ok": True}] * 5

    def sensor() -> str | None:
        found = {s["name"]: s["id"] for s in stack.get("/api/v1/sensors", project_id=stack.project_id)["sensors"]}
        return found.get("script.level")

    sensor_id = wait_for(sensor, what="the sensor script.level")
    wait_for(lambda: len(stack.points(sensor_id=sensor_id)) == 5, what="five stored readings")
    assert [point["raw_value"] for point in stack.points(sensor_id=sensor_id)] == [0.0, 1.0, 2.0, 3.0, 4.0]

    topic = f"labrelay/v1/projects/{stack.project_id}/live/{sensor_id}/value"
    broker = stack.broker
    command = ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-u", broker.username]
    command += ["-P", broker.password, "-t", topic, "-W", "20"]
    retained = json.loads(run([*command, "-C", "1"]))
    assert set(retained) == {"t", "sensor", "signal", "raw", "physical", "unit", "status"}
    with subprocess.Popen([*command, "-R", "-C", "1"], stdout=subprocess.PIPE, text=True) as subscriber:
        time.sleep(1.0)
        push(port, 1)
        printed, _ = subscriber.communicate(timeout=30)
    value = json.loads(printed)
    assert (value["sensor"], value["signal"], value["raw"]) == (sensor_id, "value", 0.0)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(value["t"])).total_seconds()) < 30
    assert agent.stop() == 0


@pytest.mark.slow
def test_what_was_answered_survives_kill_9(stack: Stack) -> None:
    port = ports.free_port()
    agent = stack.new_agent("pushing", push_config(port))
    stack.enrol(agent, "pushing")
    stack.broker.stop()
    agent.start()
    wait_for(lambda: ports.accepts("127.0.0.1", port), what="the push listener")
    answered = push(port, 50)
    agent.kill()
    assert [json.loads(answer) for answer in answered] == [{"ok": True}] * 50
    stack.broker.start()
    agent.start()

    def stored() -> list[float]:
        found = {s["name"]: s["id"] for s in stack.get("/api/v1/sensors", project_id=stack.project_id)["sensors"]}
        if "script.level" not in found:
            return []
        return [point["raw_value"] for point in stack.points(sensor_id=found["script.level"])]

    wait_for(lambda: len(stored()) >= 50, what="fifty stored readings")
    assert stored() == [float(n) for n in range(50)]
