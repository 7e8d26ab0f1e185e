"""The faults, each a function that does the damage and undoes what an operator or a supervisor would.

Each draws its parameters from a `Random` of its own round, and says in a sentence what it did.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.chaos import damage
from bench.chaos.server import Server, now_us
from bench.chaos.stack import Stack, copy, wait_until
from bench.chaos.watch import Spool, Watch

DRAIN_TIMEOUT_S = 60.0
_SEAMS = ("agents", "hub-broker", "hub-database")


@dataclass(slots=True)
class Scene:
    """Where a fault happens.

    Attributes:
        since_us: how far back the fault may reach; the comparison begins there.
        copies: of agents' data directories, made by earlier rounds.
    """

    stack: Stack
    watch: Watch
    random: Random
    since_us: int = 0
    number: int = 0
    copies: dict[int, Path] = field(default_factory=dict)

    def agent(self) -> int:
        """Any of them."""
        return self.random.randrange(len(self.stack.agents))

    def seconds(self, low: float, high: float) -> float:
        """Some time, waited for. Returns: how long."""
        some = self.random.uniform(low, high)
        time.sleep(some)
        return some


Fault = Callable[[Scene], str]


def kill_agent(scene: Scene) -> str:
    """kill -9 of an agent."""
    which = scene.agent()
    with _agent_down(scene, which):
        down_s = scene.seconds(0.0, 2.0)
    return f"agent {which} killed, down for {down_s:.1f} s"


def freeze_agent(scene: Scene) -> str:
    """SIGSTOP of an agent."""
    which = scene.agent()
    with scene.watch.outage(which):
        server = scene.stack.agents[which].server
        server.freeze()
        frozen_s = scene.seconds(1.0, 5.0)
        server.thaw()
        time.sleep(0.5)
    return f"agent {which} frozen for {frozen_s:.1f} s"


def kill_hub(scene: Scene) -> str:
    """kill -9 of the hub."""
    return f"hub {_kill(scene, scene.stack.hub)}"


def freeze_hub(scene: Scene) -> str:
    """SIGSTOP of the hub."""
    return f"hub {_freeze(scene, scene.stack.hub)}"


def kill_broker(scene: Scene) -> str:
    """kill -9 of Mosquitto: its queues are gone, its retained messages as old as its last save."""
    return f"broker {_kill(scene, scene.stack.broker)}"


def freeze_broker(scene: Scene) -> str:
    """SIGSTOP of Mosquitto."""
    return f"broker {_freeze(scene, scene.stack.broker)}"


def empty_broker(scene: Scene) -> str:
    """Mosquitto killed, and everything it kept deleted."""
    broker = scene.stack.broker
    broker.kill()
    scene.stack.broker_store.unlink(missing_ok=True)
    down_s = scene.seconds(0.0, 2.0)
    broker.start(wait=False)
    return f"broker killed and emptied, down for {down_s:.1f} s"


def kill_database(scene: Scene) -> str:
    """kill -9 of PostgreSQL's postmaster; its backends end by themselves, or with it."""
    return f"database {_kill(scene, scene.stack.database)}"


def freeze_database(scene: Scene) -> str:
    """SIGSTOP of PostgreSQL and all its backends."""
    return f"database {_freeze(scene, scene.stack.database)}"


def kill_hub_mid_commit(scene: Scene) -> str:
    """PostgreSQL stands still with commits under way, and the hub is killed in the midst of them."""
    stack = scene.stack
    stack.database.freeze()
    frozen_s = scene.seconds(0.5, 2.0)
    stack.hub.kill()
    stack.database.thaw()
    stack.hub.start(wait=False)
    return f"database frozen, and the hub killed after {frozen_s:.1f} s of it"


def cut_link(scene: Scene) -> str:
    """A line is reset, and refuses connections."""
    seam = scene.random.choice(_SEAMS)
    scene.stack.links.cut(seam)
    cut_s = scene.seconds(0.5, 5.0)
    scene.stack.links.heal(seam, reset=False)
    return f"link {seam} cut for {cut_s:.1f} s"


