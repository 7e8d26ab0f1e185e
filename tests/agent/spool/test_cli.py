from __future__ import annotations

from pathlib import Path

import pytest

from agent.spool.cli import main
from hub.ingest.spool_file import SpoolFile
from shared import wire
from tests.agent.spool.readings import batch, open_spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool with two batches in quarantine and one that waits."""
    spool = open_spool(tmp_path)
    spool.append([batch(0, 5), batch(5, 5), batch(10, 5)])
    spool.marks.quarantine(3, "not_yours")
    spool.marks.quarantine(4, "corrupt")
    spool.close()
    return tmp_path


def test_list_shows_depth_and_quarantine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], folder) == 0
    shown = capsys.readouterr().out
    assert "batch 3:" in shown
    assert "not_yours" in shown
    assert "5 readings" in shown


def test_export_writes_what_the_wire_decoder_reads(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.lrb"
    assert main(["export", str(target)], folder) == 0
    assert [described["seq"] for described in wire.describe(target.read_bytes())] == [3, 4]
    assert main(["export", str(target)], folder) == 1, "an existing file is left alone"


def test_export_of_everything_is_all_that_a_hub_needs(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.lrb"
    assert main(["export", "--all", str(target)], folder) == 0
    found = list(SpoolFile().feed(target.read_bytes()))
    assert [one.batch.header.seq for one in found if one.batch is not None] == [1, 2, 3, 4, 5]


def test_resend_and_discard_are_requests_that_the_agent_carries_out(folder: Path) -> None:
    assert main(["resend", "--batch", "3"], folder) == 0
    assert main(["discard", "--yes", "--batch", "4"], folder) == 0
    spool = open_spool(folder)
    spool.flush()
    state = spool.state()
    spool.close()
    assert state.quarantined_batches == 0
    assert state.pending_readings == 10


def test_commands_work_beside_a_running_agent(folder: Path) -> None:
    spool = open_spool(folder)
    assert main(["resend"], folder) == 0
    spool.append([batch(100, 1)])
    spool.flush()
    assert spool.state().quarantined_batches == 0
    spool.close()


def test_a_batch_that_is_not_in_quarantine_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discard", "--yes", "--batch", "99"], folder) == 1
    assert "99" in capsys.readouterr().err


def test_no_spool_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"], tmp_path) == 1
    assert "no spool" in capsys.readouterr().err
