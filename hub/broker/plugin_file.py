"""The file of Mosquitto's dynamic security plugin, with the user that the hub signs in as.

It is written before the broker starts, which keeps its own copy and writes the file whenever something changes. The
hub's user may administer the plugin and use all topics of ours; nobody else is let in until the hub makes a user for
him. Users and roles that are there already stay.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from shared.errors import ConfigurationError

ROLE = "hub"
PASSWORD_ITERATIONS = 101
"""The plugin's own default; the password is meant to be a random one, so that more would only slow connections down."""


def with_hub(held: dict[str, Any] | None, username: str, password: str) -> str:
    """The file's new content.

    Args:
        held: what is in it, None for nothing yet.
    """
    held = {"defaultACLAccess": _DEFAULT_ACCESS} if held is None else held
    salt = secrets.token_bytes(12)
    hub = {
        "username": username,
        "textName": "Labrelay's hub",
        "password": _digest(password, salt, PASSWORD_ITERATIONS),
        "salt": base64.b64encode(salt).decode(),
        "iterations": PASSWORD_ITERATIONS,
        "roles": [{"rolename": ROLE}],
    }
    others = [client for client in held.get("clients", []) if client.get("username") != username]
    roles = [role for role in held.get("roles", []) if role.get("rolename") != ROLE]
    content = {**held, "clients": [hub, *others], "roles": [{"rolename": ROLE, "acls": _ACCESS}, *roles]}
    return json.dumps(content, indent=1)


def write(path: Path, username: str, password: str) -> bool:
    """Put the hub's user into the file at `path`, made if missing, and leave it to whom it (or its folder) belongs.

    Returns: whether the file had to be changed.
    Raises: ConfigurationError when it cannot be written, or holds something else.
    """
    try:
        held = json.loads(path.read_bytes()) if path.exists() else None
        if held is not None and _holds(held, username, password):
            return False
        owner = (path if path.exists() else path.parent).stat()
        _replace(path, with_hub(held, username, password), owner)
        return True
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", file=str(path)) from error
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            f"{path} is no file of the dynamic security plugin", hint="move it away to begin with an empty one"
        ) from None


def _holds(held: dict[str, Any], username: str, password: str) -> bool:
    """Whether the hub can sign in as things are; the plugin orders roles and topics in its own way."""
    roles = [role for role in held.get("roles", []) if role.get("rolename") == ROLE]
    users = [client for client in held.get("clients", []) if client.get("username") == username]
    if not users or not roles or ROLE not in [role.get("rolename") for role in users[0].get("roles", [])]:
        return False
    allowed = {(acl.get("acltype"), acl.get("topic")) for acl in roles[0].get("acls", []) if acl.get("allow")}
    if not allowed >= {(acl["acltype"], acl["topic"]) for acl in _ACCESS}:
        return False
    salt, iterations = base64.b64decode(users[0].get("salt", "")), users[0].get("iterations", PASSWORD_ITERATIONS)
    return not users[0].get("disabled") and users[0].get("password") == _digest(password, salt, iterations)


def _digest(password: str, salt: bytes, iterations: int) -> str:
    return base64.b64encode(hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)).decode()


def _replace(path: Path, content: str, owner: os.stat_result) -> None:
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # readable by its owner only
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.chown(unfinished, owner.st_uid, owner.st_gid)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _allow(kind: str, *topics: str) -> list[dict[str, Any]]:
    return [{"acltype": kind, "topic": topic, "allow": True} for topic in topics]


_TOPICS = ("$CONTROL/dynamic-security/#", "labrelay/v1/#")
_ACCESS = [
    *_allow("publishClientSend", *_TOPICS),
    *_allow("publishClientReceive", *_TOPICS, "$SYS/#"),
    *_allow("subscribePattern", *_TOPICS, "$share/+/labrelay/v1/#", "$SYS/#"),
    *_allow("unsubscribePattern", "#"),
]
_DEFAULT_ACCESS = {
    "publishClientSend": False,
    "publishClientReceive": True,
    "subscribe": False,
    "unsubscribe": True,
}
