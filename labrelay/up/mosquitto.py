"""Mosquitto as our broker, with its dynamic security plugin: no one without a password, each agent in its topics.

::

    <folder>/                        belongs to the broker's user, 0700
      mosquitto.conf                 written anew at every start
      dynamic-security.json          users and roles; the hub adds the agents' through the broker itself
      mosquitto.db                   retained messages and queues
    <folder>.password                the hub's password, 0600, ours

The hub's user `hub` may administer the plugin and use all topics of ours.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.broker import plugin_file
from labrelay.up import accounts, ports, secret_files
from labrelay.up.certificates import ServerCertificate
from labrelay.up.child import ChildSpec
from labrelay.up.leash import StopStep

HUB_USERNAME = "hub"
INSTALL_HINT = "apt-get install mosquitto mosquitto-clients"
_PLUGIN = "mosquitto_dynamic_security.so"
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib", "/lib")
_PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_SETTINGS = """\
allow_anonymous false
persistence true
persistence_location ./
persistence_file mosquitto.db
autosave_interval 60
max_queued_messages 20000
max_queued_bytes 268435456
max_inflight_messages 100
max_packet_size 8388608
set_tcp_nodelay true
log_dest stderr
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


@dataclass(frozen=True, slots=True)
class Program:
    """An installation of Mosquitto that has the plugin."""

    mosquitto: Path
    plugin: Path


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that can be started.

    Attributes:
        spec: the broker as a child.
        port: plain MQTT on loopback.
        username: the hub's, who also administers the broker's users.
        password: the hub's.
        tls_port: MQTT over TLS on all interfaces, None without a certificate.
    """

    spec: ChildSpec
    port: int
    username: str
    password: str
    tls_port: int | None = None


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where a broker listens.

    Attributes:
        port: plain, on loopback.
        tls_port: with TLS, on all interfaces; None for none.
        certificate: needed with `tls_port`.
    """

    port: int
    tls_port: int | None = None
    certificate: ServerCertificate | None = None


def find() -> Program | None:
    """Mosquitto with its plugin, None if this machine has none."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PROGRAM_FOLDERS])
    program = shutil.which("mosquitto", path=path)
    if program is None:
        return None
    for folder in map(Path, _LIBRARY_FOLDERS):
        for plugin in (folder / _PLUGIN, *sorted(folder.glob(f"*/{_PLUGIN}"))):
            if plugin.exists():
                return Program(Path(program), plugin)
    return None


def prepare(program: Program, folder: Path, *, run_dir: Path, log_dir: Path, listeners: Listeners) -> Broker:
    """Write the configuration and say how to start the broker. Raises: OSError."""
    user = accounts.unprivileged(folder, "mosquitto")
    password = secret_files.read_or_make(folder.with_name(f"{folder.name}.password"), lambda: secrets.token_urlsafe(24))
    accounts.private_folder(folder, user)
    files = {
        "mosquitto.conf": _configuration(program, listeners),
        "dynamic-security.json": _dynamic_security(folder / "dynamic-security.json", password),
    }
    if listeners.certificate is not None:
        files["server.crt"] = listeners.certificate.chain.read_text()
        files["server.key"] = listeners.certificate.key.read_text()
    for name, text in files.items():
        secret_files.write(folder / name, text)
        accounts.give(folder / name, user)
    spec = ChildSpec(
        name="broker",
        command=(str(program.mosquitto), "-c", "mosquitto.conf"),
        run_dir=run_dir,
        log_dir=log_dir,
        directory=folder,
        user=user,
        ready=lambda: ports.accepts("127.0.0.1", listeners.port),
        stop=(StopStep(signal.SIGTERM, 10.0),),
        orphan_signal=signal.SIGTERM,
    )
    return Broker(spec, listeners.port, HUB_USERNAME, password, listeners.tls_port)


def _configuration(program: Program, listeners: Listeners) -> str:
    lines = ["# Written by `labrelay up` at every start; changes are lost.", _SETTINGS]
    lines += [f"plugin {program.plugin}", "plugin_opt_config_file dynamic-security.json", ""]
    lines += [f"listener {listeners.port} 127.0.0.1", ""]
    if listeners.tls_port is not None:
        lines += [f"listener {listeners.tls_port}", "certfile server.crt", "keyfile server.key", "tls_version tlsv1.2"]
    return "\n".join(lines) + "\n"


def _dynamic_security(path: Path, password: str) -> str:
    """The plugin's file: what it holds already, and the hub's user with the password that we have."""
    try:
        held: dict[str, Any] | None = json.loads(path.read_text())
    except (OSError, ValueError):
        held = None  # none yet, or lost: the hub provisions its agents again
    return plugin_file.with_hub(held, HUB_USERNAME, password)
