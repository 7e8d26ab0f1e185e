"""The files by which a running agent tells how it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.status import STALE_S, VALUES_FILE, WATCHED_FILE, WATCHED_S, LocalStatus, StatusFiles
from shared.messages import LiveValue, State


def status(age_s: float = 0.0, state: str = "online") -> LocalStatus:
    now_us = round((time.time() - age_s) * 1e6)
    return LocalStatus(now_us, 1, "id", "bench-pc", "agent.toml", State(state, "0" * 32))  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    files = StatusFiles(tmp_path)
    assert files.read() is None
    files.write(status())
    found = files.read()
    assert found is not None
    assert found.running
    assert found.name == "bench-pc"


def test_an_agent_that_stopped_or_died_does_not_run() -> None:
    assert not status(state="offline").running
    assert not status(age_s=STALE_S + 1).running


def test_values_are_wanted_for_a_while_after_someone_asked(tmp_path: Path) -> None:
    files = StatusFiles(tmp_path)
    assert not files.watched()
    assert files.watch() == []
    assert files.watched()
    files.write_values([LiveValue("s", "value", 5, 1.0, None, 0)])
    assert [value.raw for value in files.watch()] == [1.0]
    long_ago = time.time() - WATCHED_S - 1
    os.utime(tmp_path / WATCHED_FILE, (long_ago, long_ago))
    assert not files.watched()


def test_a_half_readable_file_is_no_values(tmp_path: Path) -> None:
    (tmp_path / VALUES_FILE).write_bytes(b"[")
    assert StatusFiles(tmp_path).watch() == []


def test_a_directory_that_is_gone_is_reported_once_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = StatusFiles(tmp_path / "gone")
    files.write(status())
    files.write(status())
    assert caplog.messages == ["status_not_written"]
