"""Credentials for the broker over HTTP, and what they may read as memberships come and go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from hub.accounts import broker_credential_routes
from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub

PATH = "/auth/broker-credentials"


@pytest.fixture
async def hub(hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub that gives out credentials in a file."""
    more: dict[str, Any] = {
        "broker_provisioning": "file",
        "broker_credentials_file": tmp_path / "credentials.json",
        "agent_mqtt_host": "broker.lab",
    }
    async with running_hub(HubSettings(**hub_settings, **more)) as running:
        yield running


def _reach(hub: Hub) -> dict[str, list[str]]:
    """What each user at the broker may read."""
    file = hub.settings.broker_credentials_file
    assert file is not None
    return {name: user["subscribe"] for name, user in json.loads(file.read_text())["users"].items()}


async def _follow(hub: Hub) -> None:
    hub.services.member_rights.compare()
    await hub.services.member_rights.once()


async def test_the_password_is_shown_once_and_a_repeat_makes_nothing(hub: Hub) -> None:
    async with aclosing(await hub.member("ann")) as ann:
        key = {"Idempotency-Key": "k"}
        first = await ann.post(PATH, json={"name": "plot"}, headers=key)
        again = await ann.post(PATH, json={"name": "plot"}, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        made = first.json()
        assert made["password"]
        assert again.json() == made | {"password": None}
        listed = (await ann.get(PATH)).json()
        assert listed["broker_credentials"] == [made["broker_credential"]]
        assert (made["broker_credential"]["host"], made["broker_credential"]["topics"]) == ("broker.lab", [])
        async with hub.services.pool.acquire() as connection:
            kept = await connection.fetchval("select string_agg(t::text, '') from idempotency_keys t")
        assert made["password"] not in kept
    async with aclosing(await hub.member("eve")) as eve:
        path = f"{PATH}/{made['broker_credential']['id']}"
        assert (await eve.delete(path)).status_code == 404
        assert (await eve.get(PATH)).json()["total"] == 0


async def test_a_deactivated_member_reads_nothing_until_he_is_let_in_again(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as admin, aclosing(await hub.member("ann")) as ann:
        await ann.post("/projects", json={"name": "mine"})
        made = (await ann.post(PATH, json={"name": "plot"})).json()["broker_credential"]
        user_id = (await ann.get("/auth/me")).json()["id"]
        for active in (False, True):
            answer = await admin.patch(f"/auth/users/{user_id}", json={"is_active": active})
            assert answer.status_code == 200, answer.text
            await _follow(hub)
            assert sorted(_reach(hub)[made["username"]]) == (sorted(made["topics"]) if active else [])


async def test_what_belongs_to_nobody_goes_and_what_the_broker_lost_is_shown(hub: Hub) -> None:
    async with aclosing(await hub.member("ann")) as ann:
        lost, kept = [(await ann.post(PATH, json={"name": name})).json()["broker_credential"] for name in "ab"]
        await hub.services.provisioner.void(lost["username"])
        await _follow(hub)
        status = {one["id"]: one["status"] for one in (await ann.get(PATH)).json()["broker_credentials"]}
        assert status == {lost["id"]: "lost", kept["id"]: "active"}
        async with hub.services.pool.acquire() as connection:
            await connection.execute("delete from users where username = 'ann'")
        await _follow(hub)
        assert _reach(hub) == {}


async def test_there_is_a_limit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_credential_routes, "CREDENTIALS_MAX", 1)
    async with aclosing(await hub.member("ann")) as ann:
        assert (await ann.post(PATH, json={"name": "a"})).status_code == 201
        answer = await ann.post(PATH, json={"name": "b"})
        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_credentials")


async def test_a_hub_that_hands_out_none_says_what_to_set(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings)) as plain, aclosing(await plain.member("ann")) as ann:
        answer = await ann.post(PATH, json={"name": "plot"})
        assert (answer.status_code, answer.json()["code"]) == (409, "provisioning_refused")
        assert "broker_provisioning" in answer.json()["detail"]
        assert (await ann.get(PATH)).json()["total"] == 0
