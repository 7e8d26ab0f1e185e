"""The data directory: one user at a time, and ports that stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from labrelay.up import ports
from labrelay.up.data_dir import DataDir
from labrelay.up.supervisor import Status
from shared.errors import LabrelayError


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.create()
    return made


def test_a_second_user_is_refused_and_told_who_is_first(data: DataDir) -> None:
    with data.locked():
        with pytest.raises(LabrelayError, match="just starting"), data.locked():
            pass
        data.announce("http://127.0.0.1:8000", [Status("hub", "running", 5)])
        expected = f"in use by process {os.getpid()}, at http://127.0.0.1:8000"
        with pytest.raises(LabrelayError, match=expected), data.locked():
            pass


def test_whoever_ended_in_whatever_way_holds_the_folder_no_more(data: DataDir) -> None:
    code = (
        "import os, sys, pathlib\nfrom labrelay.up.data_dir import DataDir\n"
        "data = DataDir(pathlib.Path(sys.argv[1]))\n"
        "with data.locked():\n    data.announce('http://x', [])\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(data.root)], check=False, cwd=Path(__file__).parents[3])
    assert (data.root / "up.json").exists()
    with data.locked():
        pass
    assert not (data.root / "up.json").exists()


def test_others_cannot_look_in(data: DataDir) -> None:
    assert data.root.stat().st_mode & 0o777 == 0o700


def test_a_port_stays_the_same_from_start_to_start(data: DataDir) -> None:
    first = data.port("broker")
    assert data.port("broker") == first
    assert data.port("other") != first


def test_a_kept_port_that_is_taken_is_named(data: DataDir) -> None:
    kept = data.port("broker", preferred=ports.free_port())
    with socket.create_server(("127.0.0.1", kept)), pytest.raises(LabrelayError, match=rf"port {kept}.*taken"):
        data.port("broker")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabrelayError, match=r"file/data cannot be used.*choose another --data-dir"):
        DataDir(tmp_path / "file" / "data").create()


def test_a_free_port_is_none_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataDir(tmp_path)
    kept = data.port("broker")
    drawn = iter([kept, kept, kept + 1 if kept < ports.LAST else kept - 1])
    monkeypatch.setattr("labrelay.up.ports.random.randint", lambda _first, _last: next(drawn))
    monkeypatch.setattr("labrelay.up.ports.is_free", lambda _host, _port: True)
    assert data.free_port() != kept
