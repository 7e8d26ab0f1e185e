"""Sensors attached to a run over HTTP."""

from __future__ import annotations

from uuid import uuid4

from tests.hub.runs.conftest import Lab, fields_of, refused, run_url


async def new_sensor(lab: Lab, name: str, project_id: str = "") -> str:
    body = {"name": name, "project_id": project_id or lab.project_id}
    answer = await lab.owner.post("/api/v1/sensors", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sensor"]["id"])


async def test_a_run_has_the_sensors_that_were_set(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "sensors")
    assert (await lab.viewer.get(url)).json() == {"sensor_ids": [], "sensors": []}
    oven, fan, lamp = [await new_sensor(lab, name) for name in ("oven", "fan", "Lamp")]
    answer = await lab.editor.put(url, json={"sensor_ids": [oven, fan, oven], "run_id": run["id"]})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json()["sensor_ids"] == [fan, oven]
    assert [(one["id"], one["name"], one["status"]) for one in answer.json()["sensors"]] == [
        (fan, "fan", "registering"),
        (oven, "oven", "registering"),
    ]
    since = {one["id"]: one["attached_at"] for one in answer.json()["sensors"]}
    changed = (await lab.editor.put(url, json={"sensor_ids": [lamp, oven]})).json()
    assert changed["sensor_ids"] == [lamp, oven]
    assert changed["sensors"][1]["attached_at"] == since[oven]
    shown = await lab.viewer.get(url)
    assert (shown.json(), shown.headers["etag"]) == (changed, '"3"')
    told = (await lab.events(run["id"]))[-1]
    assert told["event_type"] == "run.sensors_changed"
    assert told["payload"]["sensor_ids"] == sorted([lamp, oven])
    assert told["payload"]["previous_sensor_ids"] == sorted([fan, oven])


async def test_the_same_sensors_again_change_nothing(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "sensors")
    oven = await new_sensor(lab, "oven")
    for _ in range(2):
        answer = await lab.editor.put(url, json={"sensor_ids": [oven]}, headers={"If-Match": "*"})
        assert answer.headers["etag"] == '"2"'
    assert (await lab.event_types(run["id"]))[1:] == ["run.sensors_changed"]
    assert (await lab.editor.put(url, json={"sensor_ids": []}, headers={"If-Match": '"1"'})).status_code == 412
    assert (await lab.editor.put(url, json={"sensor_ids": []})).json() == {"sensor_ids": [], "sensors": []}


async def test_sensors_of_other_projects_and_decommissioned_ones_are_refused_by_place(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "sensors")
    oven, old = await new_sensor(lab, "oven"), await new_sensor(lab, "old")
    other = (await lab.owner.post("/projects", json={"name": "Other"})).json()["id"]
    foreign = await new_sensor(lab, "foreign", other)
    await lab.editor.put(url, json={"sensor_ids": [oven]})
    await lab.execute("update sensors set status = 'decommissioned' where name in ('oven', 'old')")
    answer = await lab.editor.put(url, json={"sensor_ids": [oven, old, foreign, str(uuid4())]})
    assert (answer.status_code, fields_of(answer)) == (422, ["sensor_ids.1", "sensor_ids.2", "sensor_ids.3"])
    assert (await lab.viewer.get(url)).json()["sensor_ids"] == [oven]
    await lab.owner.post(f"/api/v1/sensors/{foreign}/projects", json={"project_id": lab.project_id})
    assert (await lab.editor.put(url, json={"sensor_ids": [oven, foreign]})).status_code == 200


async def test_what_may_not_be_set_is_refused(lab: Lab) -> None:
    run = await lab.new_run()
    url = run_url(run["id"], "sensors")
    for body, field in (
        ({"sensor_ids": None}, "sensor_ids"),
        ({"sensor_ids": ["x"]}, "sensor_ids.0"),
        ({"sensor_ids": [str(uuid4()) for _ in range(1001)]}, "sensor_ids"),
        ({"sensor_ids": [], "run_id": str(uuid4())}, "run_id"),
        ({"sensor_ids": [], "project_id": str(uuid4())}, "project_id"),
        ({"sensor_ids": [], "names": []}, "names"),
    ):
        answer = await lab.editor.put(url, json=body)
        assert (answer.status_code, fields_of(answer)) == (422, [field]), body
    assert (await lab.viewer.put(url, json={"sensor_ids": []})).status_code == 403
    assert (await lab.stranger.put(url, json={"sensor_ids": []})).status_code == 404
    assert (await lab.stranger.get(url)).status_code == 404
    await lab.set_status(run["id"], "archived")
    assert refused(await lab.editor.put(url, json={"sensor_ids": []})) == (409, "run_archived")
