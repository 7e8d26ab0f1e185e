"""The hub's user in the file of Mosquitto's dynamic security, before the broker starts."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.broker import plugin_file, rights
from hub.broker.link import BrokerLink
from hub.broker.provisioners import new_provisioner
from hub.cli import main
from hub.database.ids import uuid7
from hub.settings import HubSettings
from shared.errors import ConfigurationError
from tests.fixtures.servers import Mosquitto
from tests.hub.broker.conftest import running


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def configured(folder: Path, username: str = "relay", password: str = "drawn-at-random") -> Path:
    secret = folder / "mqtt-password"
    secret.write_text(password + "\n")
    config = folder / "hub.toml"
    config.write_text(f"mqtt_username = '{username}'\nmqtt_password_file = '{secret}'\n")
    return config


def test_a_file_is_made_that_its_owner_alone_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dynamic-security.json"
    assert main(["broker-user", str(file), "--config", str(configured(tmp_path))]) == 0
    assert "relay is in" in capsys.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [client["username"] for client in content(file)["clients"]] == ["relay"]
    assert "drawn-at-random" not in file.read_text()
    assert not content(file)["defaultACLAccess"]["subscribe"]


def test_others_stay_and_the_password_is_the_latest(tmp_path: Path) -> None:
    file = tmp_path / "dynamic-security.json"
    plugin_file.write(file, "relay", "first")
    held = content(file)
    held["clients"].append({"username": "agent-1"})
    held["roles"].append({"rolename": "agent-1"})
    file.write_text(json.dumps(held))
    plugin_file.write(file, "relay", "second")
    again = content(file)
    assert [client["username"] for client in again["clients"]] == ["relay", "agent-1"]
    assert [role["rolename"] for role in again["roles"]] == ["hub", "agent-1"]
    assert again["clients"][0]["password"] != held["clients"][0]["password"]


@pytest.mark.parametrize("lost", ["password", "role", "right", "disabled", None])
def test_nothing_is_written_where_the_user_is_there_already(tmp_path: Path, lost: str | None) -> None:
    """Also as the plugin has written it, in another order and with more."""
    file = tmp_path / "dynamic-security.json"
    assert plugin_file.write(file, "relay", "secret")
    held = content(file)
    held["clients"][0]["textName"] = "another"
    held["roles"][0]["acls"].reverse()
    if lost == "role":
        held["clients"][0]["roles"] = []
    elif lost == "right":
        held["roles"][0]["acls"].pop()
    elif lost == "disabled":
        held["clients"][0]["disabled"] = True
    file.write_text(json.dumps(held))
    assert plugin_file.write(file, "relay", "other" if lost == "password" else "secret") == (lost is not None)
    assert not plugin_file.write(file, "relay", "other" if lost == "password" else "secret")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"clients": 1}', '{"clients": [1]}'])
def test_what_is_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dynamic-security.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="no file of the dynamic security"):
        plugin_file.write(file, "relay", "secret")
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        plugin_file.write(tmp_path / "missing" / "file.json", "relay", "secret")


def test_without_a_user_in_the_settings_there_is_nothing_to_write(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text("mqtt_username = 'relay'\n")
    with pytest.raises(ConfigurationError, match="mqtt_password_file"):
        main(["broker-user", str(tmp_path / "file.json"), "--config", str(config)])


async def test_a_broker_lets_that_user_make_others(tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]) -> None:
    broker = new_mosquitto()
    assert broker.broker.spec.directory is not None
    file = broker.broker.spec.directory / "dynamic-security.json"
    plugin_file.write(file, "relay", "drawn-at-random")
    configured(tmp_path)
    settings = HubSettings(
        mqtt_port=broker.port,
        mqtt_username="relay",
        mqtt_password_file=tmp_path / "mqtt-password",
        broker_provisioning="dynsec",
    )
    await asyncio.to_thread(broker.start)
    link = BrokerLink(settings)
    provisioner = new_provisioner(settings, link)
    agent_id = uuid7()
    async with running(link):
        await provisioner.issue(rights.agent_username(agent_id), rights.of_agent(agent_id))
        assert rights.agent_username(agent_id) in await provisioner.standing(rights.AGENT_PREFIX)
    broker.stop()
    assert not plugin_file.write(file, "relay", "drawn-at-random"), "as the plugin has written it, the user is there"
