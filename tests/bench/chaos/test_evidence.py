"""What the bench reads in a real spool, and what it makes of the records that a real quota leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.spool.settings import SpoolSettings
from agent.spool.writer import SpoolWriter
from bench.chaos.evidence import Evidence
from bench.chaos.gaps import GapRecord
from bench.chaos.oracle import Judgement, Seen, judge
from bench.chaos.records import Records
from shared.clock import ManualClock
from shared.records import SeriesEntry
from tests.agent.spool.contents import gaps
from tests.agent.spool.readings import AGENT, BEGIN_US, batch

READINGS = 50
BATCHES = 1_500
AT_ONCE = 20


@pytest.fixture(scope="module", params=["oldest", "thin"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    """A spool that took much more than it may hold, looked at now and then."""
    folder = tmp_path_factory.mktemp("full")
    writer = SpoolWriter(
        folder,
        agent_id=AGENT,
        settings=SpoolSettings(quota_bytes=256 * 1024, policy=request.param),
        clock=ManualClock(BEGIN_US),
    )
    writer.declare([SeriesEntry(1, "bench_a.p00")])
    evidence = Evidence(0)
    for first in range(0, BATCHES, AT_ONCE):
        writer.append([batch(1 + number * READINGS, READINGS) for number in range(first, first + AT_ONCE)])
        assert evidence.look(folder / "spool.db") is not None
    writer.close()
    return evidence, folder


def verdict(evidence: Evidence, folder: Path, *, changed: int = 0, without_records: bool = False) -> Judgement:
    """About an agent whose hub has its records and none of its batches yet."""
    found = [record for cause in ("quota_oldest", "quota_thin") for record in gaps(folder, cause)]
    told = tuple(
        GapRecord(
            0,
            one.cause,
            one.from_us,
            one.to_us,
            one.readings + changed,
            Counter({0: sum(count for _, count in one.counts) + changed}),
            tuple((bytes.fromhex(epoch), first, last) for epoch, first, last in one.batches),
        )
        for one in found
    )
    standing = evidence.look(folder / "spool.db", down=True)
    assert standing is not None
    last = BATCHES * READINGS
    seen = Seen(evidence, [standing], 1, last, last)
    nothing = np.empty(0, np.int64)
    return judge([seen], Records(nothing, nothing, () if without_records else told, 0), points=1)


def test_what_a_quota_cost_is_excused_by_its_records_to_the_reading(full: tuple[Evidence, Path]) -> None:
    found = verdict(*full)
    assert found.clean, found.examples
    assert found.excused["record"] > 1_000
    assert found.waiting + found.excused["record"] == BATCHES * READINGS


@pytest.mark.parametrize("changed", [-1, 1])
def test_one_reading_more_or_less_in_a_record_is_seen(full: tuple[Evidence, Path], changed: int) -> None:
    assert verdict(*full, changed=changed).unexplained > 0


def test_without_its_records_all_of_it_is_lost(full: tuple[Evidence, Path]) -> None:
    excused = verdict(*full).excused["record"]
    assert verdict(*full, without_records=True).wrong == (excused, 0, excused)


def test_what_is_destroyed_is_withdrawn(full: tuple[Evidence, Path]) -> None:
    evidence = replace(full[0], taken=dict(full[0].taken))
    identity = next(iter(evidence.taken))
    assert evidence.withdraw([identity]) == READINGS
    assert identity not in evidence.taken
    assert len(np.concatenate(evidence.destroyed)) == READINGS
