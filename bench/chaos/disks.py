"""Faults of disks: full, damaged, put back, cloned; of agents and of the database."""

from __future__ import annotations

import shutil

from bench.chaos import damage, harm
from bench.chaos.scene import START_TIMEOUT_S, Scene, agent_down, runs
from bench.chaos.server import Server
from bench.chaos.stack import copy, wait_until
from bench.chaos.watch import Spool

DRAIN_TIMEOUT_S = 60.0


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
    evidence = scene.watch.evidence[which]
    with agent_down(scene, which) as spool, harm.noted(evidence, spool.path):
        standing = evidence.look(spool.path, down=True)
        waiting = standing.pending if standing is not None else ()
        flipped = damage.flip_batches(spool.path, scene.random, scene.random.randint(1, 4), waiting)
    scene.stack.links.heal("agents", reset=False)
    return f"{flipped} batches of agent {which} corrupted on disk"


def corrupt_pages(scene: Scene) -> str:
    """Whole pages of the SQLite file are overwritten while its agent is down, with a backlog in it."""
    which = scene.agent()
    scene.stack.links.cut("agents")
    scene.seconds(1.0, 2.5)
    with agent_down(scene, which) as spool, harm.noted(scene.watch.evidence[which], spool.path):
        pages = damage.overwrite_pages(spool.path, scene.random)
    scene.stack.links.heal("agents", reset=False)
    return f"{pages} pages of agent {which}'s spool overwritten"


def corrupt_log(scene: Scene) -> str:
    """Bits anywhere in the spool's write-ahead log flip while its agent is down, with a backlog in it."""
    which = scene.agent()
    scene.stack.links.cut("agents")
    scene.seconds(1.0, 2.5)
    with agent_down(scene, which) as spool, harm.noted(scene.watch.evidence[which], spool.path):
        flipped = damage.flip_log(spool.path, scene.random, scene.random.randint(1, 4))
    scene.stack.links.heal("agents", reset=False)
    return f"{flipped} frames of the log of agent {which}'s spool corrupted"


def restore_spool(scene: Scene) -> str:
    """An agent's disk is put back as it was some time ago; what was taken since and not delivered went with it."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    kept = agent.folder.parent / f"{agent.folder.name}-copy"
    with agent_down(scene, which):
        copy(agent.data_dir, kept)
    scene.seconds(3.0, 5.0)
    with agent_down(scene, which) as spool:
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
    return f"spool of agent {which} restored from a copy; {destroyed} undelivered readings went with the newer disk"


def clone_agent(scene: Scene) -> str:
    """An agent's disk is copied with a backlog in it, and both copies run for a while."""
    which = scene.agent()
    agent = scene.stack.agents[which]
    scene.stack.links.cut("agents")
    scene.seconds(0.5, 2.0)
    with agent_down(scene, which):
        path, clone = agent.clone(scene.number)
    clone.start()
    wait_until(lambda: runs(path, clone), START_TIMEOUT_S)
    spool = Spool(which, path)
    scene.watch.add(spool)
    scene.seconds(0.5, 1.5)
    scene.stack.links.heal("agents", reset=False)
    both_s = scene.seconds(2.0, 4.0)
    clone.stop()
    _drain_clone(scene, spool, clone)
    return f"agent {which} cloned, both ran for {both_s:.1f} s"


def restore_database(scene: Scene) -> str:
    """The database goes back to a file-level copy made before the last acknowledgements; nobody tells the hub."""
    stack, with_hub = scene.stack, scene.random.random() < 0.5
    kept = stack.folder / "database-copy"
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
    return f"database restored to {went_on_s:.1f} s ago{', the hub killed meanwhile' if with_hub else ''}"


def _drain_clone(scene: Scene, spool: Spool, clone: Server) -> None:
    """What the clone took it may still deliver: start it once more if something is left."""
    spool.down = True
    evidence = scene.watch.evidence[spool.agent]
    left = evidence.look(spool.path, down=True)
    if left is None or not left.pending:
        return
    clone.start()
    wait_until(lambda: runs(spool.path, clone), START_TIMEOUT_S)
    spool.wake()

    def empty() -> bool:
        now = evidence.look(spool.path)
        return now is not None and not left.pending & now.pending

    wait_until(empty, DRAIN_TIMEOUT_S)
    clone.stop()
    spool.down = True
