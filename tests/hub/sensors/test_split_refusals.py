"""What a profile cannot be split off for, and by whom it can."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from hub.sensors.views import SPLIT_MAX
from tests.hub.recalculation.test_tasks import draft, path
from tests.hub.sensors.splitting import SPLIT
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "split"),
    ({"run_ids": None}, "split"),
    ({"run_ids": ["RUN"], "capture_session_ids": ["SESSION"]}, "split"),
    ({"run_ids": []}, "split.run_ids"),
    ({"capture_session_ids": []}, "split.capture_session_ids"),
    ({"run_ids": ["RUN", "RUN"]}, "split.run_ids"),
    ({"run_ids": "RUN"}, "split.run_ids"),
    ({"run_ids": ["x"]}, "split.run_ids.0"),
    ({"run_ids": [7]}, "split.run_ids.0"),
    ({"run_ids": ["RUN", "SESSION"]}, "split.run_ids"),
    ({"run_ids": ["FOREIGN RUN"]}, "split.run_ids"),
    ({"capture_session_ids": ["RUN"]}, "split.capture_session_ids"),
    ({"capture_session_ids": ["FOREIGN SESSION"]}, "split.capture_session_ids"),
    ({"run_ids": [str(uuid4()) for _ in range(SPLIT_MAX + 1)]}, "split.run_ids"),
    ({"run_ids": ["RUN"], "colour": "red"}, "split.colour"),
]


async def test_what_a_split_cannot_be_for_is_refused_by_name(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    elsewhere = (await lab.owner.post("/projects", json={"name": "Elsewhere"})).json()["id"]
    foreign = Lab(lab.hub, lab.owner, elsewhere)
    await foreign.sensor("of another lab")
    foreign_run = await foreign.run()
    known = {
        "RUN": run,
        "SESSION": (await lab.started(run, status="draft"))["id"],
        "FOREIGN RUN": foreign_run,
        "FOREIGN SESSION": (await lab.started(foreign_run, status="draft"))["id"],
    }
    profile = await draft(lab, oven, "1", SPLIT)
    for body, field in REFUSED:
        meant = {
            name: [known.get(str(one), one) for one in ids] if isinstance(ids, list) else ids
            for name, ids in body.items()
        }
        answer = await lab.owner.post(f"{path(oven)}/{profile}/publish", json={"split": meant})
        assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field]), body
    too_many = {"split": {"run_ids": [str(uuid4()) for _ in range(SPLIT_MAX + 1)]}}
    answer = await lab.owner.post(f"{path(oven)}/{profile}/publish", json=too_many)
    assert "at most 1000" in answer.text
    (unchanged,) = (await lab.owner.get(path(oven))).json()["conversion_profiles"]
    assert (unchanged["status"], unchanged["split"]) == ("draft", None)


async def test_runs_of_any_project_of_the_sensor_can_be_named_by_their_members(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    elsewhere = (await lab.owner.post("/projects", json={"name": "Elsewhere"})).json()["id"]
    run = await Lab(lab.hub, lab.owner, elsewhere).run()
    shared = await lab.owner.post(f"/api/v1/sensors/{oven}/projects", json={"project_id": elsewhere})
    assert shared.status_code in (200, 201), shared.text
    second = await lab.member("bob", "owner")
    profile = await draft(lab, oven, "1", SPLIT)
    body = {"split": {"run_ids": [run]}}
    assert (await second.post(f"{path(oven)}/{profile}/publish", json=body)).status_code == 422
    assert (await lab.owner.post(f"{path(oven)}/{profile}/publish", json=body)).status_code == 200
