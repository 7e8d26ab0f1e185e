"""Credentials in a JSON file, replaced as a whole; who watches it never sees half of one.

The format is that of `labrelay.up.embedded_broker`. Whose entry changes or goes is disconnected by that broker.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from hub.broker.provision import BrokerAccess, ProvisioningRefused, new_access
from hub.broker.rights import Rights

T = TypeVar("T")
Users: TypeAlias = dict[str, dict[str, Any]]


class CredentialsFile:
    """The file's users; those that the hub has not made stay as they are."""

    hands_out = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = asyncio.Lock()

    async def issue(self, username: str, rights: Rights) -> BrokerAccess:
        """New credentials. Raises: ProvisioningRefused when the file cannot be written."""
        access = new_access(username)

        def add(users: Users) -> None:
            users[username] = _user(access.password) | _topics(rights)

        await self._change(add)
        return access

    async def limit(self, username: str, rights: Rights) -> bool:
        """Other rights. Returns: whether the file has the user. Raises: ProvisioningRefused."""

        def change(users: Users) -> bool:
            if username in users:
                users[username] |= _topics(rights)
            return username in users

        return await self._change(change)

    async def void(self, username: str) -> None:
        """Void the credentials. Raises: ProvisioningRefused when the file cannot be written."""

        def remove(users: Users) -> None:
            users.pop(username, None)

        await self._change(remove)

    async def standing(self, prefix: str) -> Mapping[str, Rights]:
        """The file's users and their rights. Raises: ProvisioningRefused when it cannot be read."""

        def look(users: Users) -> dict[str, Rights]:
            return {
                name: Rights(frozenset(user.get("publish", ())), frozenset(user.get("subscribe", ())))
                for name, user in users.items()
                if name.startswith(prefix)
            }

        return await self._change(look)

    async def _change(self, change: Callable[[Users], T]) -> T:
        async with self._writing:
            return await asyncio.to_thread(self._rewrite, change)

    def _rewrite(self, change: Callable[[Users], T]) -> T:
        try:
            before, content = self._read()
            result = change(content.setdefault("users", {}))
            after = msgspec.json.encode(content)
            if after != before:
                _replace(self._path, msgspec.json.format(after, indent=1))
        except (OSError, msgspec.MsgspecError, AttributeError, TypeError) as error:
            raise ProvisioningRefused(f"{self._path} cannot be changed: {error}") from error
        return result

    def _read(self) -> tuple[bytes, dict[str, Any]]:
        """The content, as it would be written without a change, and as it is."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return msgspec.json.encode({"users": {}}), {}
        return msgspec.json.encode(content), content


def _user(password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
    return {"salt": salt.hex(), "hash": digest.hex()}


def _topics(rights: Rights) -> dict[str, Any]:
    return {"publish": sorted(rights.publish), "subscribe": sorted(rights.subscribe)}


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
