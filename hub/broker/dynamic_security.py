"""Credentials through Mosquitto's dynamic security plugin: one client and one role each, of the same name.

In the roles of Mosquitto 2.0.11 `%u` is taken literally, so that nobody can share one. The plugin lets through by
default what was subscribed to before the rights changed, also for a session that outlived its connection: each role
therefore refuses all that it does not allow. Changing a role ends the connections of its clients.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from hub.broker.link import BrokerLink
from hub.broker.provision import BrokerAccess, ProvisioningRefused, new_access
from hub.broker.rights import Rights
from shared.errors import LinkUnavailable

CONTROL = "$CONTROL/dynamic-security/v1"
WAITING_MAX = 256
PAGE_SIZE = 200
_EVERYTHING = {"acltype": "publishClientReceive", "topic": "#", "priority": -1, "allow": False}
_NOT_A_CLIENT, _NOT_A_ROLE = "Client not found", "Role not found"


class _Acl(msgspec.Struct, frozen=True):
    acltype: str
    topic: str
    allow: bool = False


class _Role(msgspec.Struct, frozen=True):
    rolename: str
    acls: list[_Acl] = []

    @property
    def rights(self) -> Rights:
        allowed = [(acl.acltype, acl.topic) for acl in self.acls if acl.allow]
        return Rights(
            frozenset(topic for kind, topic in allowed if kind == "publishClientSend"),
            frozenset(topic for kind, topic in allowed if kind == "subscribePattern"),
        )


class _Page(msgspec.Struct, frozen=True):
    roles: list[_Role] = []
    clients: list[str] = []


class _Response(msgspec.Struct, frozen=True):
    command: str = ""
    error: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")
    correlation: Annotated[str, msgspec.Meta(max_length=100)] = msgspec.field(name="correlationData", default="")


class _Responses(msgspec.Struct, frozen=True):
    responses: list[_Response] = []


class DynamicSecurity:
    """Commands are told apart by their correlation data, since the answers go to one topic. Before `link.run`."""

    hands_out = True

    def __init__(self, link: BrokerLink, *, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._waiting: dict[str, asyncio.Future[_Response]] = {}
        link.handle_control(self._on_response)

    async def issue(self, username: str, rights: Rights) -> BrokerAccess:
        """New credentials. Raises: LinkUnavailable, ProvisioningRefused."""
        access = new_access(username)
        await self._command("createRole", fine="Role already exists", rolename=username)
        await self._command("modifyRole", rolename=username, acls=_acls(rights))
        await self._command("createClient", fine="Client already exists", username=username, password=access.password)
        roles = [{"rolename": username, "priority": 0}]
        await self._command("modifyClient", username=username, password=access.password, roles=roles)
        await self._command("enableClient", username=username)
        return access

    async def limit(self, username: str, rights: Rights) -> bool:
        """Other rights. Returns: whether the broker knows the user. Raises: LinkUnavailable, ProvisioningRefused."""
        known = await self._command("getClient", fine=_NOT_A_CLIENT, username=username)
        if known.error:
            return False
        changed = await self._command("modifyRole", fine=_NOT_A_ROLE, rolename=username, acls=_acls(rights))
        return not changed.error

    async def void(self, username: str) -> None:
        """Void the credentials. Raises: LinkUnavailable, ProvisioningRefused."""
        await self._command("deleteClient", fine=_NOT_A_CLIENT, username=username)
        await self._command("deleteRole", fine=_NOT_A_ROLE, rolename=username)

    async def standing(self, prefix: str) -> Mapping[str, Rights]:
        """Clients and their rights. Raises: LinkUnavailable, ProvisioningRefused."""
        clients = {name for page in await self._pages("listClients") for name in page.clients}
        roles = [role for page in await self._pages("listRoles", verbose=True) for role in page.roles]
        return {
            role.rolename: role.rights
            for role in roles
            if role.rolename.startswith(prefix) and role.rolename in clients
        }

    async def _pages(self, command: str, **more: Any) -> list[_Page]:
        found: list[_Page] = []
        while True:
            offset = len(found) * PAGE_SIZE
            response = await self._command(command, count=PAGE_SIZE, offset=offset, **more)
            try:
                page = msgspec.json.decode(response.data, type=_Page)
            except msgspec.MsgspecError as error:
                raise ProvisioningRefused(f"the broker's answer to {command} is not understood: {error}") from None
            found.append(page)
            if len(page.roles) + len(page.clients) < PAGE_SIZE:
                return found

    async def _command(self, command: str, *, fine: str = "", **arguments: Any) -> _Response:
        """The answer to a command. `fine`: an error that is none."""
        if len(self._waiting) >= WAITING_MAX:
            raise LinkUnavailable("too many commands wait for the broker")
        correlation = secrets.token_hex(8)
        answer: asyncio.Future[_Response] = asyncio.get_running_loop().create_future()
        self._waiting[correlation] = answer
        try:
            content = {"command": command, **arguments, "correlationData": correlation}
            await self._link.publish(CONTROL, msgspec.json.encode({"commands": [content]}), qos=1)
            async with asyncio.timeout(self._timeout_s):
                response = await answer
        except TimeoutError:
            raise LinkUnavailable(
                "the broker's dynamic security does not answer", hint="is the plugin loaded, and may the hub use it?"
            ) from None
        finally:
            del self._waiting[correlation]
        if response.error and response.error != fine:
            raise ProvisioningRefused(f"the broker refuses {command}: {response.error}")
        return response

    def _on_response(self, payload: bytes) -> None:
        try:
            found = msgspec.json.decode(payload, type=_Responses)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        for response in found.responses:
            waiting = self._waiting.get(response.correlation)
            if waiting is not None and not waiting.done():
                waiting.set_result(response)


def _acls(rights: Rights) -> list[dict[str, Any]]:
    kinds = [("publishClientSend", topic) for topic in sorted(rights.publish)]
    for topic in sorted(rights.subscribe):
        kinds += [(kind, topic) for kind in ("publishClientReceive", "subscribePattern", "unsubscribePattern")]
    allowed = [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in kinds]
    return [*allowed, _EVERYTHING]