def slow_link(scene: Scene) -> str:
    """A line carries a modem's rate."""
    seam, rate = scene.random.choice(_SEAMS), scene.random.choice((2_000, 8_000, 30_000))
    scene.stack.links.slow(seam, rate)
    slow_s = scene.seconds(2.0, 6.0)
    scene.stack.links.heal(seam, reset=False)
    return f"link {seam} at {rate} B/s for {slow_s:.1f} s"


def half_open_link(scene: Scene) -> str:
    """A line swallows what is sent and tells nobody; then the connections on it turn out to be dead."""
    seam = scene.random.choice(_SEAMS)
    scene.stack.links.half_open(seam)
    open_s = scene.seconds(2.0, 8.0)
    scene.stack.links.heal(seam, reset=True)
    return f"link {seam} half-open for {open_s:.1f} s"


def stall_link(scene: Scene) -> str:
    """A line stands still, and goes on as if nothing had been."""
    seam = scene.random.choice(_SEAMS)
    scene.stack.links.stall(seam)
    stalled_s = scene.seconds(1.0, 5.0)
    scene.stack.links.heal(seam, reset=False)
    return f"link {seam} stalled for {stalled_s:.1f} s"


def cut_instrument(scene: Scene) -> str:
    """An instrument's line is reset."""
    which = scene.agent()
    seam = f"instrument-{scene.stack.agents[which].name}"
    with scene.watch.outage(which):
        scene.stack.links.cut(seam)
        cut_s = scene.seconds(0.2, 2.0)
        scene.stack.links.heal(seam, reset=False)
        time.sleep(1.5)
    return f"link {seam} cut for {cut_s:.1f} s"


def fill_disk(scene: Scene) -> str:
    """The disk under an agent is full for a while; only where we could make a small one."""
    agent = next((agent for agent in scene.stack.agents if agent.small_disk), None)
    if agent is None:
        return "left out: a small disk takes root"
    ballast = agent.folder / "ballast"
    damage.fill(ballast)
    full_s = scene.seconds(2.0, 6.0)
    ballast.unlink()
    return f"disk of agent {agent.name} full for {full_s:.1f} s"


def corrupt_batches(scene: Scene) -> str:
    """Bytes inside some batches flip on the disk of an agent that is down, with a backlog in it."""
    which = scene.agent()
    scene.stack.links.cut("agents")
    scene.seconds(1.0, 2.5)
    with _agent_down(scene, which) as spool:
        scene.watch.evidence[which].look(spool.path, down=True)
        flipped = damage.flip_batches(spool.path, scene.random, scene.random.randint(1, 4))
        scene.watch.evidence[which].reread(spool.path)
    scene.stack.links.heal("agents", reset=False)
    return f"{flipped} batches of agent {which} corrupted on disk"


def corrupt_pages(scene: Scene) -> str:
    """Whole pages of the SQLite file are overwritten while its agent is down, with a backlog in it."""
    which = scene.agent()
    scene.stack.links.cut("agents")
    scene.seconds(1.0, 2.5)
    with _agent_down(scene, which) as spool:
        scene.watch.evidence[which].look(spool.path, down=True)
        pages = damage.overwrite_pages(spool.path, scene.random)
        scene.watch.evidence[which].reread(spool.path)
    scene.stack.links.heal("agents", reset=False)
    return f"{len(pages)} pages of agent {which}'s spool overwritten"


