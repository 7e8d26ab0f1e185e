"""Agents get credentials that open their own topics and no others."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from pathlib import Path
from uuid import UUID

import aiomqtt
import pytest

from hub.broker import dynamic_security, rights
from hub.broker import link as link_module
from hub.broker.credentials_file import CredentialsFile
from hub.broker.link import BrokerLink
from hub.broker.provision import BrokerAccess, ByHand, Provisioner, ProvisioningRefused
from hub.broker.provisioners import new_provisioner
from hub.broker.rights import Rights
from hub.database.ids import uuid7
from hub.settings import HubSettings
from shared import topics
from shared.errors import ConfigurationError
from tests.fixtures.servers import Mosquitto
from tests.hub.broker.conftest import running


async def _enrol(provisioner: Provisioner, agent_id: UUID) -> BrokerAccess:
    return await provisioner.issue(rights.agent_username(agent_id), rights.of_agent(agent_id))


def _as_agent(broker: Mosquitto, access: BrokerAccess) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, username=access.username, password=access.password, timeout=5)


async def test_an_agent_writes_and_reads_its_own_topics_and_no_others(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    link, seen = BrokerLink(broker_settings), asyncio.Queue[tuple[object, bytes]]()
    provisioner = new_provisioner(broker_settings, link)

    async def note(message: object) -> None:
        await seen.put((message.agent_id, message.payload))  # type: ignore[attr-defined]

    link.handle("state", note)
    mine, other = uuid7(), uuid7()
    async with running(link):
        access = await _enrol(provisioner, mine)
        async with _as_agent(mosquitto, access) as agent:
            await agent.publish(topics.up(other, "state"), b"forged", qos=1)
            await agent.publish(topics.up(mine, "state"), b"own", qos=1)
            assert await asyncio.wait_for(seen.get(), 10) == (mine, b"own")
            codes = await agent.subscribe([(topics.down(mine, "ack"), 1), (topics.down(other, "ack"), 1)])
            assert [getattr(code, "value", code) for code in codes] == [1, 128]
            await link.publish(topics.down(mine, "ack"), b"told")
            message = await asyncio.wait_for(anext(aiter(agent.messages)), 10)
            assert message.payload == b"told"
    assert seen.empty()


async def test_new_credentials_void_the_old_ones_and_revoked_ones_open_nothing(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    link = BrokerLink(broker_settings)
    provisioner = new_provisioner(broker_settings, link)
    agent_id = uuid7()
    async with running(link):
        first = await _enrol(provisioner, agent_id)
        second = await _enrol(provisioner, agent_id)
        assert await _opens(mosquitto, second)
        assert not await _opens(mosquitto, first)
        await provisioner.void(rights.agent_username(agent_id))
        await provisioner.void(rights.agent_username(agent_id))
        assert not await _opens(mosquitto, second)


async def _opens(broker: Mosquitto, access: BrokerAccess) -> bool:
    with contextlib.suppress(aiomqtt.MqttError):
        async with _as_agent(broker, access):
            return True
    return False


async def test_the_credentials_file_keeps_others_and_holds_a_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"users": {"hub": {"salt": "00"}}}))
    path.chmod(0o600)
    provisioner, agent_id = CredentialsFile(path), uuid7()
    access = await _enrol(provisioner, agent_id)
    users = json.loads(path.read_text())["users"]
    assert users["hub"] == {"salt": "00"}
    user = users[access.username]
    digest = hashlib.scrypt(access.password.encode(), salt=bytes.fromhex(user["salt"]), n=2**14, r=8, p=1, dklen=32)
    assert user["hash"] == digest.hex()
    assert user["publish"] == [f"labrelay/v1/agents/{agent_id}/up/#"]
    assert access.password not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    await provisioner.void(rights.agent_username(agent_id))
    assert json.loads(path.read_text())["users"] == {"hub": {"salt": "00"}}
    assert [child.name for child in tmp_path.iterdir()] == ["credentials.json"]


async def test_a_damaged_credentials_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text("not json")
    with pytest.raises(ProvisioningRefused):
        await _enrol(CredentialsFile(path), uuid7())
    assert path.read_text() == "not json"


async def test_without_provisioning_enrolment_says_what_to_set() -> None:
    settings = HubSettings()
    provisioner = new_provisioner(settings, BrokerLink(settings))
    assert isinstance(provisioner, ByHand)
    with pytest.raises(ProvisioningRefused, match="broker_provisioning"):
        await _enrol(provisioner, uuid7())


async def test_a_file_must_be_named() -> None:
    settings = HubSettings(broker_provisioning="file")
    with pytest.raises(ConfigurationError):
        new_provisioner(settings, BrokerLink(settings))


async def test_rights_that_change_are_the_brokers_at_once_and_keep_the_password(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    link = BrokerLink(broker_settings)
    provisioner = new_provisioner(broker_settings, link)
    first, second = rights.of_member([uuid7()]), rights.of_member([uuid7(), uuid7()])
    prefix = f"member-{uuid7()}"
    async with running(link):
        access = await provisioner.issue(f"{prefix}-a", first)
        assert await provisioner.standing(prefix) == {f"{prefix}-a": first}
        assert await provisioner.limit(f"{prefix}-a", second)
        assert await provisioner.standing(prefix) == {f"{prefix}-a": second}
        assert await _opens(mosquitto, access)
        assert not await provisioner.limit(f"{prefix}-b", first), "nobody is made by giving rights"
        await provisioner.void(f"{prefix}-a")
        assert await provisioner.standing(prefix) == {}


async def test_a_broker_with_more_users_than_a_page_shows_them_all(
    mosquitto: Mosquitto, broker_settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_security, "PAGE_SIZE", 2)
    link = BrokerLink(broker_settings)
    provisioner = new_provisioner(broker_settings, link)
    prefix = f"member-{uuid7()}"
    names = {f"{prefix}-{number}" for number in range(5)}
    async with running(link):
        for name in names:
            await provisioner.issue(name, Rights())
        assert (await provisioner.standing(prefix)).keys() == names
        for name in names:
            await provisioner.void(name)


async def test_the_credentials_file_shows_and_changes_rights(tmp_path: Path) -> None:
    provisioner = CredentialsFile(tmp_path / "credentials.json")
    assert await provisioner.standing("member-") == {}
    assert not (tmp_path / "credentials.json").exists(), "looking writes nothing"
    await provisioner.issue("member-a", Rights(subscribe=frozenset({"a/#"})))
    await _enrol(provisioner, uuid7())
    before = json.loads((tmp_path / "credentials.json").read_text())["users"]["member-a"]
    assert await provisioner.limit("member-a", Rights(subscribe=frozenset({"b/#"})))
    assert not await provisioner.limit("member-b", Rights())
    assert await provisioner.standing("member-") == {"member-a": Rights(subscribe=frozenset({"b/#"}))}
    after = json.loads((tmp_path / "credentials.json").read_text())["users"]["member-a"]
    assert after == before | {"subscribe": ["b/#"]}


async def test_who_is_cancelled_as_the_answer_comes_is_cancelled() -> None:
    settings = HubSettings(broker_provisioning="dynsec")
    link = BrokerLink(settings)
    asked = asyncio.Queue[bytes]()

    async def publish(topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        await asked.put(payload)

    link.publish = publish  # type: ignore[method-assign]
    provisioner = new_provisioner(settings, link)
    voiding = asyncio.create_task(provisioner.void("agent-1"))
    (command,) = json.loads(await asked.get())["commands"]
    await asyncio.sleep(0)
    answer = {"command": command["command"], "correlationData": command["correlationData"]}
    link._route(link_module.CONTROL_RESPONSE, json.dumps({"responses": [answer]}).encode(), False)
    voiding.cancel()
    await asyncio.wait([voiding])
    assert voiding.cancelled()
    assert asked.empty(), "no further command"
