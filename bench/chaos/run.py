"""The rounds: a fault, recovery, comparison; and at the end everything once more."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from bench.chaos import records
from bench.chaos.faults import FAULTS, Fault, deck
from bench.chaos.instrument import POINTS, standing
from bench.chaos.oracle import Judgement, Seen, judge
from bench.chaos.report import Figures, Report
from bench.chaos.scene import Scene
from bench.chaos.stack import AGENTS, Stack, wait_until
from bench.chaos.watch import Watch

RECOVERY_TIMEOUT_S = 120.0
NOTICE_TIMEOUT_S = 40.0
WARM_UP_S = 3.0


def play(*, rounds: int, seed: int, interval_s: float, only: Sequence[str], keep: str) -> Figures:
    """Run a stack through so many faults."""
    faults = _drawn(seed, rounds, only)
    figures = Figures(seed, faults={fault.__name__: 0 for fault in faults})
    report = Report(rounds)
    began_s, clean = time.monotonic(), False
    with _folder(keep) as folder:
        stack = Stack(folder, interval_s=interval_s)
        try:
            stack.start()
            watch = Watch.of(stack)
            watcher = threading.Thread(target=watch.run, name="watch")
            watcher.start()
            try:
                _play(stack, watch, faults, figures, report)
            finally:
                watch.end()
                watcher.join(30)
            clean = figures.clean
        finally:
            stack.close()
            if not clean and not keep:
                report.say(f"logs kept in {_kept(folder / 'logs')}")
            report.end()
    figures.seconds = round(time.monotonic() - began_s, 1)
    return figures


def _drawn(seed: int, rounds: int, only: Sequence[str]) -> list[Fault]:
    if not only:
        return deck(seed, rounds)
    by_name = {fault.__name__: fault for fault in FAULTS}
    random = Random(seed)
    return [by_name[random.choice(only)] for _ in range(rounds)]


@contextlib.contextmanager
def _folder(keep: str) -> Iterator[Path]:
    folder = Path(keep) if keep else Path(tempfile.mkdtemp(prefix="labrelay-chaos-"))
    folder.mkdir(exist_ok=not keep)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _kept(logs: Path) -> Path:
    """A copy that stays."""
    kept = Path(tempfile.mkdtemp(prefix="labrelay-chaos-logs-"))
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return kept


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment by the counters of the instruments, and an id that is less than those of all that is taken later."""

    numbers: list[int]
    id: int

    @staticmethod
    def of(stack: Stack) -> _Mark:
        """Now."""
        latest = records.latest_id(stack.database_url)
        return _Mark([standing(agent.instrument_port) for agent in stack.agents], latest)


def _play(stack: Stack, watch: Watch, faults: Sequence[Fault], figures: Figures, report: Report) -> None:
    report.say(f"seed {figures.seed}: {len(faults)} rounds; logs in {stack.folder / 'logs'}")
    began_s, before_began = time.monotonic(), _polled(stack)
    before, verdict = _Mark.of(stack), None
    time.sleep(WARM_UP_S)
    for number, fault in enumerate(faults, start=1):
        report.say(f"round {number}: {fault.__name__}")
        mark = _Mark.of(stack)
        scene = Scene(stack, watch, Random(f"{figures.seed}/{number}"), number)
        scene.seconds(0.0, 1.0)
        what = fault(scene)
        figures.faults[fault.__name__] += 1
        _revive(stack, figures, report)
        recovered_s = _recover(watch)
        if recovered_s is None:
            figures.not_recovered += 1
            report.say(f"round {number}: NOT RECOVERED within {RECOVERY_TIMEOUT_S:g} s")
        verdict = _settled(stack, watch, before, verdict)
        report.done = figures.rounds = number
        report.say(f"round {number}: {what}; {_say(recovered_s, verdict)}")
        for example in verdict.examples:
            report.say(f"round {number}: {example}")
        before = mark
    figures.readings_per_s = round((_polled(stack) - before_began) / (time.monotonic() - began_s))
    _finish(stack, watch, figures, report)


def _revive(stack: Stack, figures: Figures, report: Report) -> None:
    """Start again, as a supervisor would, what has ended by itself; it was not to."""
    for server in stack.servers:
        if not server.running:
            figures.died += 1
            report.say(f"{server.spec.name} has ended by itself; see {server.spec.log}")
            server.stop()
            server.start()


