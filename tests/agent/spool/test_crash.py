from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.spool.writer import SpoolWriter
from shared.errors import SpoolUnavailable
from shared.records import Opening
from tests.agent.spool.contents import contents, gaps, numbers, records
from tests.agent.spool.readings import batch, open_spool

ROOT = Path(__file__).parents[3]


def test_what_was_reported_as_taken_survives_kill_nine(tmp_path: Path) -> None:
    chance = random.Random(3)
    reported, lives = -1, 6
    for _ in range(lives):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.spool.taker", str(tmp_path), str(reported + 1)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + chance.random() * 0.2)
        process.kill()
        lines = process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        reported = int(lines[-1]) if lines else reported
        there = numbers(tmp_path)
        assert there[: reported + 1] == list(range(reported + 1)), "taken and not there"
        assert len(there) - 1 - reported <= 7, "at most the commit that was about to be reported"
        reported = there[-1]  # the next life goes on behind what is there
    spool = open_spool(tmp_path)
    spool.close()
    assert numbers(tmp_path) == list(range(reported + 1))
    assert len(gaps(tmp_path, "downtime")) == lives
    assert_chained(tmp_path)


def assert_chained(folder: Path) -> None:
    """Each epoch names the one before it and how far that had come."""
    last: dict[str, int] = {}
    for found in contents(folder):
        name = found.batch.header.epoch.hex()
        last[name] = max(last.get(name, 0), found.batch.header.seq)
    openings = records(folder, Opening)
    assert [opening.previous_epoch for opening in openings] == ["", *list(last)[:-1]]
    for opening in openings[1:]:
        assert opening.previous_last_seq == last[opening.previous_epoch]


def overfill(spool: SpoolWriter, batches: int) -> tuple[int, int]:
    """Returns: readings taken and appends refused."""
    taken = refused = 0
    for _ in range(batches):
        try:
            spool.append([batch(taken, 50)])
        except SpoolUnavailable as error:
            refused += bool(error.hint)
        else:
            taken += 50
    return taken, refused


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 5 MiB; not in pytest's own folder, which a killed run would keep it from ever removing."""
    folder = Path(tempfile.mkdtemp(prefix="labrelay-small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root can mount a small disk")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        folder.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("policy", ["block", "oldest", "thin"])
def test_a_full_disk_stops_or_drops_by_policy_and_recovers(
    small_disk: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.spool.full_disk._TRY_AGAIN_AFTER_S", 0.2)
    spool = open_spool(small_disk, policy=policy, quota_bytes=1 << 30)
    ballast = small_disk / "somebody elses"
    ballast.write_bytes(b"x" * 1_500_000)
    taken, refused = overfill(spool, 4_000)
    ballast.unlink()
    time.sleep(0.3)
    spool.append([batch(taken, 50)])
    taken += 50
    spool.flush()
    dropped = spool.state().dropped_readings
    spool.close()
    there = numbers(small_disk)
    lost = sum(gap.readings for cause in ("quota_oldest", "quota_thin") for gap in gaps(small_disk, cause))
    assert len(there) + lost == taken, "everything that was taken is there or accounted for"
    assert there[-1] == taken - 1
    assert lost == dropped
    if policy == "block":
        assert (refused > 0, lost) == (True, 0)
    else:
        assert refused < 50, "the policy makes room"
        assert lost > 0


OTHER_ERROR = """
import resource, signal, sys
from pathlib import Path
from shared.errors import SpoolUnavailable
from tests.agent.spool.readings import batch, open_spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = open_spool(Path(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
taken, refused = 0, 0
for _ in range(3000):
    try:
        spool.append([batch(taken, 50)])
    except SpoolUnavailable as error:
        assert error.hint
        refused += 1
    else:
        taken += 50
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
spool.append([batch(taken, 50)])
print(taken + 50, refused)
spool.close()
"""


def test_a_disk_that_fails_to_write_refuses_and_recovers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_ERROR, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    taken, refused = (int(word) for word in done.stdout.split())
    assert refused > 0
    assert numbers(tmp_path) == list(range(taken))
