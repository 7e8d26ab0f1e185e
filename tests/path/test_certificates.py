"""Certificates of sessions in which something goes wrong: final, nothing unexplained, and equal to what was counted
by the instruments, in the database and in the agents' spools, all of them read without the product."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
import pytest

from drivers.simulators.modbus import ModbusSimulator, Replay
from shared.records import Gap
from tests.agent.spool.contents import contents, numbers
from tests.fixtures.stack import Agent, Stack, wait_for

ROWS = 100_000
NOISE = 8
"""Columns that do not compress, beside the one that counts: all are signals of one sensor."""
SIGNALS = NOISE + 1
QUOTA = f"[spool]\nquota_bytes = {256 * 1024}\nretain_acked_share = 0.9\npolicy = "
SHORT_QUEUE = "\n[agent]\nqueue_readings = 1000"
_STORED = """
select x.signal, r.raw from readings r join series x on x.id = r.series_id join sensors s on s.id = x.sensor_id
where s.name = $1 order by x.signal, r.time
"""
_BLOCKED = """
select g.readings from gaps g join epochs e on e.id = g.epoch_id join agents a on a.id = e.agent_id
where a.name = $1 and g.cause = 'blocked'
"""


@dataclass
class Rig:
    """An instrument that serves each row once, the agent that reads it, and a session of its sensor.

    Attributes:
        name: of agent, device and sensor.
        rows: what the instrument serves.
    """

    stack: Stack
    name: str
    rows: Replay
    instrument: ModbusSimulator
    agent: Agent
    session: dict[str, Any]

    @property
    def path(self) -> str:
        """Where the session is."""
        return f"/api/v1/runs/{self.session['run_id']}/capture-sessions/{self.session['id']}"

    def is_done(self) -> bool:
        """Whether the agent is at the hub and holds nothing back, its instrument being silent."""
        found = self.stack.get("/api/v1/agents", project_id=self.stack.project_id)["agents"]
        (seen,) = [one for one in found if one["name"] == self.name]
        quiet = seen["devices"] and seen["devices"][0]["status"] != "ok"
        return bool(seen["online"] and seen["backlog_batches"] == 0 and quiet)

    def end(self) -> None:
        """The instrument goes, all that was taken comes, and the session is stopped."""
        self.instrument.stop()
        wait_for(self.is_done, timeout_s=90, what=f"all that {self.name} has at the hub")
        self.stack.post(f"{self.path}/stop")

    def certified(self) -> dict[str, Any]:
        """The final certificate of a session that has ended."""

        def final() -> dict[str, Any] | None:
            found: dict[str, Any] = self.stack.get(f"{self.path}/certificate")["certificate"]
            return found if found["state"] == "final" else None

        found: dict[str, Any] = wait_for(final, timeout_s=90, what=f"a final certificate of {self.name}")
        totals = found["totals"]
        assert (totals["unexplained_readings"], totals["unexplained_batches"], found["waits"]) == (0, 0, [])
        assert (totals["posts"]["taken"], totals["agents"]["held"], totals["agents"]["set_aside"]) == (0, 0, {})
        return found

    def stored(self) -> dict[str, list[float]]:
        """Raw values by signal, from the tables."""
        found: dict[str, list[float]] = {}
        for signal, raw in asyncio.run(_select(self.stack.database_url, _STORED, self.name)):
            found.setdefault(signal, []).append(raw)
        return found

    def lost(self, cause: str) -> list[Gap]:
        """Gap records in the spool."""
        found = (one.batch.content for one in contents(self.agent.data_dir))
        return [gap for gap in found if isinstance(gap, Gap) and gap.cause == cause]

    def is_blocked(self) -> bool:
        """Whether the agent says that its spool takes nothing."""
        return bool(json.loads((self.agent.data_dir / "status.json").read_bytes()).get("blocked"))


async def _select(database_url: str, statement: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(database_url, timeout=20)
    try:
        return list(await connection.fetch(statement, *arguments, timeout=60))
    finally:
        await connection.close(timeout=20)


class Bench:
    """Makes rigs of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        body = {"project_id": stack.project_id, "name": "endurance"}
        self._experiment = stack.post("/api/v1/experiments", body)["id"]
        self.rigs: list[Rig] = []

    def rig(self, name: str, *, interval_s: float = 0.02, flush_s: float = 0.05, more: str = "") -> Rig:
        """A rig whose session runs already; its agent does not."""
        rows = Replay(np.random.default_rng(len(self.rigs)).random((ROWS, NOISE)))
        instrument = ModbusSimulator(replays=[rows])
        instrument.start()
        agent = self._stack.new_agent(name, _configuration(name, instrument.port, interval_s, flush_s, more))
        self._stack.enrol(agent, name)
        sensor = self._stack.sensor(name)["sensor"]["id"]
        run = self._stack.post(f"/api/v1/experiments/{self._experiment}/runs", {"name": name})["id"]
        answer = self._stack.http.put(f"/api/v1/runs/{run}/sensors", json={"sensor_ids": [sensor]})
        assert answer.is_success, answer.text
        session = self._stack.post(f"/api/v1/runs/{run}/capture-sessions", {})
        made = Rig(self._stack, name, rows, instrument, agent, session)
        self.rigs.append(made)
        return made