def _polled(stack: Stack) -> int:
    """Readings that the instruments have given out."""
    return POINTS * sum(standing(agent.instrument_port) for agent in stack.agents)


def _recover(watch: Watch) -> float | None:
    """Wait until all that was taken by now is acknowledged. Returns: how long that took, None if it did not end."""
    began_s = time.monotonic()
    counted = [watch.counted(agent) for agent in range(len(watch.agents))]
    if not wait_until(lambda: _all_sample(watch, counted), RECOVERY_TIMEOUT_S):
        return None
    before = watch.standing()
    if before is None:
        return None
    waiting = [{identity for spool in spools for identity in spool.pending} for spools in before]

    def settled() -> bool:
        now = watch.standing()
        return now is not None and not any(
            old & {identity for spool in spools for identity in spool.pending}
            for old, spools in zip(waiting, now, strict=True)
        )

    return time.monotonic() - began_s if wait_until(settled, RECOVERY_TIMEOUT_S, every_s=0.5) else None


def _all_sample(watch: Watch, counted: Sequence[int]) -> bool:
    """Whether every agent has taken something beyond these numbers."""
    watch.standing()
    return all(one.last > number for one, number in zip(watch.evidence, counted, strict=True))


def _settled(stack: Stack, watch: Watch, since: _Mark, before: Judgement | None) -> Judgement:
    """The verdict, once it is clean; the last one, when it does not become so.

    What was acknowledged before the database was put back is offered again only when somebody has noticed that. What
    was wrong after the round before stays wrong.
    """
    deadline = time.monotonic() + NOTICE_TIMEOUT_S
    while True:
        verdict = judge(*_compared(stack, watch, since))
        if verdict.clean or (before and verdict.wrong == before.wrong) or time.monotonic() > deadline:
            return verdict
        time.sleep(1.0)


def _compared(
    stack: Stack, watch: Watch, since: _Mark, last: Sequence[int] | None = None
) -> tuple[list[Seen], records.Records]:
    """Spools first, database second: what was acknowledged in between is then found in both, never in neither.

    Args:
        last: the numbers with which the comparison ends; None for the last that were taken, for whatever was given out
            before these has been taken or never will be.
    """
    standings = watch.standing()
    if standings is None:
        raise RuntimeError("a spool cannot be read")
    seen = watch.seen(standings, [number + 1 for number in since.numbers], last)
    found = records.read(stack.database_url, AGENTS, since.id)
    return [replace(one, given=watch.counted(agent)) for agent, one in enumerate(seen)], found


def _say(recovered_s: float | None, verdict: Judgement) -> str:
    state = "clean" if verdict.clean else "FAILED"
    after = "not recovered" if recovered_s is None else f"recovered after {recovered_s:.1f} s"
    return (
        f"{state}, {after}; taken {verdict.taken}, waiting {verdict.waiting},"
        f" lost {verdict.lost}, duplicated {verdict.duplicated}, unexplained {verdict.unexplained}"
    )


def _finish(stack: Stack, watch: Watch, figures: Figures, report: Report) -> None:
    """Stop sampling, let everything drain, and compare all of it, up to where the instruments have counted."""
    if _recover(watch) is None:
        figures.not_recovered += 1
    for number, agent in enumerate(stack.agents):
        agent.server.stop()
        watch.spools[number].down = True
    counted = [watch.counted(agent) for agent in range(len(stack.agents))]
    seen, found = _compared(stack, watch, _Mark([0] * len(counted), 0), counted)
    verdict = judge(seen, found)
    figures.polled = POINTS * sum(counted)
    figures.taken, figures.stored, figures.repeated = verdict.taken, verdict.stored, found.repeated
    figures.set_aside, figures.set_aside_reasons = verdict.set_aside, found.reasons
    figures.lost, figures.duplicated = verdict.lost, verdict.duplicated
    figures.gaps_unexplained, figures.excused = verdict.unexplained, verdict.excused
    figures.waiting = verdict.waiting
    figures.quarantined = sum(len(spool.quarantined) for one in seen for spool in one.standing)
    report.say(f"all rounds: {_say(0.0, verdict)}, quarantined batches {figures.quarantined}")
    for example in verdict.examples:
        report.say(example)
