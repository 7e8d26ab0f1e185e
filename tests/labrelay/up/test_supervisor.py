"""The supervisor: order, readiness, restarts with back-off, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from labrelay.up.child import ChildError, ChildSpec
from labrelay.up.leash import StopStep
from labrelay.up.supervisor import Status, Supervisor
from tests.fixtures.processes import lives

NewSpec = Callable[..., ChildSpec]

SERVE = "import time; open('{here}/ready', 'w'); time.sleep(600)"
LEAVES_A_NOTE = """
import signal, sys, time
def end(*_):
    open('{here}/order', 'a').write(sys.argv[1] + ' ')
    sys.exit()
signal.signal(signal.SIGTERM, end)
open('{here}/ready-' + sys.argv[1], 'w')
time.sleep(600)
"""


async def until(supervisor: Supervisor, condition: Callable[[Status], bool]) -> Status:
    async with asyncio.timeout(15):
        while not condition(status := supervisor.statuses[0]):
            await asyncio.sleep(0.01)
    return status


async def test_a_child_that_dies_is_started_again(new_spec: NewSpec) -> None:
    changes: list[Status] = []
    async with Supervisor(changes.append, backoff_first_s=0.05) as supervisor:
        await supervisor.start(new_spec(SERVE))
        first = await until(supervisor, lambda status: status.pid is not None)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        again = await until(supervisor, lambda status: status.restarts == 1 and status.state == "running")
        again = await until(supervisor, lambda status: status.pid not in (None, first.pid))
        assert again.pid is not None
        assert lives(again.pid)
    assert not lives(again.pid)
    states = [change.state for change in changes]
    assert states.index("waiting") < len(states) - 1 - states[::-1].index("running")
    assert any("status 137" in change.note for change in changes)
    assert states[-1] == "ended"


async def test_restarts_come_slower_and_slower(new_spec: NewSpec, tmp_path: Path) -> None:
    dies = "import time; open('{here}/starts', 'a').write(str(time.monotonic()) + ' '); time.sleep(0.05)"
    async with Supervisor(backoff_first_s=0.1, backoff_max_s=0.8) as supervisor:
        await supervisor.start(new_spec(dies))
        await until(supervisor, lambda status: status.restarts >= 5 and status.state == "running")
    starts = [float(word) for word in (tmp_path / "starts").read_text().split()]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[3] > gaps[0]
    assert sum(gaps[:4]) > 0.05 + 0.1 + 0.2 + 0.4  # half of each pause at least


async def test_a_child_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(new_spec: NewSpec) -> None:
    async with Supervisor() as supervisor:
        with pytest.raises(ChildError, match="port is taken"):
            await supervisor.start(new_spec("print('port is taken'); raise SystemExit(1)", ready=bool))


async def test_a_child_that_never_becomes_ready_fails_the_start_and_is_ended(new_spec: NewSpec, tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        with pytest.raises(ChildError, match=r"not ready after 0\.3 s"):
            await supervisor.start(new_spec(SERVE, ready=bool, ready_timeout_s=0.3))


async def test_start_returns_when_the_child_is_ready(new_spec: NewSpec, tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        await supervisor.start(new_spec("import time; time.sleep(0.2);" + SERVE, ready=(tmp_path / "ready").exists))
        assert (tmp_path / "ready").exists()


async def test_children_end_in_reverse_order(new_spec: NewSpec, tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        for name in ("first", "second", "third"):
            spec = new_spec(LEAVES_A_NOTE, name, ready=(tmp_path / f"ready-{name}").exists)
            await supervisor.start(with_argument(spec, name))
    assert (tmp_path / "order").read_text().split() == ["third", "second", "first"]


async def test_a_cancelled_start_leaves_nothing(new_spec: NewSpec) -> None:
    pids: list[int] = []

    async def start() -> None:
        async with Supervisor(lambda status: pids.append(status.pid) if status.pid else None) as supervisor:
            await supervisor.start(new_spec(SERVE, ready=bool))

    starting = asyncio.create_task(start())
    async with asyncio.timeout(10):
        while not pids:
            await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not lives(pids[0])


async def test_an_impatient_second_cancellation_does_not_cut_the_end_short(new_spec: NewSpec, tmp_path: Path) -> None:
    slow = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVE
    pids: list[int] = []

    async def run() -> None:
        async with Supervisor(lambda status: pids.append(status.pid) if status.pid else None) as supervisor:
            spec = new_spec(slow, ready=(tmp_path / "ready").exists, stop=(StopStep(signal.SIGTERM, 0.5),))
            await supervisor.start(spec)
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    async with asyncio.timeout(10):
        while not (pids and (tmp_path / "ready").exists()):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not lives(pids[0])


def with_argument(spec: ChildSpec, argument: str) -> ChildSpec:
    return ChildSpec(
        name=spec.name,
        command=(*spec.command, argument),
        run_dir=spec.run_dir,
        log_dir=spec.log_dir,
        ready=spec.ready,
        stop=spec.stop,
    )
