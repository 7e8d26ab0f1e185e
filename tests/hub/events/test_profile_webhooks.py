"""What a webhook says of publications."""

from __future__ import annotations

from tests.fixtures.receiver import Receiver
from tests.hub.events.conftest import SECRET, Lab, until
from tests.hub.sensors.splitting import SPLIT, publish
from tests.hub.sessions.conftest import Lab as Sensors


async def test_a_webhook_says_what_a_profile_was_split_off_for(lab: Lab, receiver: Receiver) -> None:
    sensors = Sensors(lab.hub, lab.owner, lab.project_id)
    oven, run = await sensors.sensor("oven"), await sensors.run()
    session = await sensors.started(run, status="draft")
    await lab.subscribe(receiver.url(), "conversion_profile.published")
    profiles = [
        await publish(sensors, oven, SPLIT),
        await publish(sensors, oven, SPLIT, split={"run_ids": [run]}),
        await publish(sensors, oven, SPLIT, split={"capture_session_ids": [session["id"]]}),
    ]
    await until(lambda: len(receiver.requests) == len(profiles))
    assert all(one.is_signed(SECRET) for one in receiver.requests)
    told = {one.json["payload"]["profile_id"]: one.json["payload"] for one in receiver.requests}
    assert [told[one["id"]]["split"] for one in profiles] == [
        None,
        {"run_ids": [run], "capture_session_ids": []},
        {"run_ids": [], "capture_session_ids": [session["id"]]},
    ]
    assert {one["sensor_id"] for one in told.values()} == {oven}
