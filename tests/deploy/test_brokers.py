"""Mosquitto takes both configurations, and the hub signs in over TLS with what the product's own tools have made."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.broker.link import BrokerLink
from hub.settings import HubSettings
from labrelay.up import mosquitto, ports
from tests.deploy.files import COMPOSE, ROOT, SYSTEMD
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.stack import wait_for
from tests.hub.broker.conftest import running

PATHS = {
    r"\S+/mosquitto_dynamic_security\.so": "{plugin}",
    r"\S+/dynamic-security\.json": "{folder}/dynamic-security.json",
    r"(?<=persistence_location )\S+": "{folder}/",
    r"(?<=certfile )\S+": "{folder}/server.pem",
    r"(?<=keyfile )\S+": "{folder}/server-key.pem",
    r"(?<=^listener )1883": "{plain}",
    r"(?<=^listener )8883": "{port}",
}
"""What of the configurations lies elsewhere in a test."""


@pytest.fixture(params=["systemd", "compose"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubSettings]:
    """A broker by one of the configurations, and how a hub reaches its listener for agents."""
    program = mosquitto.find()
    if program is None:
        skip_or_fail("Mosquitto is not installed", mosquitto.INSTALL_HINT)
    (tmp_path / "mqtt-password").write_text("drawn-at-random")
    subprocess.run([ROOT / "deploy" / "make-certificate", tmp_path, "127.0.0.1"], check=True, timeout=60)
    settings = HubSettings(
        mqtt_port=ports.free_port(),
        mqtt_username="hub",
        mqtt_password_file=tmp_path / "mqtt-password",
        mqtt_ca_file=tmp_path / "ca.pem",
    )
    _add_user(tmp_path)
    conf = tmp_path / "mosquitto.conf"
    names = {"plugin": program.plugin, "folder": tmp_path, "plain": ports.free_port(), "port": settings.mqtt_port}
    text = ({"systemd": SYSTEMD, "compose": COMPOSE}[request.param] / "mosquitto.conf").read_text()
    for pattern, place in PATHS.items():
        text = re.sub(pattern, lambda _, place=place: place.format(**names), text, flags=re.MULTILINE)
    conf.write_text(text + "user root\n")  # or whoever runs the test; else root would become another user
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program.mosquitto, "-c", conf], stdout=log, stderr=log)
    try:
        wait_for(
            lambda: process.poll() is not None or ports.accepts("127.0.0.1", settings.mqtt_port), what="the broker"
        )
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield settings
    finally:
        process.terminate()
        process.wait(20)


def _add_user(folder: Path) -> None:
    config = folder / "hub.toml"
    config.write_text(f"mqtt_username = 'hub'\nmqtt_password_file = '{folder / 'mqtt-password'}'\n")
    command = [sys.executable, "-m", "labrelay.cli", "hub", "broker-user", "--config", config]
    subprocess.run([*command, folder / "dynamic-security.json"], cwd=ROOT, check=True, timeout=60)


async def test_the_hub_signs_in(broker: HubSettings) -> None:
    async with running(BrokerLink(broker)) as link:
        assert link.connected
