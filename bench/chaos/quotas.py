"""The fault of a quota that is reached: more is taken than the spool may hold, under each of the three policies."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from agent.spool.depth import ROW_OVERHEAD_BYTES
from bench.chaos.gaps import Held
from bench.chaos.scene import Scene, agent_down
from bench.chaos.server import now_us
from bench.chaos.stack import wait_until

_QUOTA_BYTES = 256 * 1024
_INTERVAL_S, _FLUSH_S = 0.005, 0.001
"""A batch for every poll, so that the quota is soon reached: their heads do not compress."""
_QUEUE_READINGS = 3_000
_FULL_SHARE = 0.95
_FULL_TIMEOUT_S = 240.0
_STILL_S = 0.6


def fill_quota(scene: Scene) -> str:
    """An agent without a link takes more than its spool may hold, under one of the three policies."""
    policy = scene.random.choice(("block", "oldest", "thin"))
    return _block(scene) if policy == "block" else _drop(scene, policy)


def _block(scene: Scene) -> str:
    """No readings are taken while there is no room."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    with _small_quota(scene, which, "block"):
        from_us, from_s, before = now_us(), time.monotonic(), scene.watch.counted(which)
        _wait_full(agent.spool)
        if not wait_until(lambda: _stands_still(scene, which), _FULL_TIMEOUT_S):
            raise TimeoutError("an agent goes on taking readings without room for them")
        still_s, still = time.monotonic(), scene.watch.counted(which)
        blocked_s = scene.seconds(1.0, 3.0)
        least = (time.monotonic() - still_s) / agent.interval_s - (scene.watch.counted(which) - still)
        scene.stack.links.heal("agents", reset=False)
        if not wait_until(lambda: scene.watch.counted(which) > still + 2.0 / agent.interval_s, _FULL_TIMEOUT_S):
            raise TimeoutError("an agent does not take readings again")
        most = (time.monotonic() - from_s) / agent.interval_s - (scene.watch.counted(which) - before)
        scene.watch.held.append(Held(which, from_us, now_us(), round(least), round(most)))
        time.sleep(1.0)  # for the record to be on the disk
    return f"agent {which} at its quota for {blocked_s:.1f} s, policy block; {least:.0f} … {most:.0f} polls not made"


def _drop(scene: Scene, policy: str) -> str:
    """The oldest readings have to go, or every second one of them."""
    which = scene.agent()
    with _small_quota(scene, which, policy):
        _wait_full(scene.stack.agents[which].spool)
        beyond_s = scene.seconds(1.0, 4.0)
        scene.stack.links.heal("agents", reset=False)
        scene.seconds(0.0, 2.0)
    return f"agent {which} beyond its quota for {beyond_s:.1f} s, policy {policy}"


@contextlib.contextmanager
def _small_quota(scene: Scene, which: int, policy: str) -> Iterator[None]:
    """Restart an agent with a small quota and quicker polls, and without a link; and in the end as it was."""
    agent = scene.stack.agents[which]
    before_s = agent.interval_s
    scene.stack.links.cut("agents")
    with agent_down(scene, which):
        more = ["[spool]", f"quota_bytes = {_QUOTA_BYTES}", f'policy = "{policy}"']
        more += ["[agent]", f"queue_readings = {_QUEUE_READINGS}"]
        agent.configure(_INTERVAL_S, flush_s=_FLUSH_S, more=more)
    try:
        yield
    finally:
        with agent_down(scene, which):
            agent.configure(before_s)


def _stands_still(scene: Scene, which: int) -> bool:
    """Whether it polls no more because there is no room: a busy machine may hold it up for as long."""
    before = scene.watch.counted(which)
    time.sleep(_STILL_S)
    return scene.watch.counted(which) <= before + 1 and _is_blocked(scene.stack.agents[which].data_dir)


def _is_blocked(data_dir: Path) -> bool:
    """Whether the agent's status says that acquisition is held up."""
    try:
        return bool(json.loads((data_dir / "status.json").read_bytes())["blocked"])
    except (OSError, ValueError, KeyError):
        return False


def _wait_full(spool: Path) -> None:
    if not wait_until(lambda: _is_full(spool), _FULL_TIMEOUT_S):
        raise TimeoutError("a spool with a small quota does not fill")


def _is_full(spool: Path) -> bool:
    """Whether the batches that wait take what they may; what comes from now on makes some of them go."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True, timeout=2.0)) as db:
            sql = "SELECT total(bytes + ?) FROM batches WHERE standing = 0"
            waiting_bytes: float = db.execute(sql, (ROW_OVERHEAD_BYTES,)).fetchone()[0]
    except sqlite3.OperationalError:  # the agent has just started, and is at it
        return False
    return waiting_bytes > _FULL_SHARE * _QUOTA_BYTES