def _configuration(name: str, port: int, interval_s: float, flush_s: float, more: str) -> str:
    columns = {f"noise_{column}": 4 * column for column in range(NOISE)} | {"count": 4 * NOISE}
    points = (
        f'{signal} = {{ register = "holding:{at}", type = "float64", sensor = "{name}", signal = "{signal}" }}'
        for signal, at in columns.items()
    )
    return "\n".join(
        [
            more,
            f'[devices.{name}]\ndriver = "modbus-tcp"\nhost = "127.0.0.1"\nport = {port}\nunit = 1\ntimeout_s = 10.0',
            f"interval_s = {interval_s}\nflush_interval_s = {flush_s}",
            f"[devices.{name}.points]",
            *points,
        ]
    )


@pytest.fixture
def bench(stack: Stack) -> Iterator[Bench]:
    """Rigs beside the stack; what is left of them ends with it."""
    made = Bench(stack)
    yield made
    for rig in made.rigs:
        rig.agent.kill()
        rig.instrument.stop()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_agent_that_reaches_its_quota_accounts_for_every_reading_under_each_policy(
    stack: Stack, bench: Bench
) -> None:
    settings = {policy: f'{QUOTA}"{policy}"' for policy in ("oldest", "thin", "block")}
    settings["block"] += SHORT_QUEUE
    rigs = {name: bench.rig(name, interval_s=0.005, flush_s=0.001, more=more) for name, more in settings.items()}
    for rig in rigs.values():
        rig.agent.start()
    wait_for(lambda: all(rig.stored().get("count") for rig in rigs.values()), timeout_s=90, what="readings of all")
    stack.broker.stop()
    wait_for(lambda: rigs["oldest"].lost("quota_oldest"), timeout_s=120, what="losses of the oldest")
    rigs["oldest"].instrument.stop()
    wait_for(lambda: rigs["thin"].lost("quota_thin"), timeout_s=120, what="losses by thinning")
    rigs["thin"].instrument.stop()
    wait_for(rigs["block"].is_blocked, timeout_s=120, what="an agent that waits")
    served = rigs["block"].rows.row
    stack.broker.start()
    wait_for(lambda: rigs["block"].rows.row > served + 20, timeout_s=60, what="an agent that reads again")
    for rig in rigs.values():
        rig.end()
    its_readings_are_stored_or_counted_as_lost(rigs["oldest"], {"quota_oldest"})
    its_readings_are_stored_or_counted_as_lost(rigs["thin"], {"quota_thin"}, {"quota_oldest"})
    nothing_is_lost_but_what_was_not_read(rigs["block"])


