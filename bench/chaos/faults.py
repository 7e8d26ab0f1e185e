"""The faults, each a function that does the damage and undoes what an operator or a supervisor would.

Each draws its parameters from a `Random` of its own round, and says in a sentence what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from random import Random

from bench.chaos.disks import (
    clone_agent,
    corrupt_batches,
    corrupt_log,
    corrupt_pages,
    fill_disk,
    restore_database,
    restore_spool,
)
from bench.chaos.quotas import fill_quota
from bench.chaos.scene import Scene, agent_down
from bench.chaos.server import Server
from bench.chaos.times import step_agent_clock, step_hub_clock

_SEAMS = ("agents", "hub-broker", "hub-database")


Fault = Callable[[Scene], str]


def kill_agent(scene: Scene) -> str:
    """kill -9 of an agent."""
    which = scene.agent()
    with agent_down(scene, which):
        down_s = scene.seconds(0.0, 2.0)
    return f"agent {which} killed, down for {down_s:.1f} s"


def freeze_agent(scene: Scene) -> str:
    """SIGSTOP of an agent."""
    which = scene.agent()
    server = scene.stack.agents[which].server
    with scene.watch.interrupted(which):
        server.freeze()
        frozen_s = scene.seconds(1.0, 5.0)
        server.thaw()
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
    """An instrument's line is reset, and refuses connections."""
    which = scene.agent()
    seam = f"instrument-{scene.stack.agents[which].name}"
    with scene.watch.interrupted(which):
        scene.stack.links.cut(seam)
        cut_s = scene.seconds(0.2, 2.0)
        scene.stack.links.heal(seam, reset=False)
    return f"link {seam} cut for {cut_s:.1f} s"


FAMILIES: tuple[tuple[Fault, ...], ...] = (
    (kill_agent, kill_hub, kill_broker, kill_database, kill_hub_mid_commit, empty_broker),
    (freeze_agent, freeze_hub, freeze_broker, freeze_database),
    (cut_link, slow_link, half_open_link, stall_link, cut_instrument),
    (fill_disk, corrupt_batches, corrupt_log, corrupt_pages),
    (restore_spool, clone_agent, restore_database),
    (step_agent_clock, step_hub_clock),
    (fill_quota,),
)
FAULTS: tuple[Fault, ...] = tuple(fault for family in FAMILIES for fault in family)


def deck(seed: int, rounds: int) -> list[Fault]:
    """Which fault in which round: all of them in a random order, then all of them in another one.

    Families take turns, so that a few rounds are of many kinds.
    """
    random = Random(seed)
    drawn: list[Fault] = []
    while len(drawn) < rounds:
        shuffled = [random.sample(family, len(family)) for family in random.sample(FAMILIES, len(FAMILIES))]
        drawn += [fault for turn in zip_longest(*shuffled) for fault in turn if fault is not None]
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
