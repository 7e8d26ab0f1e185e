"""What is said of artifacts over HTTP, and their approval."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from hub.database.pool import acquire
from tests.hub.runs.artifacts.conftest import Shelf
from tests.hub.runs.conftest import Lab, fields_of, refused, run_url

ARTIFACT = {
    "id", "run_id", "project_id", "name", "type", "uri", "stored", "checksum", "size", "content_type", "metadata",
    "created_by", "created_at", "updated_at", "approved_by", "approved_at", "version",
}  # fmt: skip


async def test_an_artifact_that_is_kept_elsewhere_is_only_described(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "artifacts")
    said = {
        "name": "scan.tif",
        "type": "image",
        "uri": "s3://other/scan.tif",
        "checksum": "md5:900150983cd24fb0d6963f7d28e17f72",
        "size": 123,
        "content_type": "image/tiff; charset=binary",
        "metadata": {"gain": 2.5},
    }
    answer = await lab.editor.post(url, json=said | {"run_id": run["id"], "project_id": lab.project_id})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    artifact = answer.json()
    assert set(artifact) == ARTIFACT
    assert {name: artifact[name] for name in said} == said
    assert (artifact["stored"], artifact["approved_by"], artifact["approved_at"]) == (False, None, None)
    assert artifact["created_by"] == (await lab.editor.get("/auth/me")).json()["id"]
    shown = await lab.viewer.get(f"{url}/{artifact['id']}")
    assert (shown.json(), shown.headers["etag"]) == (artifact, '"1"')
    changed = await lab.editor.patch(f"{url}/{artifact['id']}", json={"uri": "s3://new/scan.tif", "size": 5})
    assert (changed.json()["uri"], changed.json()["size"], changed.json()["name"]) == (
        "s3://new/scan.tif",
        5,
        "scan.tif",
    )
    assert changed.headers["etag"] == '"2"'
    assert (await lab.editor.delete(f"{url}/{artifact['id']}")).status_code == 204
    assert (await lab.viewer.get(f"{url}/{artifact['id']}")).status_code == 404
    told = (await lab.events(run["id"]))[1:]
    assert [event["event_type"] for event in told] == ["artifact.created", "artifact.updated", "artifact.deleted"]
    assert {event["subject_type"] for event in told} == {"artifact"}
    assert told[0]["payload"]["artifact"] == artifact


async def test_artifacts_are_listed_newest_first(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "artifacts")
    made = [(await lab.editor.post(url, json={"uri": f"file:///{n}", "type": f"t{n % 2}"})).json() for n in range(3)]
    await lab.owner.post(f"{url}/{made[0]['id']}/approve")
    listed = (await lab.viewer.get(url)).json()
    assert [one["id"] for one in listed["artifacts"]] == [one["id"] for one in reversed(made)]
    assert (listed["total"], listed["page"], listed["page_size"]) == (3, 1, 50)
    for query, found in (({"type": "t0"}, 2), ({"approved": "true"}, 1), ({"approved": "false", "type": "t0"}, 1)):
        assert (await lab.viewer.get(url, params=query)).json()["total"] == found, query


async def test_what_is_no_artifact_is_refused_by_field(folder_shelf: Shelf) -> None:
    lab, url = folder_shelf.lab, folder_shelf.url
    for body, field in (
        ({"uri": ""}, "uri"),
        ({"uri": "JavaScript:alert(1)"}, "uri"),
        ({"uri": "data:text/html,x"}, "uri"),
        ({"uri": "x\ny"}, "uri"),
        ({"name": "x" * 201}, "name"),
        ({"type": "\0"}, "type"),
        ({"checksum": "x y"}, "checksum"),
        ({"size": -1}, "size"),
        ({"size": 1 << 60}, "size"),
        ({"content_type": "text/html\r\nX: y"}, "content_type"),
        ({"content_type": "tëxt/html"}, "content_type"),
        ({"metadata": []}, "metadata"),
        ({"stored": True}, "stored"),
        ({"approved_by": str(uuid4())}, "approved_by"),
        ({"run_id": str(uuid4())}, "run_id"),
        ({"project_id": str(uuid4())}, "project_id"),
    ):
        answer = await lab.editor.post(url, json={"name": "x", **body})
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    md5 = await lab.editor.post(url, json={"checksum": "md5:900150983cd24fb0d6963f7d28e17f72"})
    assert md5.status_code == 422
    assert "checksum" in md5.json()["detail"]
    artifact = await folder_shelf.new()
    for body, field in (({"uri": "s3://x"}, "uri"), ({"checksum": "a"}, "checksum"), ({"size": 1}, "size")):
        answer = await lab.editor.patch(f"{url}/{artifact['id']}", json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    for empty in ({}, {"name": None}):
        assert (await lab.editor.patch(f"{url}/{artifact['id']}", json=empty)).status_code == 422


async def test_who_may_not_is_told_so(folder_shelf: Shelf) -> None:
    lab = folder_shelf.lab
    artifact = await folder_shelf.filled(b"x")
    one = f"{folder_shelf.url}/{artifact['id']}"
    for method, url in (("PATCH", one), ("DELETE", one), ("POST", folder_shelf.url), ("PUT", f"{one}/content")):
        assert (await lab.viewer.request(method, url, json={"name": "x"})).status_code == 403
        assert (await lab.stranger.request(method, url, json={"name": "x"})).status_code == 404
        assert (await lab.hub.client().request(method, url, json={"name": "x"})).status_code == 401
    for method in ("POST", "DELETE"):
        assert (await lab.editor.request(method, f"{one}/approve")).status_code == 403
        assert (await lab.stranger.request(method, f"{one}/approve")).status_code == 404
    for url in (folder_shelf.url, one, f"{one}/content"):
        assert (await lab.viewer.get(url)).status_code == 200
        assert (await lab.stranger.get(url)).status_code == 404
    other = await lab.new_run("other")
    assert (await lab.owner.get(f"{run_url(other['id'])}/artifacts/{artifact['id']}")).status_code == 404
    assert (await lab.owner.get(f"{run_url(other['id'])}/artifacts/{artifact['id']}/content")).status_code == 404


async def test_what_an_owner_has_approved_stays_as_it_is(folder_shelf: Shelf) -> None:
    lab = folder_shelf.lab
    artifact = await folder_shelf.new(name="report.pdf")
    one = f"{folder_shelf.url}/{artifact['id']}"
    assert refused(await lab.owner.post(f"{one}/approve")) == (409, "no_content")
    await lab.editor.put(artifact["uri"], content=b"first")
    late = await lab.owner.post(f"{one}/approve", headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
    approved = (await lab.owner.post(f"{one}/approve", headers={"If-Match": '"2"'})).json()
    assert approved["approved_by"] == (await lab.owner.get("/auth/me")).json()["id"]
    assert (approved["approved_at"] is not None, approved["version"]) == (True, 3)
    assert (await lab.owner.post(f"{one}/approve")).json() == approved
    for answer in (
        await lab.owner.patch(one, json={"name": "x"}),
        await lab.owner.delete(one),
        await lab.owner.put(artifact["uri"], content=b"second"),
    ):
        assert refused(answer) == (409, "artifact_approved")
    assert (await lab.viewer.get(artifact["uri"])).content == b"first"
    withdrawn = (await lab.owner.delete(f"{one}/approve")).json()
    assert (withdrawn["approved_by"], withdrawn["approved_at"]) == (None, None)
    assert (await lab.editor.put(artifact["uri"], content=b"second")).status_code == 200
    told = await lab.event_types(folder_shelf.run_id)
    assert told[1:] == [
        "artifact.created",
        "artifact.uploaded",
        "artifact.approved",
        "artifact.approval_withdrawn",
        "artifact.uploaded",
    ]


async def test_a_key_makes_an_artifact_once(lab: Lab) -> None:
    url = run_url((await lab.new_run())["id"], "artifacts")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.post(url, json={"name": "x"}, headers={"Idempotency-Key": "k"}))
            for _ in range(10)
        ]
    assert len({task.result().text for task in tasks}) == 1
    assert (await lab.viewer.get(url)).json()["total"] == 1


async def test_of_two_changes_of_one_version_one_wins(lab: Lab) -> None:
    url = run_url((await lab.new_run())["id"], "artifacts")
    one = f"{url}/{(await lab.editor.post(url, json={'uri': 's3://x'})).json()['id']}"
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.patch(one, json={"name": str(n)}, headers={"If-Match": '"1"'}))
            for n in range(6)
        ]
    assert sorted(task.result().status_code for task in tasks) == [200, *[412] * 5]
    assert (await lab.editor.delete(one, headers={"If-Match": '"1"'})).status_code == 412


async def test_artifacts_of_a_removed_run_are_gone(folder_shelf: Shelf) -> None:
    artifact = await folder_shelf.filled(b"x")
    assert (await folder_shelf.lab.editor.delete(run_url(folder_shelf.run_id))).status_code == 204
    assert (await folder_shelf.lab.owner.get(artifact["uri"])).status_code == 404
    async with acquire(folder_shelf.lab.hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from artifacts") == 0
