"""Everything on one machine, composed: what starts after what, and what people are told."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
from importlib.metadata import version

import asyncpg

from labrelay.up import certificates, embedded_broker, hub_server, mosquitto, ports, postgres
from labrelay.up.data_dir import DataDir
from labrelay.up.hub_api import HubApi
from labrelay.up.hub_server import Address
from labrelay.up.mosquitto import Broker, Listeners
from labrelay.up.supervisor import Status, Supervisor
from labrelay.up.terminal import Terminal
from shared.errors import ConfigurationError, CredentialsRefused, LabrelayError, StorageUnavailable

DATABASE = "labrelay"
_DATABASE_TIMEOUT_S = 20.0


class Up:
    """One run of `labrelay up`, step by step."""

    def __init__(self, data: DataDir, options: argparse.Namespace, terminal: Terminal) -> None:
        self.terminal = terminal
        self._data = data
        self._options = options
        self._address = self._where()
        self._supervisor = Supervisor(self._on_change)

    async def run(self) -> None:
        """Start everything in order and stay. Raises: LabrelayError when something does not start."""
        self._check_port()
        self.terminal.say(
            f"{self.terminal.styled('Labrelay', 'bold')} {version('labrelay')} · data and logs in {self._data.root}"
        )
        async with self._supervisor:
            database_url = await self._start_database()
            broker, dynamic_security = await self._start_broker()
            spec = hub_server.prepare(
                self._data, self._address, database_url, broker, dynamic_security=dynamic_security
            )
            self.terminal.starting("hub", "preparing the database")
            await self._supervisor.start(spec)
            self.terminal.ready("hub", self._address.public_url)
            await self._welcome(broker)
            await asyncio.Event().wait()

    async def _start_database(self) -> str:
        self.terminal.starting("PostgreSQL", "starting")
        server = await asyncio.to_thread(
            postgres.prepare,
            self._data.postgres,
            run_dir=self._data.run,
            log_dir=self._data.logs,
            port=self._data.free_port(),
        )
        await self._supervisor.start(server.spec)
        await _ensure_database(server.url())
        self.terminal.ready("PostgreSQL", f"127.0.0.1:{server.port}")
        return server.url(DATABASE)

    async def _start_broker(self) -> tuple[Broker, bool]:
        """Returns: the broker, and whether it is Mosquitto with dynamic security."""
        lan = self._address.certificate is not None
        listeners = Listeners(
            self._data.port("broker"),
            self._data.port("broker_tls", preferred=8883) if lan else None,
            self._address.certificate,
        )
        program = None if self._options.no_mosquitto else mosquitto.find()
        folders = {"run_dir": self._data.run, "log_dir": self._data.logs}
        if program is not None:
            broker = mosquitto.prepare(program, self._data.broker, listeners=listeners, **folders)
        else:
            broker = embedded_broker.prepare(self._data.broker, listeners=listeners, **folders)
        name = "Mosquitto" if program is not None else "embedded broker"
        self.terminal.starting(name, "starting")
        await self._supervisor.start(broker.spec)
        beyond = f", TLS on port {broker.tls_port}" if broker.tls_port else ""
        self.terminal.ready(name, f"127.0.0.1:{broker.port}{beyond}")
        return broker, program is not None

    async def _welcome(self, broker: Broker) -> None:
        """Sign in, set up the demo, and say how to get in."""
        async with HubApi(self._address.local_url, self._address.authority) as hub:
            try:
                await hub.sign_in(hub_server.ADMIN, self._data.admin_password.read_text().strip())
            except CredentialsRefused:
                self.terminal.warn(
                    f"the password of `{hub_server.ADMIN}` is not that in {self._data.admin_password} any more;"
                    " sign in with yours"
                )
                await self._start_demo_children()
                self._say_where(None)
                return
            project_id = await self._start_demo(hub, broker)
            self._say_where(await hub.sign_in_link())
            if self._address.certificate is not None:
                await self._say_how_to_enrol(hub)
            if project_id is not None:
                await self._publish_profiles(hub, project_id)

    async def _start_demo(self, hub: HubApi, broker: Broker) -> str | None:
        if self._options.no_demo:
            return None
        from labrelay.up import demo  # the demo alone needs drivers and agent

        demo.prepare(self._data)
        at = f"{self._address.public_host}:{broker.tls_port}" if broker.tls_port else f"127.0.0.1:{broker.port}"
        self.terminal.starting("agent", "enrolling")
        project_id = await demo.enrol(self._data, hub, self._address, at)
        await self._start_demo_children()
        return project_id

    async def _start_demo_children(self) -> None:
        if self._options.no_demo:
            return
        from labrelay.up import demo

        children = demo.prepare(self._data)
        await self._supervisor.start(children.laboratory)
        self.terminal.ready("laboratory", "simulated, on Modbus TCP and serial lines")
        await self._supervisor.start(children.agent)
        self.terminal.ready("agent", "reads the laboratory")

    async def _publish_profiles(self, hub: HubApi, project_id: str) -> None:
        from labrelay.up import demo

        try:
            missing = await demo.publish_profiles(self._data, hub, project_id)
        except LabrelayError as error:
            self.terminal.warn(f"the demo's calibration is incomplete until the next start: {error}")
            return
        if missing:
            self.terminal.warn(f"no readings yet of {', '.join(missing)}; see {self._data.logs / 'agent.log'}")

    def _say_where(self, link: str | None) -> None:
        terminal = self.terminal
        terminal.say()
        if link:
            terminal.say(f"  Open     {terminal.styled(link, 'cyan')}  (once, within ten minutes)")
        terminal.say(f"  Page     {self._address.public_url}")
        terminal.say(f"  Sign in  {hub_server.ADMIN}, password in {self._data.admin_password}")
        terminal.say(f"  Logs     {self._data.logs}")
        terminal.say("  Ctrl-C ends everything.")
        terminal.say()

    async def _say_how_to_enrol(self, hub: HubApi) -> None:
        assert self._address.certificate is not None
        code = await hub.enrolment_code(await hub.project("Laboratory", "Agents of this network."), "")
        self.terminal.say("  On another machine, to add an agent:")
        self.terminal.say(f"    labrelay agent enrol --hub {self._address.public_url} --code {code}")
        self.terminal.say(f"  Browsers trust the page once {self._address.certificate.authority} is imported.")
        self.terminal.qr_code(self._address.public_url)

    def _where(self) -> Address:
        if self._options.lan is None:
            return Address("127.0.0.1", self._options.port, "127.0.0.1")
        name = self._options.lan or certificates.lan_address()
        own = socket.gethostname()
        names = [name, certificates.lan_address(), own, f"{own}.local", "localhost", "127.0.0.1"]
        certificate = certificates.ensure(self._data.root / "certificates", list(dict.fromkeys(names)))
        return Address("0.0.0.0", self._options.port, name, certificate)

    def _check_port(self) -> None:
        port = self._options.port
        if not 0 < port < 65536:
            raise ConfigurationError(f"{port} is not a TCP port")
        if port < 1024 and os.geteuid() != 0:
            raise ConfigurationError(f"port {port} is reserved for root", hint="choose one above 1023 with --port")
        if not ports.is_free(self._address.host, port):
            another = next((near for near in range(port + 1, port + 50) if ports.is_free(self._address.host, near)), 0)
            raise LabrelayError(
                f"port {port} is taken by another program", hint=f"choose another one: --port {another}"
            )

    def _on_change(self, status: Status) -> None:
        self.terminal.changed(status)
        with contextlib.suppress(OSError):  # a full disk must not end what runs
            self._data.announce(self._address.public_url, self._supervisor.statuses)


async def _ensure_database(url: str) -> None:
    """Create our database if there is none. Raises: StorageUnavailable."""
    try:
        connection = await asyncpg.connect(url, timeout=_DATABASE_TIMEOUT_S)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"', timeout=_DATABASE_TIMEOUT_S)
        finally:
            await connection.close(timeout=_DATABASE_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StorageUnavailable(f"the database just started does not answer: {error}") from error
