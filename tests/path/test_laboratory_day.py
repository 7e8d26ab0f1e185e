"""A laboratory's day, told over HTTP, MQTT and server-sent events only; at its end, counted from outside."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.fixtures.receiver import Receiver, receiving
from tests.fixtures.servers import Mosquitto
from tests.path.laboratory import Follower, Laboratory, Subscriber, has_delivered, is_online, laboratory, soon

SECRET = "a secret of nobody else's"
STRETCH_S = 1.5
_COUNTED = """
    select r.raw from readings r join series x on x.id = r.series_id
    where x.sensor_id = $1::uuid and r.time >= $2 and r.time < $3 order by r.time
"""
_STORED = (
    "select r.raw from readings r join series x on x.id = r.series_id where x.sensor_id = $1::uuid order by r.time"
)


@pytest.fixture
def lab(tmp_path: Path, database_url: str, new_mosquitto: Callable[[], Mosquitto]) -> Iterator[Laboratory]:
    """A laboratory before its first day."""
    with laboratory(tmp_path, database_url, new_mosquitto) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who takes webhooks."""
    with receiving() as made:
        yield made


class Day:
    """What is set up in the morning, and what is done with it.

    Attributes:
        sessions: by what the day calls them.
    """

    def __init__(self, lab: Laboratory, receiver: Receiver) -> None:
        self.lab = lab
        self.ann = lab.register("ann", lab.admin)
        self.project = str(self.ann.post("/projects", {"name": "Kinetics"})["id"])
        self.eddy = lab.register("eddy", self.ann, project_id=self.project, role="editor")
        self.vic = lab.register("vic", self.ann, project_id=self.project, role="viewer")
        self.receiver = receiver
        self.ann.post(
            "/api/v1/webhooks",
            {
                "project_id": self.project,
                "target_url": receiver.url(),
                "event_types": ["run.started", "run.finished", "capture_session.created", "capture_session.stopped"],
                "secret": SECRET,
            },
        )
        self.tokens: dict[str, str] = {}
        self.count = self._sensor("counter.count", {"a": 2.0, "b": 0.0})
        self.scale = self._sensor("scale", {"a": 1.0, "b": -5.0})
        self.experiment = self.eddy.post("/api/v1/experiments", {"project_id": self.project, "name": "Arrhenius"})["id"]
        self.sessions: dict[str, dict[str, Any]] = {}

    def _sensor(self, name: str, payload: dict[str, float]) -> str:
        profile = {"version": "1", "kind": "linear", "payload": payload}
        body = {"project_id": self.project, "name": name, "type": "test", "conversion_profile": profile}
        made = self.eddy.post("/api/v1/sensors", body)
        self.tokens[made["sensor"]["id"]] = made["token"]
        return str(made["sensor"]["id"])

    def run(self, name: str, *sensors: str) -> str:
        """A run that records these sensors."""
        made = self.eddy.post(f"/api/v1/experiments/{self.experiment}/runs", {"name": name, "params": {"T": 300}})
        self.eddy.ask("PUT", f"/api/v1/runs/{made['id']}/sensors", {"sensor_ids": list(sensors)})
        return str(made["id"])

    def start(self, name: str, run: str, **body: Any) -> None:
        """A session begins."""
        self.sessions[name] = self.eddy.post(f"/api/v1/runs/{run}/capture-sessions", body)

    def step(self, name: str, what: str, body: Any = None) -> dict[str, Any]:
        """Something is done with a session."""
        self.sessions[name] = self.eddy.post(f"{self.path(name)}/{what}", body)
        return self.sessions[name]

    def path(self, name: str) -> str:
        """Where a session is."""
        session = self.sessions[name]
        return f"/api/v1/runs/{session['run_id']}/capture-sessions/{session['id']}"

    def weigh(self, values: dict[datetime, float], **more: Any) -> None:
        """The scale posts."""
        readings = [{"timestamp": at.isoformat(), "raw_value": raw} for at, raw in values.items()]
        answer = self.ann.http.post(
            "/api/v1/telemetry",
            json={"sensor_id": self.scale, "readings": readings, **more},
            headers={"Authorization": f"Bearer {self.tokens[self.scale]}"},
        )
        assert answer.status_code == 202, answer.text

    def values(self, name: str, **more: Any) -> list[float]:
        """Raw values that belong to a session."""
        return [point["raw_value"] for point in self.points(name, **more)]

    def points(self, name: str, **more: Any) -> list[dict[str, Any]]:
        """What belongs to a session, by its time, as a viewer reads it, page by page."""
        found: list[dict[str, Any]] = []
        since: dict[str, Any] = {}
        while since is not None:
            page = self.vic.get(
                "/api/v1/telemetry/query", capture_session_id=self.sessions[name]["id"], limit=20_000, **since, **more
            )
            found += page["points"]
            since = page["next_since_id"] and {"since_id": page["next_since_id"]}
        return sorted(found, key=lambda point: str(point["timestamp"]))

    def summed(self, name: str) -> int:
        """Readings of a session, by its aggregates."""
        answer = self.vic.get("/api/v1/telemetry/aggregated", capture_session_id=self.sessions[name]["id"])
        return sum(bucket["sample_count"] for bucket in answer["buckets"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_laboratorys_day(lab: Laboratory, receiver: Receiver, database_url: str) -> None:
    day = Day(lab, receiver)
    agent = lab.agent(day.ann, day.project)
    agent.start()
    credentials = day.vic.post("/auth/broker-credentials", {"name": "wall display"})
    dashboard = Subscriber.of(
        lab.stack.broker, credentials, f"labrelay/v1/projects/{day.project}/events", lab.folder / "events.jsonl"
    )
    with closing(dashboard), closing(Follower(day.vic, "/api/v1/events/stream", project_id=day.project)) as stream:
        soon(lambda: is_online(day.ann, day.project), "the agent at the hub")
        outage(day)
        weighing(day)
        calibration(day)
        overload(day, stream)
        afterwards(day)
        expected = {"run.started", "run.finished", "capture_session.created", "capture_session.stopped"}
        expected |= {"capture_session.backfill_started", "capture_session.backfill_completed"}
        expected |= {"conversion_profile.published", "conversion_profile.backfill_completed"}
        soon(lambda: expected <= stream.types(), "all events by stream")
        soon(lambda: expected <= dashboard.types(), "all events by MQTT")
    webhooks_are_whole(day)
    audit_is_complete(day)
    certificates_are_final(day, counted_from_outside(day, database_url))


def outage(day: Day) -> None:
    """A run whose agent is away when a session ends and another begins: each gets what was taken in its time."""
    lab, run = day.lab, day.run("by the instrument", day.count)
    day.start("before the outage", run)
    time.sleep(STRETCH_S)
    lab.line.cut()
    time.sleep(STRETCH_S)
    day.step("before the outage", "stop")
    day.start("within the outage", run)
    soon(lambda: not is_online(day.ann, day.project), "the agent to be missed")
    time.sleep(STRETCH_S)
    day.step("within the outage", "stop", {"status": "failed", "notes": "power cut next door"})
    lab.line.mend()
    soon(lambda: is_online(day.ann, day.project), "the agent back at the hub")
    day.start("after the outage", run)
    time.sleep(STRETCH_S)
    day.step("after the outage", "stop")
    lab.instrument.stop()
    soon(lambda: has_delivered(day.ann, day.project), "an empty spool")
    day.eddy.ask("PATCH", f"/api/v1/runs/{run}", {"status": "succeeded"})


def weighing(day: Day) -> None:
    """A run whose readings come by HTTP, some of them late: held back, until a backfill counts them."""
    run = day.run("by hand", day.scale)
    began = datetime.now(UTC) - timedelta(minutes=10)
    day.start("weighing", run, started_at=began.isoformat())
    day.weigh({began + timedelta(seconds=n): float(n) for n in range(60)})
    day.step("weighing", "stop", {"stopped_at": (began + timedelta(minutes=5)).isoformat()})
    day.weigh({began + timedelta(seconds=100 + n): 100.0 + n for n in range(20)})
    assert len(day.values("weighing")) == 60
    assert len(day.values("weighing", include_late="true")) == 80
    day.step("weighing", "backfill/start")
    day.weigh({began + timedelta(seconds=200): 200.0})
    assert day.step("weighing", "backfill/complete")["attached_records"] == 20
    note = {"timestamp": began.isoformat(), "text": "new crucible", "kind": "note"}
    day.eddy.post(f"/api/v1/runs/{run}/annotations", note)
    day.eddy.ask("PATCH", f"/api/v1/runs/{run}", {"status": "succeeded"})


def calibration(day: Day) -> None:
    """A better profile for the scale, scheduled, in force a moment later, and applied to the weighing too."""
    path = f"/api/v1/sensors/{day.scale}/conversion-profiles"
    before = [point["physical_value"] for point in day.points("weighing")]
    draft = day.eddy.post(path, {"version": "2", "kind": "linear", "payload": {"a": 1.5, "b": -4.0}})
    due = datetime.now(UTC) + timedelta(seconds=1)
    scheduled = day.ann.post(f"{path}/{draft['id']}/publish", {"valid_from": due.isoformat()})
    assert scheduled["status"] == "scheduled"
    soon(
        lambda: day.vic.get(f"/api/v1/sensors/{day.scale}")["active_profile_id"] == draft["id"], "the profile in force"
    )
    assert [point["physical_value"] for point in day.points("weighing")] == before
    scope = {"scope": "capture_sessions", "capture_session_ids": [day.sessions["weighing"]["id"]]}
    task = day.eddy.post(f"{path}/{draft['id']}/backfill", scope)["backfill_task_id"]
    soon(lambda: day.vic.get(f"/api/v1/backfill-tasks/{task}")["status"] == "succeeded", "the recalculation")
    for point in day.points("weighing"):
        assert point["physical_value"] == 1.5 * point["raw_value"] - 4.0
        assert point["conversion_profile_id"] == draft["id"]


def overload(day: Day, stream: Follower) -> None:
    """Too much lies on the scale for a moment; whoever listens is told, of the end too."""
    limit = {"signal": "value", "high": 400.0, "hysteresis": 50.0}
    day.eddy.ask("PUT", f"/api/v1/sensors/{day.scale}/limits", {"limits": [limit]})
    day.weigh({datetime.now(UTC): 500.0})
    soon(lambda: "sensor.limit_exceeded" in stream.types(), "the overload to be told")
    day.weigh({datetime.now(UTC): 10.0})
    soon(lambda: "sensor.limit_cleared" in stream.types(), "the end of the overload to be told")


def afterwards(day: Day) -> None:
    """A third run, recorded after the fact from what the scale had sent anyway."""
    run = day.run("after the fact", day.scale)
    began = datetime.now(UTC) - timedelta(hours=2)
    day.weigh({began + timedelta(seconds=n): float(n) for n in range(10)})
    times = {"started_at": began.isoformat(), "stopped_at": (began + timedelta(seconds=5)).isoformat()}
    day.start("after the fact", run, **times)
    day.eddy.ask("PATCH", f"/api/v1/runs/{run}", {"status": "failed"})
    found = day.vic.get(f"/api/v1/experiments/{day.experiment}/runs")["runs"]
    assert sorted(one["status"] for one in found) == ["failed", "succeeded", "succeeded"]


def webhooks_are_whole(day: Day) -> None:
    """Each event that was subscribed to was delivered, signed, and is the one of the audit."""
    wanted = {"run.started": 3, "run.finished": 3, "capture_session.created": 5, "capture_session.stopped": 4}

    def delivered() -> dict[str, int]:
        once = {one.headers["x-webhook-event-id"]: one.json["event_type"] for one in requests()}
        return dict(Counter(once.values()))

    def requests() -> list[Any]:
        return list(day.receiver.requests)

    soon(lambda: delivered() == wanted, f"all webhooks ({delivered()})")
    assert all(one.is_signed(SECRET) for one in requests())
    assert all(one.json["project_id"] == day.project for one in requests())


def audit_is_complete(day: Day) -> None:
    """What people did stands there with their name, what the agent and the hub did with theirs."""
    events = day.ann.get("/api/v1/events", project_id=day.project, limit=100)
    told = list(events["events"])
    while len(told) < events["total"]:
        told += day.ann.get("/api/v1/events", project_id=day.project, limit=100, offset=len(told))["events"]
    by_eddy = [one["event_type"] for one in told if one["actor_id"] == day.eddy.id]
    assert by_eddy.count("run.created") == 3
    assert by_eddy.count("capture_session.created") == 5
    assert by_eddy.count("sensor.registered") == 2
    assert {one["actor_role"] for one in told if one["actor_id"] == day.eddy.id} == {"editor"}
    for kind in ("project.created", "webhook.created", "agent.enrolled", "experiment.created", "annotation.created"):
        assert kind in {one["event_type"] for one in told}, kind
    assert [one["id"] for one in told] == sorted((one["id"] for one in told), reverse=True)


def counted_from_outside(day: Day, database_url: str) -> dict[str, int]:
    """The instrument's numbers are all there, once, and each session has those that were taken in its time.

    Returns: how many readings each session has.
    """
    counts = {}
    stored = asyncio.run(_select(database_url, _STORED, day.count))
    assert stored == [float(number) for number in range(len(stored))]
    assert len(stored) >= day.lab.numbers.row
    for name in ("before the outage", "within the outage", "after the outage", "weighing", "after the fact"):
        session = day.sessions[name]
        sensor = day.count if "outage" in name else day.scale
        span = [datetime.fromisoformat(session[which]) for which in ("started_at", "stopped_at")]
        inside = asyncio.run(_select(database_url, _COUNTED, sensor, *span))
        assert inside, name
        assert day.values(name) == inside, name
        assert day.summed(name) == len(inside), name
        counts[name] = len(inside)
    return counts


def certificates_are_final(day: Day, counts: dict[str, int]) -> None:
    """Nothing of any session is unexplained, and its certificate counts what was counted outside."""
    for name, count in counts.items():
        totals = final_certificate(day, name)["totals"]
        assert (totals["unexplained_readings"], totals["unexplained_batches"], totals["missing"]) == (0, 0, 0), name
        assert totals["agents"]["stored"] + totals["posts"]["stored"] == count, name
        assert (totals["agents"]["held"], totals["posts"]["held"]) == (0, 0), name
        way = "agents" if "outage" in name else "posts"
        assert totals[way]["taken"] == count, name


def final_certificate(day: Day, name: str) -> dict[str, Any]:
    """A session's, once it waits for nobody."""

    def certificate() -> dict[str, Any] | None:
        found: dict[str, Any] = day.vic.get(f"{day.path(name)}/certificate")["certificate"]
        return found if found["state"] == "final" else None

    found: dict[str, Any] = soon(certificate, f"a final certificate of {name}")
    return found


async def _select(database_url: str, statement: str, *arguments: Any) -> list[float]:
    connection = await asyncpg.connect(database_url, timeout=20)
    try:
        return [row["raw"] for row in await connection.fetch(statement, *arguments, timeout=60)]
    finally:
        await connection.close(timeout=20)
