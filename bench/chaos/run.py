"""The rounds: a fault, recovery, comparison; and at the end everything once more."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from bench.chaos import records
from bench.chaos.faults import FAULTS, Fault, deck
from bench.chaos.instrument import POINTS, standing
from bench.chaos.oracle import Judgement, judge
from bench.chaos.scene import Scene
from bench.chaos.server import now_us
from bench.chaos.stack import AGENTS, Stack, wait_until
from bench.chaos.watch import Watch

RECOVERY_TIMEOUT_S = 120.0
NOTICE_TIMEOUT_S = 40.0
WARM_UP_S = 3.0
_MARGIN_US = 5_000_000


@dataclass(slots=True)
class Figures:
    """What a run has shown."""

    seed: int
    rounds: int = 0
    taken: int = 0
    stored: int = 0
    repeated: int = 0
    set_aside: int = 0
    set_aside_reasons: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    gaps_unexplained: int = 0
    quarantined: int = 0
    waiting: int = 0
    not_recovered: int = 0
    polled: int = 0
    readings_per_s: float = 0.0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For people and JSON."""
        return {name: getattr(self, name) for name in Figures.__dataclass_fields__}


class Report:
    """Tells what happens: a line an event on standard error, and a bar under them on a terminal."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._began_s = time.monotonic()
        self._bar = sys.stderr.isatty()
        self.done = 0

    def say(self, text: str) -> None:
        """One event, with its time."""
        clear = "\r\x1b[K" if self._bar else ""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(f"{clear}{at} +{time.monotonic() - self._began_s:6.1f} s  {text}", file=sys.stderr, flush=True)
        if self._bar:
            filled = 40 * self.done // max(self._rounds, 1)
            print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {self.done}/{self._rounds}", end="", file=sys.stderr)
            sys.stderr.flush()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


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
            clean = not (figures.lost or figures.duplicated or figures.gaps_unexplained or figures.not_recovered)
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


def _play(stack: Stack, watch: Watch, faults: Sequence[Fault], figures: Figures, report: Report) -> None:
    report.say(f"seed {figures.seed}: {len(faults)} rounds; logs in {stack.folder / 'logs'}")
    began_us, began_s, polled = now_us(), time.monotonic(), _polled(stack)
    time.sleep(WARM_UP_S)
    since_us = began_us - _MARGIN_US
    for number, fault in enumerate(faults, start=1):
        random = Random(f"{figures.seed}/{number}")
        scene = Scene(stack, watch, random, since_us, number)
        report.say(f"round {number}: {fault.__name__}")
        started_us = now_us()
        scene.seconds(0.0, 1.0)
        what = fault(scene)
        figures.faults[fault.__name__] += 1
        recovered_s = _recover(watch)
        if recovered_s is None:
            figures.not_recovered += 1
            report.say(f"round {number}: NOT RECOVERED within {RECOVERY_TIMEOUT_S:g} s")
        verdict = _settled(stack, watch, scene.since_us)
        report.done = figures.rounds = number
        report.say(f"round {number}: {what}; {_say(recovered_s, verdict)}")
        for example in verdict.examples:
            report.say(f"round {number}: {example}")
        since_us = started_us - _MARGIN_US
    figures.polled = _polled(stack) - polled
    figures.readings_per_s = round(figures.polled / (time.monotonic() - began_s))
    _finish(stack, watch, figures, report)


def _polled(stack: Stack) -> int:
    """Readings that the instruments have given out."""
    return POINTS * sum(standing(agent.instrument_port) for agent in stack.agents)


def _recover(watch: Watch) -> float | None:
    """Wait until all that was taken by now is acknowledged. Returns: how long that took, None if it did not end."""
    began_s, began_us = time.monotonic(), now_us()
    if not wait_until(lambda: _all_sample(watch, began_us), RECOVERY_TIMEOUT_S):
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


def _settled(stack: Stack, watch: Watch, since_us: int) -> Judgement:
    """The verdict, once it is clean; the last one, when it does not become so.

    What was acknowledged before the database was put back is offered again only when somebody has noticed that.
    """
    deadline = time.monotonic() + NOTICE_TIMEOUT_S
    while True:
        verdict = _compare(stack, watch, since_us)
        if verdict.clean or time.monotonic() > deadline:
            return verdict
        time.sleep(1.0)


def _all_sample(watch: Watch, since_us: int) -> bool:
    """Whether every agent has taken something since then."""
    watch.standing()
    return all(any(batch.from_us >= since_us for batch in one.latest()) for one in watch.evidence)


def _compare(stack: Stack, watch: Watch, since_us: int) -> Judgement:
    """Spools first, database second: what was acknowledged in between is then found in both, never in neither."""
    standings = watch.standing()
    if standings is None:
        raise RuntimeError("a spool cannot be read")
    seen = [dict(one.taken) for one in watch.evidence]
    found = records.read(stack.database_url, AGENTS, since_us - _MARGIN_US)
    frozen = [type(one)(one.agent, taken) for one, taken in zip(watch.evidence, seen, strict=True)]
    return judge(frozen, standings, found, watch.outages, since_us=since_us)


def _say(recovered_s: float | None, verdict: Judgement) -> str:
    state = "clean" if verdict.clean else "FAILED"
    after = "not recovered" if recovered_s is None else f"recovered after {recovered_s:.1f} s"
    return (
        f"{state}, {after}; taken {verdict.taken}, waiting {verdict.waiting},"
        f" lost {verdict.lost}, duplicated {verdict.duplicated}, unexplained {verdict.unexplained}"
    )


def _finish(stack: Stack, watch: Watch, figures: Figures, report: Report) -> None:
    """Stop sampling, let everything drain, and compare all of it."""
    if _recover(watch) is None:
        figures.not_recovered += 1
    for number, agent in enumerate(stack.agents):
        watch.spools[number].down = True
        agent.server.stop()
    verdict = _compare(stack, watch, 0)
    figures.waiting = verdict.waiting
    found = records.read(stack.database_url, AGENTS)
    standings = watch.standing() or []
    figures.taken = sum(len(batch.keys) for one in watch.evidence for batch in one.taken.values())
    figures.stored, figures.repeated, figures.set_aside = verdict.stored, found.repeated, verdict.set_aside
    figures.set_aside_reasons = found.reasons
    figures.lost, figures.duplicated = verdict.lost, verdict.duplicated
    figures.gaps_unexplained = verdict.unexplained
    figures.quarantined = sum(len(spool.quarantined) for spools in standings for spool in spools)
    report.say(f"all rounds: {_say(0.0, verdict)}, quarantined batches {figures.quarantined}")
    for example in verdict.examples:
        report.say(example)
