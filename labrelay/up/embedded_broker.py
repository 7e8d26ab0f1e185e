"""The embedded broker as a process: `python -m labrelay.up.embedded_broker CONFIG`.

CONFIG is a TOML file::

    port = 21883                          # plain MQTT on loopback
    credentials_file = "credentials.json"
    tls_port = 8883                       # optional, on all interfaces, with
    tls_cert_file = "server.crt"
    tls_key_file = "server.key"

The credentials file is written by the hub when agents are enrolled or revoked, atomically (a new file, renamed), and
read again here when it changes; whoever is no longer in it is disconnected within a second::

    {"users": {"<username>": {"salt": "<hex>",
                              "hash": "<hex: scrypt(password, salt, n=2**14, r=8, p=1, dklen=32)>",
                              "publish":   ["labrelay/v1/agents/<id>/up/#"],
                              "subscribe": ["labrelay/v1/agents/<id>/down/#"]}}}

The patterns are MQTT topic filters. A message to a topic that none of the user's `publish` patterns matches is
acknowledged and discarded, as MQTT 3.1.1 has it; a subscription that is wider than the `subscribe` patterns is refused.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import ssl
import sys
import tomllib
from pathlib import Path

import msgspec

from labrelay.up import ports, secret_files
from labrelay.up.child import ChildSpec
from labrelay.up.mosquitto import HUB_USERNAME, Listeners
from labrelay.up.mosquitto import Broker as Prepared
from labrelay.up.mqtt import credentials
from labrelay.up.mqtt.broker import Broker, Listener
from labrelay.up.mqtt.credentials import Credentials
from shared.errors import ConfigurationError
from shared.tables import parse_table

_HUB_TOPICS = ["labrelay/v1/#"]


class Config(msgspec.Struct, frozen=True):
    """The configuration file; paths are relative to it."""

    port: int
    credentials_file: str
    host: str = "127.0.0.1"
    tls_port: int | None = None
    tls_cert_file: str = ""
    tls_key_file: str = ""


def prepare(folder: Path, *, run_dir: Path, log_dir: Path, listeners: Listeners) -> Prepared:
    """Write the configuration and the hub's credentials, and say how to start the broker. Raises: OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = secret_files.read_or_make(folder.with_name(f"{folder.name}.password"), lambda: secrets.token_urlsafe(24))
    users_file = folder / "credentials.json"
    hub = credentials.hashed(password, publish=_HUB_TOPICS, subscribe=_HUB_TOPICS)
    secret_files.write(users_file, credentials.dump({**credentials.load(users_file), HUB_USERNAME: hub}))
    lines = [f"port = {listeners.port}", 'credentials_file = "credentials.json"']
    if listeners.tls_port is not None and listeners.certificate is not None:
        secret_files.write(folder / "server.crt", listeners.certificate.chain.read_text())
        secret_files.write(folder / "server.key", listeners.certificate.key.read_text())
        lines += [f"tls_port = {listeners.tls_port}", 'tls_cert_file = "server.crt"', 'tls_key_file = "server.key"']
    config = folder / "broker.toml"
    secret_files.write(config, "\n".join(lines) + "\n")
    spec = ChildSpec(
        name="broker",
        command=(sys.executable, "-m", "labrelay.up.embedded_broker", str(config.absolute())),
        run_dir=run_dir,
        log_dir=log_dir,
        env={"PYTHONSAFEPATH": "1"},
        ready=lambda: ports.accepts("127.0.0.1", listeners.port),
    )
    return Prepared(spec, listeners.port, HUB_USERNAME, password, listeners.tls_port)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    (path,) = sys.argv[1:] if argv is None else argv
    file = Path(path)
    try:
        config = parse_table(tomllib.loads(file.read_text()), Config)
        asyncio.run(_serve(config, file.parent))
    except (ConfigurationError, OSError, ValueError) as error:
        print(f"embedded broker: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(config: Config, folder: Path) -> None:
    listeners = [Listener(config.host, config.port)]
    if config.tls_port is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(folder / config.tls_cert_file, folder / config.tls_key_file)
        listeners.append(Listener("0.0.0.0", config.tls_port, context))
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    async with Broker(Credentials(folder / config.credentials_file), listeners) as broker:
        logging.info("listening on %s", broker.ports)
        await end.wait()


if __name__ == "__main__":
    sys.exit(main())