def its_readings_are_stored_or_counted_as_lost(rig: Rig, causes: set[str], possible: Collection[str] = ()) -> None:
    """What the instrument has served is what is stored and what the gap records count."""
    (sensor,) = rig.certified()["sensors"]
    missing = {one["cause"]: one for one in sensor["missing"] if one["cause"] != "blocked"}  # on a slow computer
    stored = rig.stored()
    assert causes <= missing.keys() <= causes.union(possible)
    assert all((one["uncounted"], one["reaches_beyond"]) == (0, False) for one in missing.values())
    assert (sensor["agents"]["stored"], sensor["agents"]["repeated"]) == (sum(map(len, stored.values())), 0)
    lost = {cause: one["readings"] for cause, one in missing.items()}
    assert sensor["agents"]["taken"] + sum(lost.values()) == SIGNALS * rig.rows.row
    assert sorted(set(stored["count"])) == stored["count"], "each once, in order"
    assert stored["count"][-1] == rig.rows.row - 1, "the last is there"
    assert rig.agent.stop() == 0
    assert {cause: sum(gap.readings for gap in rig.lost(cause)) for cause in lost} == lost, "so says the spool"


def nothing_is_lost_but_what_was_not_read(rig: Rig) -> None:
    """All that the instrument has served is stored; that it was not asked for a while is told."""
    (sensor,) = rig.certified()["sensors"]
    assert rig.stored()["count"] == [float(number) for number in range(rig.rows.row)]
    assert sensor["agents"]["taken"] == sensor["agents"]["stored"] == SIGNALS * rig.rows.row
    (missing,) = sensor["missing"]
    assert (missing["cause"], missing["readings"], missing["reaches_beyond"]) == ("blocked", 0, False)
    told = asyncio.run(_select(rig.stack.database_url, _BLOCKED, rig.name))
    assert missing["uncounted"] == len(told)
    assert sum(row["readings"] for row in told) > 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_agent_that_is_killed_in_a_session_accounts_for_what_it_had_taken(stack: Stack, bench: Bench) -> None:
    rig = bench.rig("rig")
    rig.agent.start()
    wait_for(lambda: len(rig.stored().get("count", ())) > 20, timeout_s=90, what="readings")
    rig.agent.kill()
    taken = rig.rows.row
    rig.agent.start()
    wait_for(lambda: rig.rows.row > taken + 20, timeout_s=60, what="an agent that reads again")
    rig.end()
    said = rig.certified()
    (sensor,) = said["sensors"]
    stored = rig.stored()["count"]
    assert sensor["agents"]["taken"] == sensor["agents"]["stored"] == SIGNALS * len(stored)
    (missing,) = sensor["missing"]
    assert (missing["cause"], missing["uncounted"], missing["reaches_beyond"]) == ("downtime", 1, False)
    assert len(said["agents"][0]["epochs"]) == 2
    unread = sorted(set(range(rig.rows.row)) - {int(number) for number in stored})
    assert all(number < taken for number in unread), "only what was under way as it died"
    assert len(unread) < 250, "no more than may wait in memory"
    assert rig.agent.stop() == 0
    assert sorted(numbers(rig.agent.data_dir)) == sorted(
        int(raw) for values in rig.stored().values() for raw in values
    ), "what was on its disk is what is stored"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_hub_that_is_killed_in_a_session_costs_no_reading(stack: Stack, bench: Bench) -> None:
    rig = bench.rig("rig")
    rig.agent.start()
    wait_for(lambda: len(rig.stored().get("count", ())) > 20, timeout_s=90, what="readings")
    stack.hub.kill()
    served = rig.rows.row
    wait_for(lambda: rig.rows.row > served + 50, timeout_s=60, what="an agent that goes on reading")
    stack.start_hub()
    wait_for(lambda: rig.stored()["count"][-1] > served + 20, timeout_s=60, what="what was taken meanwhile")
    rig.end()
    (sensor,) = rig.certified()["sensors"]
    assert rig.stored()["count"] == [float(number) for number in range(rig.rows.row)]
    assert sensor["agents"]["taken"] == sensor["agents"]["stored"] == SIGNALS * rig.rows.row
    assert sensor["missing"] == []
    assert rig.agent.stop() == 0
    assert len(numbers(rig.agent.data_dir)) == SIGNALS * rig.rows.row
