"""Who may connect, and to which topics: a JSON file that the hub writes and the broker reads again when it changes.

The format is described in `labrelay.up.embedded_broker`. A file that cannot be read or understood changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from pathlib import Path

import msgspec

from labrelay.up.mqtt import filters

log = logging.getLogger(__name__)

_FILE_BYTES_MAX = 16 * 1024 * 1024


class User(msgspec.Struct, frozen=True):
    """One entry of the file.

    Attributes:
        salt: hexadecimal.
        hash: scrypt of the password, hexadecimal.
        publish: patterns of topics that the user may publish to.
        subscribe: patterns of topics that the user may read.
    """

    salt: str
    hash: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def may_publish(self, topic: str) -> bool:
        """Whether a message to `topic` is let through."""
        return any(filters.permits(pattern, topic) for pattern in self.publish)

    def may_subscribe(self, topic_filter: str) -> bool:
        """Whether everything that the filter matches may be read."""
        return any(filters.permits(pattern, topic_filter) for pattern in self.subscribe)


class _File(msgspec.Struct, frozen=True):
    users: dict[str, User]


class Credentials:
    """The users of a file, as of the last `refresh`."""

    def __init__(self, path: Path) -> None:
        self.users: dict[str, User] = {}
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Read the file again if it is another one. Returns: whether anything changed."""
        try:
            stat = self._path.stat()
            identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if identity == self._seen:
                return False
            self._seen = identity
            if stat.st_size > _FILE_BYTES_MAX:
                raise ValueError(f"larger than {_FILE_BYTES_MAX} bytes")
            users = msgspec.json.decode(self._path.read_bytes(), type=_File).users
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.error("credentials unreadable, keeping the %d users known: %s", len(self.users), error)
            return False
        changed = users != self.users
        self.users = users
        return changed

    def verify(self, username: str, password: bytes) -> User | None:
        """The user, if the password is right. Takes some 40 ms of CPU, for unknown users too."""
        user = self.users.get(username, _NOBODY)
        return user if _right(user, password) else None


def hashed(password: str, *, publish: list[str], subscribe: list[str]) -> User:
    """An entry for a new user."""
    salt = secrets.token_bytes(16)
    return User(salt.hex(), _scrypt(password.encode(), salt).hex(), tuple(publish), tuple(subscribe))


def dump(users: dict[str, User]) -> str:
    """The content of a credentials file."""
    return json.dumps({"users": msgspec.to_builtins(users)}, indent=1)


def load(path: Path) -> dict[str, User]:
    """The users in a file, none if it is absent or unreadable."""
    credentials = Credentials(path)
    if path.exists():
        credentials.refresh()
    return credentials.users


def _right(user: User, password: bytes) -> bool:
    try:
        salt, expected = bytes.fromhex(user.salt), bytes.fromhex(user.hash)
    except ValueError:
        return False
    return hmac.compare_digest(_scrypt(password, salt), expected)


def _scrypt(password: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=2**14, r=8, p=1, dklen=32, maxmem=64 * 1024 * 1024)


_NOBODY = User(salt="00", hash="")
