"""Experiments over HTTP: who may do what, lists, changes, statuses, versions, what is told."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from tests.hub.experiments.conftest import EXPERIMENTS, Lab


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["experiments"]]


def field_of(answer: httpx.Response) -> str:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["errors"][0]["field"])


async def test_a_new_experiment_is_a_draft_of_whoever_made_it(lab: Lab) -> None:
    answer = await lab.ann.post(
        EXPERIMENTS,
        params={"project_id": lab.project},
        json={
            "name": " Annealing ",
            "description": "Of steel",
            "experiment_type": "thermal",
            "tags": [" zinc", "zinc", "high  vacuum"],
            "metadata": {"batch": 7, "by": {"hand": True}},
        },
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    me = (await lab.ann.get("/auth/me")).json()
    assert made == {
        "id": made["id"],
        "project_id": lab.project,
        "owner_id": me["id"],
        "name": "Annealing",
        "description": "Of steel",
        "experiment_type": "thermal",
        "tags": ["zinc", "high vacuum"],
        "metadata": {"batch": 7, "by": {"hand": True}},
        "status": "draft",
        "archived_at": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "version": 1,
    }
    shown = await lab.ann.get(f"{EXPERIMENTS}/{made['id']}")
    assert shown.json() == made
    assert answer.headers["etag"] == shown.headers["etag"] == '"1"'


async def test_a_new_experiment_may_have_a_status_that_follows_draft(lab: Lab) -> None:
    for status, code in (("running", 201), ("archived", 201), ("succeeded", 409), ("failed", 409)):
        answer = await lab.ann.post(EXPERIMENTS, json={"project_id": lab.project, "name": status, "status": status})
        assert answer.status_code == code, answer.text
        if code == 201:
            assert answer.json()["status"] == status
            assert (answer.json()["archived_at"] is not None) == (status == "archived")


async def test_a_new_experiment_needs_one_project(lab: Lab) -> None:
    neither = await lab.ann.post(EXPERIMENTS, json={"name": "A"})
    two = await lab.ann.post(
        EXPERIMENTS, params={"project_id": str(uuid4())}, json={"name": "A", "project_id": lab.project}
    )
    nowhere = await lab.ann.post(EXPERIMENTS, json={"name": "A", "project_id": str(uuid4())})
    assert field_of(neither) == field_of(two) == "project_id"
    assert nowhere.status_code == 404


async def test_names_are_unique_in_a_project_whatever_the_case(lab: Lab) -> None:
    await lab.add("Annealing")
    other = await lab.add("Quenching")
    again = await lab.ann.post(EXPERIMENTS, json={"project_id": lab.project, "name": "ANNEALING"})
    renamed = await lab.ann.patch(f"{EXPERIMENTS}/{other['id']}", json={"name": "annealing"})
    for refused in (again, renamed):
        assert (refused.status_code, refused.json()["code"]) == (409, "taken")
    elsewhere = await lab.ann.post(
        EXPERIMENTS, json={"project_id": await lab.new_project("Other"), "name": "Annealing"}
    )
    assert elsewhere.status_code == 201
    assert (await lab.ann.patch(f"{EXPERIMENTS}/{other['id']}", json={"name": "QUENCHING"})).status_code == 200


async def test_one_key_makes_one_experiment(lab: Lab) -> None:
    body, headers = {"project_id": lab.project, "name": "Annealing"}, {"Idempotency-Key": "k-1"}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lab.ann.post(EXPERIMENTS, json=body, headers=headers)) for _ in range(50)]
    answers = [task.result() for task in tasks]
    assert {answer.status_code for answer in answers} == {201}, answers[0].text
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await lab.ann.post(EXPERIMENTS, json={**body, "name": "Else"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert [event["event_type"] for event in await lab.events(answers[0].json()["id"])] == ["experiment.created"]


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": "x\0"}, "name"),
    ({"name": None}, "name"),
    ({"colour": "red"}, "colour"),
    ({"owner_id": str(uuid4())}, "owner_id"),
    ({"status": "lost"}, "status"),
    ({"tags": "zinc"}, "tags"),
    ({"tags": ["a,b"]}, "tags"),
    ({"tags": [str(number) for number in range(51)]}, "tags"),
    ({"tags": [1]}, "tags.0"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"a": "x" * 70_000}}, "metadata"),
    ({"metadata": {"a": 2**70}}, "metadata"),
    ({"metadata": {"a": "\0"}}, "metadata"),
    ({"description": 1}, "description"),
    ({"project_id": "lab"}, "project_id"),
]


async def test_what_an_experiment_cannot_be_is_refused_by_name(lab: Lab) -> None:
    path = f"{EXPERIMENTS}/{(await lab.add())['id']}"
    for fields, culprit in INVALID:
        made = await lab.ann.post(EXPERIMENTS, json={"project_id": lab.project, "name": "A", **fields})
        assert field_of(made) == culprit, fields
        if fields != {"name": None}:
            assert field_of(await lab.ann.patch(path, json=fields)) == culprit, fields


async def test_what_json_allows_and_a_database_does_not_is_refused(lab: Lab) -> None:
    path = f"{EXPERIMENTS}/{(await lab.add())['id']}"
    for text in ('{"metadata": {"a": NaN}}', '{"metadata": {"a": 1e999}}', '{"metadata": {"a": "\\ud800"}}'):
        answer = await lab.ann.patch(path, content=text, headers={"Content-Type": "application/json"})
        assert field_of(answer) == "metadata", text


async def test_lists_are_newest_first_and_paged(lab: Lab) -> None:
    for number in range(5):
        await lab.add(f"E{number}")
    everything = await lab.ann.get(EXPERIMENTS, params={"page_size": 5000})
    assert names(everything) == ["E4", "E3", "E2", "E1", "E0"]
    assert {key: everything.json()[key] for key in ("total", "page", "page_size")} == {
        "total": 5,
        "page": 1,
        "page_size": 100,
    }
    second = await lab.ann.get(EXPERIMENTS, params={"page": 2, "page_size": 2})
    assert (names(second), second.json()["total"], second.json()["page"]) == (["E2", "E1"], 5, 2)
    assert names(await lab.ann.get(EXPERIMENTS, params={"limit": 2, "offset": 3})) == ["E1", "E0"]
    assert names(await lab.ann.get(EXPERIMENTS, params={"page": 9})) == []


async def test_lists_take_filters(lab: Lab) -> None:
    other = await lab.new_project("Other")
    zinc = await lab.add("Zinc", tags=["zinc", "hot"], status="running")
    await lab.add("Tin", tags=["tin", "hot"])
    await lab.add("Elsewhere", project_id=other, tags=["hot", "zinc"])

    async def listed(**params: str) -> list[str]:
        return sorted(names(await lab.ann.get(EXPERIMENTS, params=params)))

    assert await listed(project_id=other) == ["Elsewhere"]
    assert await listed(status="running") == ["Zinc"]
    assert await listed(tags="hot") == ["Elsewhere", "Tin", "Zinc"]
    assert await listed(tags=" zinc , hot") == ["Elsewhere", "Zinc"]
    assert await listed(tags="zinc,hot", project_id=lab.project) == ["Zinc"]
    assert await listed(tags="HOT") == []
    assert await listed(tags=" , ") == ["Elsewhere", "Tin", "Zinc"]
    assert await listed(created_after=zinc["created_at"], created_before=zinc["created_at"]) == ["Zinc"]
    assert await listed(created_after="2999-01-01") == []
    assert await listed(created_before="2001-01-01T00:00:00+02:00") == []


async def test_filters_that_are_none_are_refused_by_name(lab: Lab) -> None:
    for name, value in (
        ("status", "lost"),
        ("project_id", "lab"),
        ("created_after", "yesterday"),
        ("created_before", "0001-01-01T00:00:00+14:00"),
        ("tags", "x" * 101),
        ("tags", "a\0"),
        ("tags", "x," * 4000),
        ("colour", "red"),
    ):
        for path in (EXPERIMENTS, f"{EXPERIMENTS}/export"):
            assert field_of(await lab.ann.get(path, params={name: value})) == name, (path, name)


async def test_outsiders_see_nothing_and_viewers_only_read(lab: Lab) -> None:
    experiment = await lab.add(tags=["zinc"])
    runs = [await lab.add_run(experiment["id"]) for _ in range(2)]
    path = f"{EXPERIMENTS}/{experiment['id']}"
    reads = (("GET", path, None), ("POST", f"{path}/compare", {"run_ids": runs}))
    writes = (
        ("PATCH", path, {"name": "Mine"}),
        ("POST", f"{path}/archive", None),
        ("POST", EXPERIMENTS, {"project_id": lab.project, "name": "Hers"}),
        ("DELETE", path, None),
    )
    eve, vic, eddy = await lab.hub.member("eve"), await lab.member("vic", "viewer"), await lab.member("eddy", "editor")
    for method, url, body in (*reads, *writes):
        assert (await eve.request(method, url, json=body)).status_code == 404, (method, url)
        assert (await lab.hub.client().request(method, url, json=body)).status_code == 401, (method, url)
    for listing in ("?", "/search?q=annealing&", "/export?format=json&"):
        mine = await eve.get(f"{EXPERIMENTS}{listing}")
        theirs = await eve.get(f"{EXPERIMENTS}{listing}project_id={lab.project}")
        assert (mine.json()["experiments"], theirs.status_code) == ([], 404)
    for method, url, body in reads:
        assert (await vic.request(method, url, json=body)).status_code == 200, (method, url)
    for method, url, body in writes:
        assert (await vic.request(method, url, json=body)).status_code == 403, (method, url)
        assert (await eddy.request(method, url, json=body)).status_code < 300, (method, url)


async def test_an_experiment_is_changed_field_by_field(lab: Lab) -> None:
    before = await lab.add(tags=["zinc"], metadata={"a": 1})
    path = f"{EXPERIMENTS}/{before['id']}"
    answer = await lab.ann.patch(
        path, json={"description": "Of tin", "tags": [], "metadata": {"a": True}, "project_id": lab.project}
    )
    after = answer.json()
    assert after == {
        **before,
        "description": "Of tin",
        "tags": [],
        "metadata": {"a": True},
        "updated_at": after["updated_at"],
        "version": 2,
    }
    assert after["metadata"]["a"] is True
    assert (answer.headers["etag"], after["updated_at"] > before["updated_at"]) == ('"2"', True)
    assert field_of(await lab.ann.patch(path, json={"project_id": str(uuid4()), "name": "B"})) == "project_id"


async def test_a_change_that_changes_nothing_is_none(lab: Lab) -> None:
    before = await lab.add(metadata={"a": 1})
    path = f"{EXPERIMENTS}/{before['id']}"
    same = {key: before[key] for key in ("name", "description", "tags", "metadata", "status")}
    assert (await lab.ann.patch(path, json=same)).json() == before
    assert [event["event_type"] for event in await lab.events(before["id"])] == ["experiment.created"]
    for empty in ({}, {"name": None}, {"project_id": lab.project}):
        assert (await lab.ann.patch(path, json=empty)).status_code == 422, empty


async def test_statuses_follow_their_order(lab: Lab) -> None:
    path = f"{EXPERIMENTS}/{(await lab.add())['id']}"
    for status, code in (
        ("succeeded", 409),
        ("draft", 200),
        ("running", 200),
        ("archived", 409),
        ("draft", 409),
        ("failed", 200),
        ("running", 409),
        ("archived", 200),
        ("archived", 200),
        ("draft", 409),
    ):
        answer = await lab.ann.patch(path, json={"status": status})
        assert answer.status_code == code, (status, answer.text)
        if code == 409:
            current = (await lab.ann.get(path)).json()["status"]
            assert answer.json()["detail"] == f"an experiment that is {current} cannot become {status}"
            assert (answer.json()["from_status"], answer.json()["to_status"]) == (current, status)


async def test_a_refused_status_leaves_the_other_fields_alone(lab: Lab) -> None:
    before = await lab.add()
    path = f"{EXPERIMENTS}/{before['id']}"
    assert (await lab.ann.patch(path, json={"name": "New", "status": "failed"})).status_code == 409
    assert (await lab.ann.get(path)).json() == before


async def test_archiving_says_when_and_once(lab: Lab) -> None:
    path = f"{EXPERIMENTS}/{(await lab.add())['id']}"
    first = await lab.ann.post(f"{path}/archive")
    again = await lab.ann.post(f"{path}/archive")
    assert (first.status_code, first.json()["status"], first.headers["etag"]) == (200, "archived", '"2"')
    assert first.json()["archived_at"] == first.json()["updated_at"]
    assert again.json() == first.json()
    running = await lab.add("Running", status="running")
    refused = await lab.ann.post(f"{EXPERIMENTS}/{running['id']}/archive")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")


async def test_everything_that_changes_is_told_with_what_was_before(lab: Lab) -> None:
    made = await lab.add()
    path = f"{EXPERIMENTS}/{made['id']}"
    await lab.ann.patch(path, json={"name": "Tempering", "description": "", "status": "running"})
    await lab.ann.patch(path, json={"status": "failed"})
    await lab.ann.post(f"{path}/archive")
    await lab.ann.delete(path)
    events = await lab.events(made["id"])
    told = [(event["event_type"], event["payload"].get("before"), event["payload"].get("after")) for event in events]
    assert told == [
        ("experiment.created", None, None),
        ("experiment.updated", {"name": "Annealing"}, {"name": "Tempering"}),
        ("experiment.status_changed", {"status": "draft"}, {"status": "running"}),
        ("experiment.status_changed", {"status": "running"}, {"status": "failed"}),
        ("experiment.status_changed", {"status": "failed"}, {"status": "archived"}),
        ("experiment.archived", None, None),
        ("experiment.deleted", None, None),
    ]
    assert events[0]["payload"] == made
    assert events[-1]["payload"]["name"] == "Tempering"
    assert {(str(event["project_id"]), event["actor_role"], event["is_public"]) for event in events} == {
        (lab.project, "owner", False)
    }


async def test_whoever_names_a_version_changes_that_one_or_none(lab: Lab) -> None:
    path = f"{EXPERIMENTS}/{(await lab.add())['id']}"
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.ann.patch(path, json={"name": f"N{number}"}, headers={"If-Match": '"1"'}))
            for number in range(10)
        ]
    answers = [task.result() for task in tasks]
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    for method, url in (("POST", f"{path}/archive"), ("DELETE", path)):
        refused = await lab.ann.request(method, url, headers={"If-Match": '"1"'})
        assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
    assert (await lab.ann.delete(path, headers={"If-Match": '"2"'})).status_code == 204


async def test_what_is_not_there_is_not_found(lab: Lab) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        answer = await lab.ann.request(method, f"{EXPERIMENTS}/{uuid4()}", json={"name": "A"})
        assert (answer.status_code, answer.json()["detail"]) == (404, "experiment not found")
