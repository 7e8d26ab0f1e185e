"""The store of contents, be it a folder or a bucket: whole or not at all, and what happens when it is away."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.errors import Problem
from hub.runs.artifacts import contents as module
from hub.runs.artifacts.contents import PART_BYTES, READ_BYTES, ContentMissing, new_key, open_contents
from hub.settings import HubSettings
from shared.errors import ConfigurationError, ContentsUnavailable
from tests.hub.runs.artifacts.conftest import Place

CHUNK = 64 * 1024
ROOT = Path(__file__).parents[4]


class Broken(Exception):
    """What a client's connection may end with."""


async def chunks_of(content: bytes, *, fails: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]
    if fails:
        raise Broken


async def read(place: Place, key: str, size: int) -> bytes:
    return b"".join([chunk async for chunk in place.open().read(key, size)])


@pytest.mark.parametrize("size", [0, 1, READ_BYTES, 2 * PART_BYTES + 12_345])
async def test_what_was_written_is_read_again(place: Place, size: int) -> None:
    content, key = random.Random(size).randbytes(size), new_key()
    await place.open().write(key, chunks_of(content))
    assert place.contents() == [key]
    assert await read(place, key, size) == content


@pytest.mark.parametrize("size", [0, CHUNK, 2 * PART_BYTES])
async def test_of_what_breaks_off_nothing_stays(place: Place, size: int) -> None:
    contents = place.open()
    with pytest.raises(Broken):
        await contents.write(new_key(), chunks_of(bytes(size), fails=True))
    assert place.contents() == []
    await contents.write("ab/whole", chunks_of(b"x"))
    assert place.contents() == ["ab/whole"]


async def test_what_is_not_there_is_missing_and_can_be_removed(place: Place) -> None:
    contents, key = place.open(), new_key()
    with pytest.raises(ContentMissing):
        await anext(contents.read(key, 10))
    await contents.write(key, chunks_of(b"abc"))
    await contents.remove([key, key, new_key()])
    assert place.contents() == []


async def test_old_contents_are_listed_some_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEYS_AT_ONCE", 2)
    contents, keys = place.open(), [new_key() for _ in range(5)]
    for key in keys:
        await contents.write(key, chunks_of(b"x"))
    now = datetime.now(UTC)
    batches = [batch async for batch in contents.older_than(now + timedelta(minutes=1))]
    assert sorted(key for batch in batches for key in batch) == sorted(keys)
    assert max(map(len, batches)) <= 2
    assert [key async for batch in contents.older_than(now - timedelta(minutes=1)) for key in batch] == []


async def test_only_so_many_are_on_their_way_at_once(place: Place) -> None:
    contents = place.open(artifact_transfers_max=2)
    with contents.transfer(), contents.transfer():
        with pytest.raises(Problem) as refusal, contents.transfer():
            pass
        assert (refusal.value.status, "Retry-After" in refusal.value.headers) == (503, True)
    with contents.transfer():
        pass


async def test_a_bucket_may_be_shared_by_prefix(bucket: Place) -> None:
    one, other = bucket.open(artifacts_prefix="hub/one"), bucket.open(artifacts_prefix="hub/other")
    await one.write("aa/x", chunks_of(b"one"))
    await other.write("aa/y", chunks_of(b"other"))
    assert bucket.contents() == ["hub/one/aa/x", "hub/other/aa/y"]
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert [batch async for batch in one.older_than(later)] == [["aa/x"]]


