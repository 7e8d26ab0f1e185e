"""TCP ports: free ones for our servers, and whether one is taken."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from shared.errors import LabrelayError

FIRST = 20_000
LAST = 32_000
"""Below the range from which the operating system takes the near end of outgoing connections, so that a port that is
kept for the next start is not taken by chance."""
_ATTEMPTS = 200


def free_port(host: str = "127.0.0.1", *, kept: Collection[int] = ()) -> int:
    """A port that nobody listens on, and none of those `kept`. Raises: LabrelayError when there seems to be none."""
    for _ in range(_ATTEMPTS):
        port = random.randint(FIRST, LAST)
        if port not in kept and is_free(host, port):
            return port
    raise LabrelayError(f"no free TCP port between {FIRST} and {LAST}")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def accepts(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether someone answers there."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True
