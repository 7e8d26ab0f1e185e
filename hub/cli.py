"""`labrelay hub …`: run the hub, and what an operator does to its database.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import uvicorn

from hub.access.passwords import Passwords
from hub.access.tokens import TokenSigner, load_or_make_key
from hub.accounts.first_admin import add_admin
from hub.app import create_app
from hub.broker import plugin_file
from hub.configuration import load_settings
from hub.database import incarnation
from hub.database.migrate import migrate
from hub.database.pool import database_password, translated
from hub.database.storage import connect
from hub.logs import configure_logging
from hub.memory import keep_freed
from hub.openapi import openapi_document
from hub.settings import HubSettings, read_secret
from shared.errors import ConfigurationError, LabrelayError
from shared.service import ServiceManager

NEW_ADMIN_PASSWORD = "LABRELAY_NEW_ADMIN_PASSWORD"
"""In the environment: what `create-admin` takes where no file is named, before it asks or reads its input."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns: the exit status."""
    options = _parser().parse_args(argv)
    if options.command == "openapi":
        return _print_openapi()
    settings = load_settings(options.config, os.environ)
    configure_logging(settings.log_level)
    if options.command == "run":
        return _run(settings)
    if options.command == "migrate":
        return asyncio.run(_migrate(settings))
    if options.command == "create-admin":
        return _create_admin(settings, options)
    if options.command == "broker-user":
        return _write_broker_user(settings, options.file)
    return asyncio.run(_note_restored(settings))


class _Server(uvicorn.Server):
    """Ends streams before it waits for requests to end, stops when a part of the hub fails, and tells systemd."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.failed = False
        self._manager = ServiceManager()

    def fail(self) -> None:
        """A part has failed."""
        self.failed = self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._manager.ready()

    async def on_tick(self, counter: int) -> bool:
        self._manager.alive()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._manager.stopping()
        services = getattr(self.config.app.state, "services", None)  # type: ignore[union-attr]
        if services is not None:
            services.tail.stop()
            services.feed.stop()
        await super().shutdown(sockets)


def _run(settings: HubSettings) -> int:
    keep_freed()
    app = create_app(settings)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="auto",
            lifespan="on",
            ws_max_size=settings.body_bytes_max,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
        )
    )
    app.state.on_failure = server.fail
    _check_files(settings, server.config)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has stopped, which is then done
    server.run()
    return 1 if server.failed or not server.started else 0


def _check_files(settings: HubSettings, config: uvicorn.Config) -> None:
    """Read what the server will need, so that a wrong path is said plainly. Raises: ConfigurationError."""
    database_password(settings)
    if settings.secret_key_file is not None:
        TokenSigner(load_or_make_key(settings.secret_key_file))
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"cannot use tls_cert_file and tls_key_file: {error}", key=("tls_cert_file",)
        ) from None


def _print_openapi() -> int:
    document = openapi_document(create_app(HubSettings()))
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


async def _migrate(settings: HubSettings) -> int:
    connection = await connect(settings)
    try:
        with translated():
            applied = await migrate(connection)
    finally:
        await connection.close(timeout=5)
    print(f"{applied} migrations applied")
    return 0


def _create_admin(settings: HubSettings, options: argparse.Namespace) -> int:
    if options.password_file is not None:
        password = read_secret(options.password_file).get_secret_value()
    elif NEW_ADMIN_PASSWORD in os.environ:
        password = os.environ[NEW_ADMIN_PASSWORD]
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigurationError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    email = options.email or f"{options.username}@localhost"
    return asyncio.run(_add_admin(settings, options.username, email, password))


async def _add_admin(settings: HubSettings, username: str, email: str, password: str) -> int:
    passwords = Passwords(concurrent=1, waiting_max=1)
    connection = await connect(settings)
    try:
        with translated():
            await migrate(connection)
            added = await add_admin(connection, passwords, username, email, password)
    finally:
        await connection.close(timeout=5)
    if not added:
        raise LabrelayError(f"there is a user {username!r} or an address {email!r} already")
    print(f"administrator {username} made")
    return 0


def _write_broker_user(settings: HubSettings, file: Path) -> int:
    if not settings.mqtt_username or settings.mqtt_password_file is None:
        raise ConfigurationError("mqtt_username and mqtt_password_file say who the hub is", key=("mqtt_username",))
    password = read_secret(settings.mqtt_password_file).get_secret_value()
    changed = plugin_file.write(file, settings.mqtt_username, password)
    print(f"{settings.mqtt_username} is in {file}" + "; start the broker again if it runs" * changed)
    return 0


async def _note_restored(settings: HubSettings) -> int:
    connection = await connect(settings)
    try:
        with translated():
            drawn = await incarnation.redraw(connection)
    finally:
        await connection.close(timeout=5)
    print(f"incarnation {drawn.id}: agents will offer again all that they hold")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labrelay hub", description="The central server.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML)")
    commands.add_parser("run", parents=[configured], help="serve until stopped")
    commands.add_parser("migrate", parents=[configured], help="bring the database's schema up to date and exit")
    commands.add_parser("openapi", help="print the OpenAPI document")
    admin = commands.add_parser("create-admin", parents=[configured], help="make an administrator")
    admin.add_argument("username")
    admin.add_argument("--email", default="")
    admin.add_argument(
        "--password-file", type=Path, help=f"else ${NEW_ADMIN_PASSWORD}, asked for, or read from standard input"
    )
    broker_user = commands.add_parser(
        "broker-user", parents=[configured], help="put the hub's user into the file of Mosquitto's dynamic security"
    )
    broker_user.add_argument("file", type=Path, metavar="FILE", help="plugin_opt_config_file of a broker that is down")
    commands.add_parser(
        "restored", parents=[configured], help="after the data directory was put back from a copy: ask agents again"
    )
    return parser
