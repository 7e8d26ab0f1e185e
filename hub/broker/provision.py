"""Credentials of agents at the broker. Idempotent: a lost answer is made good by doing it again.

=========  =========================================================================================
`dynsec`   Mosquitto's dynamic security plugin, told through the broker itself
`file`     a credentials file that the broker of `labrelay up` watches
`none`     an operator gives out credentials by hand; enrolment is refused
=========  =========================================================================================

An agent may write below its own `up/` and read below its own `down/`, nothing else. One client and one role each: in
the roles of Mosquitto 2.0.11 `%u` is taken literally.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec

from hub.broker.link import BrokerLink
from hub.settings import HubSettings
from shared import topics
from shared.errors import ConfigurationError, LabrelayError, LinkUnavailable

CONTROL = "$CONTROL/dynamic-security/v1"
WAITING_MAX = 256


class ProvisioningRefused(LabrelayError):
    """The broker (or the settings) do not let the hub hand out credentials."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """What an agent signs in to the broker with."""

    username: str
    password: str


class Provisioner(Protocol):
    """Hands out credentials and takes them back."""

    async def provision(self, agent_id: UUID) -> BrokerAccess:
        """New credentials; those that the agent had are void. Raises: LinkUnavailable, ProvisioningRefused."""
        ...

    async def revoke(self, agent_id: UUID) -> None:
        """Void the agent's credentials and end its connection. Raises: LinkUnavailable, ProvisioningRefused."""
        ...


def new_provisioner(settings: HubSettings, link: BrokerLink) -> Provisioner:
    """The one that the settings ask for. Before `link.run`. Raises: ConfigurationError."""
    if settings.broker_provisioning == "dynsec":
        return DynamicSecurity(link, timeout_s=settings.broker_timeout_s)
    if settings.broker_provisioning == "file":
        if settings.broker_credentials_file is None:
            raise ConfigurationError(
                'broker_provisioning = "file" needs broker_credentials_file', key=("broker_credentials_file",)
            )
        return CredentialsFile(settings.broker_credentials_file)
    return ByHand()


def username_of(agent_id: UUID) -> str:
    """The agent's name at the broker."""
    return f"agent-{agent_id}"


def _new_access(agent_id: UUID) -> BrokerAccess:
    return BrokerAccess(username_of(agent_id), secrets.token_urlsafe(24))


def _filters(agent_id: UUID) -> tuple[str, str]:
    """What the agent may write to and read from, as topic filters."""
    own = f"{topics.PREFIX}/agents/{agent_id}"
    return f"{own}/up/#", f"{own}/down/#"


class ByHand:
    """Nobody is given anything."""

    async def provision(self, agent_id: UUID) -> BrokerAccess:
        """Raises: ProvisioningRefused."""
        raise ProvisioningRefused(
            "this hub does not hand out credentials for the broker", hint="set broker_provisioning to dynsec or file"
        )

    async def revoke(self, agent_id: UUID) -> None:
        """Nothing to take back: who gave the credentials by hand takes them back by hand."""


class _Response(msgspec.Struct, frozen=True):
    command: str = ""
    error: str = ""
    correlation: Annotated[str, msgspec.Meta(max_length=100)] = msgspec.field(name="correlationData", default="")


class _Responses(msgspec.Struct, frozen=True):
    responses: list[_Response] = []


class DynamicSecurity:
    """Mosquitto's plugin. Commands are told apart by their correlation data, since the answers go to one topic."""

    def __init__(self, link: BrokerLink, *, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._waiting: dict[str, asyncio.Future[str]] = {}
        link.handle_control(self._on_response)

    async def provision(self, agent_id: UUID) -> BrokerAccess:
        """New credentials. Raises: LinkUnavailable, ProvisioningRefused."""
        access = _new_access(agent_id)
        role = access.username
        writes, reads = _filters(agent_id)
        acls = [
            {"acltype": kind, "topic": topic, "priority": 0, "allow": True}
            for kind, topic in (
                ("publishClientSend", writes),
                ("publishClientReceive", reads),
                ("subscribePattern", reads),
                ("unsubscribePattern", reads),
            )
        ]
        await self._command({"command": "createRole", "rolename": role}, fine="Role already exists")
        await self._command({"command": "modifyRole", "rolename": role, "acls": acls})
        await self._command(
            {"command": "createClient", "username": role, "password": access.password}, fine="Client already exists"
        )
        roles = [{"rolename": role, "priority": 0}]
        await self._command({"command": "modifyClient", "username": role, "password": access.password, "roles": roles})
        await self._command({"command": "enableClient", "username": role})
        return access

    async def revoke(self, agent_id: UUID) -> None:
        """Void the credentials. Raises: LinkUnavailable, ProvisioningRefused."""
        name = username_of(agent_id)
        await self._command({"command": "deleteClient", "username": name}, fine="Client not found")
        await self._command({"command": "deleteRole", "rolename": name}, fine="Role not found")

    async def _command(self, command: dict[str, Any], *, fine: str = "") -> None:
        if len(self._waiting) >= WAITING_MAX:
            raise LinkUnavailable("too many commands wait for the broker")
        correlation = secrets.token_hex(8)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = answer
        try:
            payload = msgspec.json.encode({"commands": [{**command, "correlationData": correlation}]})
            await self._link.publish(CONTROL, payload, qos=1)
            error = await asyncio.wait_for(answer, self._timeout_s)
        except TimeoutError:
            raise LinkUnavailable(
                "the broker's dynamic security does not answer", hint="is the plugin loaded, and may the hub use it?"
            ) from None
        finally:
            del self._waiting[correlation]
        if error and error != fine:
            raise ProvisioningRefused(f"the broker refuses {command['command']}: {error}")

    def _on_response(self, payload: bytes) -> None:
        try:
            found = msgspec.json.decode(payload, type=_Responses)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        for response in found.responses:
            waiting = self._waiting.get(response.correlation)
            if waiting is not None and not waiting.done():
                waiting.set_result(response.error)


class CredentialsFile:
    """A JSON file of users, replaced as a whole; who watches it never sees half of one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = asyncio.Lock()

    async def provision(self, agent_id: UUID) -> BrokerAccess:
        """New credentials. Raises: ProvisioningRefused when the file cannot be written."""
        access = _new_access(agent_id)
        await self._change(agent_id, access)
        return access

    async def revoke(self, agent_id: UUID) -> None:
        """Void the credentials. Raises: ProvisioningRefused when the file cannot be written."""
        await self._change(agent_id, None)

    async def _change(self, agent_id: UUID, access: BrokerAccess | None) -> None:
        async with self._writing:
            await asyncio.to_thread(self._rewrite, agent_id, access)

    def _rewrite(self, agent_id: UUID, access: BrokerAccess | None) -> None:
        try:
            content = self._read()
            users = content.setdefault("users", {})
            users.pop(username_of(agent_id), None)
            if access is not None:
                users[access.username] = _user(agent_id, access.password)
            _replace(self._path, msgspec.json.format(msgspec.json.encode(content), indent=1))
        except (OSError, msgspec.MsgspecError, AttributeError) as error:
            raise ProvisioningRefused(f"{self._path} cannot be changed: {error}") from error

    def _read(self) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return {}


def _user(agent_id: UUID, password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(16)
    writes, reads = _filters(agent_id)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
    return {"salt": salt.hex(), "hash": digest.hex(), "publish": [writes], "subscribe": [reads]}


def _replace(path: Path, content: bytes) -> None:
    """A new file in place of the old one, readable by its owner (and group) as the old one was. Raises: OSError."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
