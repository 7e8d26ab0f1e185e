"""The `labrelay` command as a person meets it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from labrelay import cli
from shared import wire
from shared.errors import ConfigurationError, LinkUnavailable
from shared.readings import Columns


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"labrelay {version('labrelay')}"


def test_without_a_command_it_shows_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.EXIT_CONFIGURATION
    shown = capsys.readouterr().out
    assert all(command in shown for command in [*cli.PARTS, "wire"])


def test_a_part_whose_library_is_missing_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.PARTS, "hub", cli.Part("no_such_library", "hub", ""))
    assert cli.main(["hub", "run"]) == cli.EXIT_FAILED
    error = capsys.readouterr().err
    assert error == (
        "labrelay: `labrelay hub` needs no_such_library, which is not installed (pip install 'labrelay[hub]')\n"
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("unknown key `hots`", file="hub.toml", line=3, hint="did you mean `host`?"), 2),
        (LinkUnavailable("the broker does not answer", hint="is it running?"), 1),
    ],
)
def test_an_error_is_one_line_with_a_hint(capsys: pytest.CaptureFixture[str], error: Exception, status: int) -> None:
    def run() -> int:
        raise error

    assert cli.guarded(run) == status
    assert capsys.readouterr().err == f"labrelay: {error}\n"


def test_garbage_is_no_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "garbage"
    file.write_bytes(b"not a batch at all")
    assert cli.main(["wire", "decode", str(file)]) == cli.EXIT_FAILED
    assert capsys.readouterr().err.startswith("labrelay: ")


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["wire", "decode", "/nonexistent"]) == cli.EXIT_FAILED
    assert "/nonexistent cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_message_is_printed_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    columns = Columns(
        series=np.ones(2, np.uint32),
        timestamp_us=np.array([1, 2], np.int64),
        raw=np.array([0.5, 1.5]),
        physical=np.full(2, np.nan),
        status=np.zeros(2, np.uint8),
        profile=np.zeros(2, np.uint32),
    )
    batches = [
        wire.seal(
            wire.data_body(columns, derivable=False),
            agent_id=UUID(int=7),
            epoch=bytes(16),
            seq=seq,
            created_us=3,
            taken_through_us=2,
            clock_segment=1,
            generation=1,
        )
        for seq in (1, 2)
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"".join(batches))))
    assert cli.main(["wire", "decode", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [batch["seq"] for batch in printed] == [1, 2]
    assert printed[0]["agent_id"] == str(UUID(int=7))


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "labrelay", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("labrelay ")
