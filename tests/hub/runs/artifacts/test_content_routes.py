"""Contents over HTTP: sent, checked, fetched, replaced, and never half there."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hub.runs.artifacts.content_response import disposition
from hub.runs.artifacts.content_routes import UPLOAD_PATH
from hub.runs.artifacts.contents import PART_BYTES, READ_BYTES
from hub.runs.artifacts.orphans import KEEP, Orphans
from hub.runs.artifacts.transfer import checksum_of_digest, digest_of_checksum, discard
from hub.settings import HubSettings
from shared.errors import StorageUnavailable
from tests.hub.conftest import running_hub
from tests.hub.export.test_download import listening, read_into
from tests.hub.runs.artifacts.conftest import Place, Shelf, new_shelf
from tests.hub.runs.conftest import Lab, fields_of, furnish, refused, run_url
from tests.hub.runs.test_auto_complete import SetClock

BIG = random.Random(1).randbytes(PART_BYTES + 2 * READ_BYTES + 4321)


async def test_a_client_that_leaves_within_its_body_leaves_nothing(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.new()
    token = folder_shelf.lab.editor.headers["authorization"]
    head = f"PUT {artifact['uri']} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 99999999\r\n\r\n"
    async with listening(folder_shelf.lab.hub) as address:
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(head.encode() + bytes(PART_BYTES + 1000))
        await writer.drain()
        async with asyncio.timeout(20):
            while not folder_shelf.place.contents():
                await asyncio.sleep(0.01)
        assert folder_shelf.place.contents()[0].endswith("#1")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(20):
            while folder_shelf.place.contents():
                await asyncio.sleep(0.01)
    assert not (await folder_shelf.shown(artifact))["stored"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 16):
        yield content[start : start + (1 << 16)]


async def test_what_was_sent_is_fetched(shelf: Shelf) -> None:
    artifact = await shelf.new(name="spectrum (α).dat", type="raw")
    assert (artifact["stored"], artifact["uri"]) == (False, f"{shelf.url}/{artifact['id']}/content")
    assert refused(await shelf.lab.viewer.get(artifact["uri"])) == (404, "no_content")
    for version, content in enumerate((b"", b"x", BIG), start=2):
        sent = await shelf.lab.editor.put(
            artifact["uri"], content=in_pieces(content), headers={"Content-Type": "application/x-spectrum"}
        )
        assert sent.status_code == 200, sent.text
        kept = sent.json()
        assert sent.headers["etag"] == f'"{version}"'
        assert (kept["stored"], kept["size"], kept["checksum"]) == (True, len(content), sha256(content))
        assert (kept["content_type"], kept["version"]) == ("application/x-spectrum", version)
        assert await shelf.shown(artifact) == kept
        fetched = await shelf.lab.viewer.get(artifact["uri"])
        assert fetched.content == content
        assert fetched.headers["content-length"] == str(len(content))
        assert fetched.headers["repr-digest"] == digest_of_checksum(sha256(content))
        assert len(shelf.place.contents()) == 1
    assert fetched.headers["content-type"] == "application/octet-stream"
    plain, coded = "spectrum (_).dat", "spectrum%20%28%CE%B1%29.dat"
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}"
    assert fetched.headers["content-disposition"] == named
    assert fetched.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize(
    ("name", "plain", "coded"),
    [
        ('a"b\\c.csv', "a_b_c.csv", "a%22b%5Cc.csv"),
        ("x\r\nSet-Cookie: a=b", "x__Set-Cookie_ a=b", "x%0D%0ASet-Cookie%3A%20a%3Db"),
        ("../../etc/passwd", ".._.._etc_passwd", "..%2F..%2Fetc%2Fpasswd"),
        ("100%25;.txt", "100_25;.txt", "100%2525%3B.txt"),
        ("Messung 漢😀.dat", "Messung __.dat", "Messung%20%E6%BC%A2%F0%9F%98%80.dat"),
    ],
)
def test_a_files_name_cannot_leave_its_header(name: str, plain: str, coded: str) -> None:
    assert disposition(name) == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}"


async def test_a_download_that_broke_off_goes_on(shelf: Shelf) -> None:
    artifact = await shelf.filled(BIG)
    viewer, url = shelf.lab.viewer, artifact["uri"]
    head = await viewer.head(url)
    assert (head.status_code, head.content) == (200, b"")
    whole = await viewer.get(url)
    told = ("content-length", "etag", "accept-ranges", "content-disposition", "repr-digest", "content-type")
    assert {name: head.headers[name] for name in told} == {name: whole.headers[name] for name in told}
    assert head.headers["accept-ranges"] == "bytes"
    begun = READ_BYTES + 17
    rest = await viewer.get(url, headers={"Range": f"bytes={begun}-", "If-Range": head.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, BIG[begun:])
    assert rest.headers["content-range"] == f"bytes {begun}-{len(BIG) - 1}/{len(BIG)}"
    assert rest.headers["repr-digest"] == digest_of_checksum(sha256(BIG))
    middle = await viewer.get(url, headers={"Range": "bytes=3-5"})
    assert (middle.status_code, middle.content, middle.headers["content-length"]) == (206, BIG[3:6], "3")
    beyond = await viewer.get(url, headers={"Range": f"bytes={len(BIG)}-"})
    assert refused(beyond) == (416, "no_such_part")
    assert beyond.headers["content-range"] == f"bytes */{len(BIG)}"


async def test_of_another_content_than_the_one_begun_the_whole_is_sent(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"first")
    viewer, url = folder_shelf.lab.viewer, artifact["uri"]
    begun = (await viewer.head(url)).headers["etag"]
    assert (await folder_shelf.lab.editor.put(url, content=b"second")).status_code == 200
    answer = await viewer.get(url, headers={"Range": "bytes=2-", "If-Range": begun})
    assert (answer.status_code, answer.content) == (200, b"second")


async def test_the_content_that_was_fetched_may_be_named_when_it_is_replaced(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"first")
    editor, url = folder_shelf.lab.editor, artifact["uri"]
    fetched = (await editor.get(url)).headers["etag"]
    assert (await editor.put(url, content=b"second", headers={"If-Match": fetched})).status_code == 200
    late = await editor.put(url, content=b"third", headers={"If-Match": fetched})
    assert refused(late) == (412, "version_mismatch")
    assert (await editor.get(url)).content == b"second"


async def test_what_is_not_what_the_client_means_is_not_kept(folder_shelf: Shelf) -> None:
    content, other = b"content", sha256(b"other")
    digest = f"sha-256=:{base64.b64encode(bytes.fromhex(other)).decode()}:"
    artifact, said = await folder_shelf.new(), await folder_shelf.new(checksum=f"sha256:{other.upper()}", size=7)
    short = await folder_shelf.new(size=6)
    for target, query, headers, field in (
        (artifact, {"checksum": other}, {}, "checksum"),
        (artifact, {"checksum": "xyz"}, {}, "checksum"),
        (artifact, {}, {"Content-Digest": digest}, "Content-Digest"),
        (artifact, {"checksum": sha256(content)}, {"Content-Digest": f"md5=:x:, {digest}"}, "Content-Digest"),
        (artifact, {}, {"Content-Digest": "sha-256=:AAAA:"}, "Content-Digest"),
        (artifact, {}, {"Content-Digest": "sha-256=:no base64!:"}, "Content-Digest"),
        (said, {}, {}, "checksum"),
        (short, {}, {}, "size"),
    ):
        answer = await folder_shelf.lab.editor.put(target["uri"], content=content, params=query, headers=headers)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), (query, headers)
        assert not (await folder_shelf.shown(target))["stored"]
    assert folder_shelf.place.contents() == []
    right = {"Content-Digest": digest_of_checksum(sha256(content))}
    answer = await folder_shelf.lab.editor.put(
        artifact["uri"], content=content, params={"checksum": f"SHA256:{sha256(content)}"}, headers=right
    )
    assert answer.status_code == 200


async def test_another_content_replaces_the_one_before(shelf: Shelf) -> None:
    artifact = await shelf.filled(b"first", checksum=sha256(b"first"), size=5, content_type="text/plain")
    (before,) = shelf.place.contents()
    answer = await shelf.lab.editor.put(artifact["uri"], content=b"second", headers={"If-Match": '"2"'})
    assert (answer.json()["checksum"], answer.json()["size"]) == (sha256(b"second"), 6)
    assert answer.json()["content_type"] == "text/plain"
    assert (await shelf.lab.viewer.get(artifact["uri"])).content == b"second"
    (after,) = shelf.place.contents()
    assert before != after
    late = await shelf.lab.editor.put(artifact["uri"], content=b"third", headers={"If-Match": '"2"'})
    assert late.status_code == 412
    assert shelf.place.contents() == [after]


async def test_a_removed_artifact_takes_its_content_with_it(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"x")
    assert (await folder_shelf.lab.editor.delete(f"{folder_shelf.url}/{artifact['id']}")).status_code == 204
    assert folder_shelf.place.contents() == []
    assert (await folder_shelf.lab.editor.put(artifact["uri"], content=b"x")).status_code == 404


async def test_a_body_that_ends_early_is_not_kept(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.new()
    assert await status_of_broken_upload(folder_shelf, artifact["uri"]) == 400
    assert folder_shelf.place.contents() == []
    assert not (await folder_shelf.shown(artifact))["stored"]


async def status_of_broken_upload(shelf: Shelf, url: str) -> int:
    """What the hub makes of a client that leaves within its body."""
    messages = iter(
        [
            {"type": "http.request", "body": b"x" * 100_000, "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[dict[str, Any]] = []
    authorization = shelf.lab.editor.headers["authorization"].encode()

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "query_string": b"",
        "headers": [(b"authorization", authorization), (b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await shelf.lab.hub.app(scope, receive, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


async def test_uploads_have_a_limit_of_their_own(hub_settings: dict[str, Any], folder: Place) -> None:
    limits = {"body_bytes_max": 2048, "artifact_bytes_max": 10_000}
    async with running_hub(HubSettings(**hub_settings, **folder.settings, **limits)) as hub:
        shelf = await new_shelf(await furnish(hub), folder)
        artifact = await shelf.new()
        assert (await shelf.lab.editor.put(artifact["uri"], content=bytes(10_000))).status_code == 200
        for content in (bytes(10_001), in_pieces(bytes(100_000))):
            answer = await shelf.lab.editor.put(artifact["uri"], content=content)
            assert (answer.status_code, "10000" in answer.json()["detail"]) == (413, True)
        assert (await shelf.shown(artifact))["size"] == 10_000
        assert len(folder.contents()) == 1
        answer = await shelf.lab.editor.post(shelf.url, json={"metadata": {"x": "y" * 3000}})
        assert answer.status_code == 413


def test_only_contents_may_be_larger() -> None:
    assert UPLOAD_PATH.fullmatch("/api/v1/runs/a/artifacts/b/content")
    for path in (
        "/api/v1/runs/a/artifacts/b/content/c",
        "/api/v1/runs/a/b/artifacts/c/content",
        "/api/v1/runs/a/metrics",
    ):
        assert not UPLOAD_PATH.fullmatch(path)


async def test_of_parallel_uploads_one_is_kept_whole(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.new()
    contents = [bytes([n]) * (100_000 + n) for n in range(6)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                folder_shelf.lab.editor.put(artifact["uri"], content=content, headers={"If-Match": '"1"'})
            )
            for content in contents
        ]
    assert sorted(task.result().status_code for task in tasks) == [200, *[412] * 5]
    kept = await folder_shelf.shown(artifact)
    fetched = (await folder_shelf.lab.viewer.get(artifact["uri"])).content
    assert fetched in contents
    assert (kept["checksum"], kept["size"]) == (sha256(fetched), len(fetched))
    assert len(folder_shelf.place.contents()) == 1


async def test_a_content_that_was_damaged_is_never_passed_on_whole(
    folder_shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    small = await folder_shelf.filled(b"small")
    (small_key,) = folder_shelf.place.contents()
    big = await folder_shelf.filled(BIG)
    (big_key,) = set(folder_shelf.place.contents()) - {small_key}
    folder_shelf.place.put(small_key, b"SMALL")
    folder_shelf.place.put(big_key, BIG[:-1] + b"x")
    assert refused(await folder_shelf.lab.viewer.get(small["uri"])) == (500, "content_damaged")
    received = bytearray()
    async with (
        listening(folder_shelf.lab.hub) as address,
        httpx.AsyncClient(base_url=address, timeout=30) as viewer,
        viewer.stream("GET", big["uri"], headers=folder_shelf.lab.viewer.headers) as answer,
    ):
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(BIG)))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await read_into(received, answer)
    assert 0 < len(received) < len(BIG)
    assert "event=content_lost" in caplog.text
    assert "event=download_broken" in caplog.text


async def test_a_content_that_was_lost_is_told(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"x")
    folder_shelf.place.remove(folder_shelf.place.contents()[0])
    assert refused(await folder_shelf.lab.viewer.get(artifact["uri"])) == (404, "content_missing")
    assert (await folder_shelf.lab.editor.put(artifact["uri"], content=b"again")).status_code == 200
    assert (await folder_shelf.lab.viewer.get(artifact["uri"])).content == b"again"


async def test_what_the_hub_does_not_keep_takes_no_content(folder_shelf: Shelf) -> None:
    elsewhere = await folder_shelf.new(uri="s3://other/x")
    url = f"{folder_shelf.url}/{elsewhere['id']}/content"
    assert refused(await folder_shelf.lab.editor.put(url, content=b"x")) == (409, "kept_elsewhere")
    assert refused(await folder_shelf.lab.viewer.get(url)) == (404, "no_content")


async def test_a_hub_without_a_store_says_so(lab: Lab) -> None:
    run = await lab.new_run()
    artifact = (await lab.editor.post(run_url(run["id"], "artifacts"), json={"name": "x"})).json()
    assert refused(await lab.editor.put(artifact["uri"], content=b"x")) == (409, "no_store")
    assert refused(await lab.viewer.get(artifact["uri"])) == (409, "no_store")
    assert await Orphans(None, lab.hub.services.storage, lab.hub.services.clock).remove() == 0


async def test_a_store_that_is_away_is_answered_with_503(
    hub_settings: dict[str, Any], bucket: Place, free_port: int
) -> None:
    away = bucket.settings | {"artifacts_endpoint": f"http://127.0.0.1:{free_port}", "artifacts_timeout_s": 0.3}
    async with running_hub(HubSettings(**hub_settings, **away)) as hub:
        shelf = await new_shelf(await furnish(hub), bucket)
        artifact = await shelf.new()
        answer = await shelf.lab.editor.put(artifact["uri"], content=b"x")
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert not (await shelf.shown(artifact))["stored"]
        orphans = Orphans(hub.services.contents, hub.services.storage, hub.services.clock)
        assert await orphans.remove() == 0


async def test_what_no_artifact_names_is_removed_after_a_day_without_name(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, cut_off = await shelf.filled(b"kept"), await shelf.new()
    services = shelf.lab.hub.services

    async def away(*_: object) -> None:
        raise StorageUnavailable("the database went away")

    with monkeypatch.context() as patch:
        patch.setattr("hub.runs.artifacts.store.set_content", away)
        assert (await shelf.lab.editor.put(cut_off["uri"], content=b"cut off")).status_code == 503
    shelf.place.put("not/ours", b"x")
    assert len(shelf.place.contents()) == 3
    orphans, now = orphans_at(shelf), services.now()
    day, minute = KEEP, timedelta(minutes=1)
    for later, removed in ((day - minute, 0), (day + minute, 0), (2 * day, 0), (2 * day + minute, 1), (4 * day, 0)):
        orphans._clock = SetClock(now + later)  # type: ignore[assignment]
        assert await orphans.remove() == removed, later
    assert len(shelf.place.contents()) == 2
    assert "not/ours" in shelf.place.contents()
    assert (await shelf.lab.viewer.get(kept["uri"])).content == b"kept"


async def test_a_database_that_was_put_back_begins_the_day_anew(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"newer than the copy")
    await folder_shelf.lab.execute("delete from artifacts")
    orphans, now = orphans_at(folder_shelf), folder_shelf.lab.hub.services.now()
    orphans._clock = SetClock(now + 2 * KEEP)  # type: ignore[assignment]
    assert await orphans.remove() == 0
    orphans._incarnation = uuid4()
    orphans._clock = SetClock(now + 4 * KEEP)  # type: ignore[assignment]
    assert await orphans.remove() == 0
    orphans._clock = SetClock(now + 5 * KEEP)  # type: ignore[assignment]
    assert await orphans.remove() == 1
    assert (await folder_shelf.lab.viewer.get(artifact["uri"])).status_code == 404


def orphans_at(shelf: Shelf) -> Orphans:
    services = shelf.lab.hub.services
    return Orphans(services.contents, services.storage, services.clock)


async def test_only_so_many_transfers_are_under_way(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"x")
    contents = folder_shelf.lab.hub.services.contents
    assert contents is not None
    contents._transfers_max = 0
    for answer in (
        await folder_shelf.lab.editor.put(artifact["uri"], content=b"y"),
        await folder_shelf.lab.viewer.get(artifact["uri"]),
    ):
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


async def test_a_content_that_cannot_be_removed_now_is_left_to_upkeep(
    bucket: Place, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    contents = bucket.open(artifacts_endpoint=f"http://127.0.0.1:{free_port}", artifacts_timeout_s=0.3)
    await discard(contents, "aa/left")
    assert "event=content_left key=aa/left" in caplog.text
    await discard(None, "aa/left")
    await discard(contents, None)


@pytest.mark.parametrize("header", ["", "md5=:abc:", "sha-512=:abc:", "nonsense"])
def test_other_digests_say_nothing(header: str) -> None:
    assert checksum_of_digest(header) is None