def restore_spool(scene: Scene) -> str:
    """An agent's disk is put back as it was some time ago; what was taken since and not delivered went with it."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    kept = agent.folder.parent / f"{agent.folder.name}-copy"
    began_us = now_us()
    with _agent_down(scene, which):
        copy(agent.data_dir, kept)
    scene.seconds(3.0, 5.0)
    with _agent_down(scene, which) as spool:
        evidence = scene.watch.evidence[which]
        before = evidence.look(spool.path, down=True)
        copy(kept, agent.data_dir)
        evidence.reread(spool.path)
        after = evidence.look(spool.path, down=True)
        evidence.reread(spool.path)
        gone: frozenset[tuple[bytes, int]] = frozenset()
        if before is not None and after is not None:
            gone = before.pending - after.pending
        destroyed = evidence.withdraw(gone)
    shutil.rmtree(kept)
    scene.since_us = min(scene.since_us, began_us)
    return f"spool of agent {which} restored from a copy; {destroyed} undelivered readings went with the newer disk"


def clone_agent(scene: Scene) -> str:
    """An agent's disk is copied with a backlog in it, and both copies run for a while."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    scene.stack.links.cut("agents")
    scene.seconds(0.5, 2.0)
    with _agent_down(scene, which):
        path, clone = agent.clone(scene.number)
    spool = Spool(which, path)
    scene.watch.add(spool)
    clone.start()
    scene.seconds(0.5, 1.5)
    scene.stack.links.heal("agents", reset=False)
    both_s = scene.seconds(2.0, 4.0)
    with scene.watch.outage(which):
        clone.stop()
        _drain_clone(scene, spool, clone)
    return f"agent {which} cloned, both ran for {both_s:.1f} s"


def restore_database(scene: Scene) -> str:
    """The database goes back to a file-level copy made before the last acknowledgements; nobody tells the hub."""
    stack, with_hub = scene.stack, scene.random.random() < 0.5
    kept = stack.folder / "database-copy"
    began_us = now_us()
    stack.database.stop()
    copy(stack.database_folder, kept)
    stack.database.start()
    went_on_s = scene.seconds(4.0, 7.0)
    if with_hub:
        stack.hub.kill()
    stack.database.kill() if scene.random.random() < 0.5 else stack.database.stop()
    copy(kept, stack.database_folder)
    stack.database.start()
    if with_hub:
        stack.hub.start(wait=False)
    shutil.rmtree(kept)
    scene.since_us = min(scene.since_us, began_us)
    return f"database restored to {went_on_s:.1f} s ago{', the hub killed meanwhile' if with_hub else ''}"


FAULTS: tuple[Fault, ...] = (
    kill_agent,
    freeze_agent,
    kill_hub,
    freeze_hub,
    kill_broker,
    freeze_broker,
    empty_broker,
    kill_database,
    freeze_database,
    kill_hub_mid_commit,
    cut_link,
    slow_link,
    half_open_link,
    stall_link,
    cut_instrument,
    fill_disk,
    corrupt_batches,
    corrupt_pages,
    restore_spool,
    clone_agent,
    restore_database,
)


def deck(seed: int, rounds: int) -> list[Fault]:
    """Which fault in which round: all of them in a random order, then all of them in another one."""
    random = Random(seed)
    drawn: list[Fault] = []
    while len(drawn) < rounds:
        drawn += random.sample(FAULTS, len(FAULTS))
    return drawn[:rounds]


def _kill(scene: Scene, server: Server) -> str:
    server.kill()
    down_s = scene.seconds(0.0, 2.0)
    server.start(wait=False)
    return f"killed, down for {down_s:.1f} s"


def _freeze(scene: Scene, server: Server) -> str:
    server.freeze()
    frozen_s = scene.seconds(1.0, 5.0)
    server.thaw()
    return f"frozen for {frozen_s:.1f} s"


@contextlib.contextmanager
def _agent_down(scene: Scene, which: int) -> Iterator[Spool]:
    """Kill an agent; what the body does to its disk is done while it is down."""
    server = scene.stack.agents[which].server
    with scene.watch.down(which) as spool:
        server.kill()
        yield spool
        server.start()
        wait_until(lambda: _runs(spool.path), 20.0)


def _runs(spool: Path) -> bool:
    """Whether an agent has the file open again."""
    return spool.with_name("spool.db-wal").exists()


def _drain_clone(scene: Scene, spool: Spool, clone: Server) -> None:
    """What the clone took it may still deliver: start it once more without its instrument if something is left."""
    spool.down = True
    evidence = scene.watch.evidence[spool.agent]
    left = evidence.look(spool.path, down=True)
    if left is None or not left.pending:
        return
    spool.down = False
    clone.start()

    def empty() -> bool:
        now = evidence.look(spool.path)
        return now is not None and not left.pending & now.pending

    wait_until(empty, DRAIN_TIMEOUT_S)
    clone.stop()
    spool.down = True