async def test_a_store_that_is_away_is_told_in_time(free_port: int, bucket: Place) -> None:
    contents = bucket.open(artifacts_endpoint=f"http://127.0.0.1:{free_port}", artifacts_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(ContentsUnavailable):
        await contents.write(new_key(), chunks_of(b"x"))
    with pytest.raises(ContentsUnavailable):
        await anext(contents.read(new_key(), 1))
    with pytest.raises(ContentsUnavailable):
        await contents.remove([new_key()])
    with pytest.raises(ContentsUnavailable):
        await anext(contents.older_than(datetime.now(UTC)))
    assert time.monotonic() - started_s < 20


async def test_a_store_that_does_not_answer_is_told_in_time(bucket: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        contents = bucket.open(artifacts_endpoint=f"http://127.0.0.1:{port}", artifacts_timeout_s=0.3)
        with pytest.raises(ContentsUnavailable):
            await contents.write(new_key(), chunks_of(b"x"))
        with pytest.raises(ContentsUnavailable):
            await anext(contents.read(new_key(), 1))


async def test_a_bucket_that_is_not_there_is_told(bucket: Place) -> None:
    with pytest.raises(ContentsUnavailable, match=r"NoSuchBucket|not found"):
        await bucket.open(artifacts_bucket="no-such-bucket").write(new_key(), chunks_of(b"x"))


async def test_a_folder_forgets_what_a_crash_left_half_written(folder: Place) -> None:
    contents = folder.open()
    await contents.write("aa/whole", chunks_of(b"x"))
    folder.put("aa/half#1", b"x")
    folder.put("aa/fresh#2", b"x")
    assert folder.folder is not None
    os.utime(folder.folder / "aa" / "half#1", (0, 0))
    assert await contents.remove_unfinished(datetime.now(UTC) - timedelta(days=1)) == 1
    assert folder.contents() == ["aa/fresh#2", "aa/whole"]


async def test_what_cannot_be_removed_keeps_nothing_else(folder: Place, caplog: pytest.LogCaptureFixture) -> None:
    contents = folder.open()
    folder.put("aa/half#1", b"x")
    folder.put("cc/half#1", b"x")
    assert folder.folder is not None
    (folder.folder / "bb" / "stuck#1").mkdir(parents=True)
    assert await contents.remove_unfinished(datetime.now(UTC) + timedelta(days=1)) == 2
    assert "event=unfinished_left" in caplog.text
    assert folder.contents() == []


async def test_a_disk_that_fails_at_the_last_is_told(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ContentsUnavailable, match="No space left"):
        await folder.open().write(new_key(), chunks_of(b"x"))


async def test_an_upload_that_is_killed_leaves_nothing_that_counts(folder: Place) -> None:
    assert folder.folder is not None
    command = [sys.executable, "-m", "tests.hub.runs.artifacts.dying_upload", str(folder.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as upload:
        assert upload.stdout is not None
        for _ in range(4):
            assert upload.stdout.readline() == b"more\n"
        upload.kill()
    assert folder.contents() == ["aa/never-whole#1"]
    contents = folder.open()
    assert [batch async for batch in contents.older_than(datetime.now(UTC) + timedelta(days=1)) if batch] == []
    assert await contents.remove_unfinished(datetime.now(UTC) + timedelta(days=1)) == 1
    assert folder.contents() == []


async def test_a_folder_that_is_full_or_closed_is_told(tmp_path: Path) -> None:
    contents = open_contents(HubSettings(artifacts_dir=tmp_path / "a"))
    assert contents is not None
    (tmp_path / "a").rmdir()
    (tmp_path / "a").write_text("a file stands in the way")
    with pytest.raises(ContentsUnavailable):
        await contents.write(new_key(), chunks_of(b"x"))


async def test_a_content_in_a_folder_is_on_the_disk(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await folder.open().write("aa/x", chunks_of(b"x"))
    assert synced == [f"{folder.folder}/aa/x", f"{folder.folder}/aa", f"{folder.folder}"]


def test_without_folder_and_bucket_nothing_is_kept() -> None:
    assert open_contents(HubSettings()) is None


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot keep artifacts"):
        open_contents(HubSettings(artifacts_dir=tmp_path / "file" / "below"))
    with pytest.raises(ConfigurationError, match="cannot use the bucket"):
        open_contents(HubSettings(artifacts_bucket="b", artifacts_ca_file=tmp_path / "none.pem"))
    with pytest.raises(ValueError, match="exclude each other"):
        HubSettings(artifacts_dir=tmp_path, artifacts_bucket="b")
    with pytest.raises(ValueError, match="belong together"):
        HubSettings(artifacts_bucket="b", artifacts_access_key_file=tmp_path / "file")
