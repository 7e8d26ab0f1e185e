"""What the writer hands over as it commits it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.spool.batch import StoredBatch
from agent.spool.reader import SpoolReader
from agent.spool.writer import SpoolWriter
from shared.errors import SpoolFull
from shared.records import Gap
from tests.agent.spool.contents import numbers
from tests.agent.spool.readings import batch, open_spool


def watched(spool: SpoolWriter, handed: list[StoredBatch], *, take: bool = True) -> None:
    """Compare everything that is handed over with what another connection finds in the file at that moment."""
    reader = SpoolReader(spool.path)

    def compare(batches: Sequence[StoredBatch]) -> bool:
        assert reader.by_id([one.id for one in batches]) == list(batches)
        handed.extend(batches)
        return take

    spool.on_append = compare


def test_batches_are_on_the_disk_as_they_are_handed_over(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    handed: list[StoredBatch] = []
    watched(spool, handed)
    spool.append([batch(0, 3), batch(3, 1)])
    spool.note(Gap("blocked", 1, 2, 3))
    spool.flush()
    spool.append([batch(4, 1)])
    assert [one.readings for one in handed if one.readings] == [3, 1, 1]
    assert [one.id for one in handed] == list(range(2, len(handed) + 2)), "all behind the opening, and nothing twice"
    spool.close()


def test_a_gap_record_that_was_joined_with_another_is_not_handed_over(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=64 * 1024, policy="oldest")
    handed: list[StoredBatch] = []
    watched(spool, handed, take=False)
    for number in range(20):
        spool.append([batch(number * 3000 + part * 20, 20) for part in range(150)])
    assert len(handed) > 3000
    spool.close()


@pytest.mark.parametrize("take", [True, False])
def test_the_quota_keeps_what_was_taken_and_drops_what_was_not(tmp_path: Path, take: bool) -> None:
    spool = open_spool(tmp_path, quota_bytes=64 * 1024, policy="oldest")
    watched(spool, [], take=take)
    spool.append([batch(0, 20)])
    spool.on_append = None
    for number in range(1, 500):
        spool.append([batch(number * 20, 20)])
    spool.close()
    assert (numbers(tmp_path)[0] == 0) is take


def test_what_was_not_committed_is_not_handed_over(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, quota_bytes=64 * 1024, policy="block")
    handed: list[StoredBatch] = []
    watched(spool, handed)
    spool.append([batch(0, 20)])
    with pytest.raises(SpoolFull):
        spool.append([batch(1000 * number, 1000) for number in range(1, 200)])
    spool.note(Gap("blocked", 1, 2, 3))
    spool.flush()
    assert sum(one.readings for one in handed) == 20
    spool.close()
