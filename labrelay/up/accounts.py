"""Whom servers run as when `up` is run by root: never as root, and never by opening a folder to others.

A server's own folder belongs to its user and is reached through an open descriptor (see `leash`), so the folders above
it may stay closed, as `/root` is. Files that are ours, such as programs in a virtual environment below `/root`, must be
readable to that user; `reachable` tells.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from labrelay.up.leash import DIRECTORY_FD
from shared.errors import LabrelayError

_MODE_PRIVATE = 0o700


def unprivileged(folder: Path, preferred: str) -> str | None:
    """Name of the user who should own `folder` and run the server in it; None when we are not root.

    An existing folder keeps its owner, unless that is root or a user that this machine does not have.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner).pw_name
        except KeyError:
            pass  # the folder came from another machine
    for name in (preferred, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise LabrelayError(
        "running as root, and this machine has no user `nobody` to run servers as", hint="run as an ordinary user"
    )


def private_folder(folder: Path, user: str | None) -> None:
    """Make `folder` and give it, with all that is in it, to `user`."""
    folder.mkdir(mode=_MODE_PRIVATE, parents=True, exist_ok=True)
    folder.chmod(_MODE_PRIVATE)
    if user is None:
        return
    account = pwd.getpwnam(user)
    if folder.stat().st_uid == account.pw_uid:
        return
    for parent, _, files in os.walk(folder):
        for path in (parent, *(str(Path(parent) / file) for file in files)):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def give(path: Path, user: str | None) -> None:
    """Make one file the property of `user`."""
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)


def inside(folder: Path, user: str | None) -> Path:
    """The path by which a server that runs as `user` reaches its own folder."""
    return folder if user is None else Path(f"/proc/self/fd/{DIRECTORY_FD}")


def reachable(path: Path) -> bool:
    """Whether everybody may enter all folders down to `path` and read it."""
    path = path.resolve()
    entered = stat.S_IXOTH
    return all(parent.stat().st_mode & entered for parent in path.parents) and bool(
        path.stat().st_mode & (stat.S_IROTH | stat.S_IXOTH)
    )
