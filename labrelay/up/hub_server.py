"""The hub as a child: its configuration file, and when it is ready."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from hub.configuration import ENVIRONMENT_PREFIX
from labrelay.up import secret_files
from labrelay.up.certificates import ServerCertificate
from labrelay.up.child import ChildSpec
from labrelay.up.data_dir import DataDir
from labrelay.up.mosquitto import Broker

ADMIN = "admin"
ENVIRONMENT = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
"""For our own programs: nothing of the current folder is imported, and logs come at once."""
_READY_TIMEOUT_S = 90.0
_PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the hub and the broker are reached.

    Attributes:
        host: what the hub binds to.
        port: the hub's.
        public_host: the name or address by which browsers and agents know this machine.
        certificate: with it, everything beyond loopback speaks TLS.
    """

    host: str
    port: int
    public_host: str
    certificate: ServerCertificate | None = None

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.certificate else "http"

    @property
    def public_url(self) -> str:
        """For browsers and agents."""
        return f"{self.scheme}://{self.public_host}:{self.port}"

    @property
    def local_url(self) -> str:
        """For us, whatever the machine is called today."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path | None:
        """What our own calls must trust."""
        return self.certificate.authority if self.certificate else None


def prepare(data: DataDir, address: Address, database_url: str, broker: Broker, *, dynamic_security: bool) -> ChildSpec:
    """Write `hub.toml` and say how to start the hub. Raises: OSError."""
    secret_files.read_or_make(data.admin_password, new_admin_password)
    config = data.root / "hub.toml"
    settings = _settings(data, address, database_url, broker, dynamic_security=dynamic_security)
    lines = ["# Written by `labrelay up` at every start; changes are lost. LABRELAY_HUB_… variables win over it."]
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    secret_files.write(config, "\n".join(lines) + "\n")
    return ChildSpec(
        name="hub",
        command=labrelay("hub", "run", "--config", str(config)),
        run_dir=data.run,
        log_dir=data.logs,
        env=ENVIRONMENT,
        ready=lambda: _is_ready(address),
        ready_timeout_s=_READY_TIMEOUT_S,
    )


def is_local(address: Address, environment: Mapping[str, str]) -> bool:
    """Whether only this machine reaches the hub: it listens on loopback, and the environment names no way around."""
    said = {name.upper(): value for name, value in environment.items()}
    if any(f"{ENVIRONMENT_PREFIX}{way}" in said for way in ("PUBLIC_URL", "TRUSTED_PROXIES")):
        return False
    host = said.get(f"{ENVIRONMENT_PREFIX}HOST", address.host)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def labrelay(*arguments: str) -> tuple[str, ...]:
    """A `labrelay` command line that does not depend on PATH."""
    return (sys.executable, "-m", "labrelay", *arguments)


def new_admin_password() -> str:
    """Long enough that nobody guesses it, with an upper, a lower and a digit for the hub's rules."""
    while True:
        password = secrets.token_urlsafe(18)
        if all(any(test(letter) for letter in password) for test in (str.isupper, str.islower, str.isdigit)):
            return password


def _settings(
    data: DataDir, address: Address, database_url: str, broker: Broker, *, dynamic_security: bool
) -> dict[str, str | int | bool]:
    settings: dict[str, str | int | bool] = {
        "env": "local",
        "host": address.host,
        "port": address.port,
        "public_url": address.public_url,
        "database_url": database_url,
        "secret_key_file": str(data.root / "secret-key"),
        "admin_username": ADMIN,
        "admin_password_file": str(data.admin_password),
        "registration": "open" if is_local(address, os.environ) else "closed",
        "artifacts_dir": str(data.root / "artifacts"),
        "mqtt_host": "127.0.0.1",
        "mqtt_port": broker.port,
        "mqtt_username": broker.username,
        "mqtt_password_file": str(data.broker.with_name(f"{data.broker.name}.password")),
        "broker_provisioning": "dynsec" if dynamic_security else "file",
        "agent_mqtt_host": address.public_host if broker.tls_port else "127.0.0.1",
        "agent_mqtt_port": broker.tls_port or broker.port,
        "agent_mqtt_tls": broker.tls_port is not None,
    }
    if not dynamic_security:
        settings["broker_credentials_file"] = str(data.broker / "credentials.json")
    if address.certificate is not None:
        settings["tls_cert_file"] = str(address.certificate.chain)
        settings["tls_key_file"] = str(address.certificate.key)
    return settings


def _is_ready(address: Address) -> bool:
    context = ssl.create_default_context(cafile=str(address.authority)) if address.authority else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{address.local_url}/health/ready", timeout=_PROBE_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False
