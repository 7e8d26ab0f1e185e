"""What a service manager is told: systemd's sd_notify(3), one datagram a message.

Where nobody listens (started by hand, in a container, on Windows) all of it does nothing. A message that the manager
does not take is dropped: telling it never keeps anything from its work.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

_SHARE = 3
"""Signs of life in the time after which the manager would restart us."""


class ServiceManager:
    """Whoever started this process, as the environment names it.

    Args:
        environment: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` for `WATCHDOG_PID` if signs of life are wanted.
        monotonic_s: tells when one is due.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._monotonic_s = monotonic_s
        self.sign_every_s = _watchdog_s(environment) / _SHARE if self._address else 0.0
        """How often a sign of life is given; 0 for never."""
        self._due_s = 0.0

    def ready(self) -> None:
        """The work has begun."""
        self._tell("READY=1")
        self.alive()

    def stopping(self) -> None:
        """The work ends; what is left is clearing up."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The event loop runs. May be called as often as one likes."""
        now_s = self._monotonic_s()
        if self.sign_every_s and now_s >= self._due_s:
            self._due_s = now_s + self.sign_every_s
            self._tell("WATCHDOG=1")

    async def stay_alive(self) -> None:
        """Give signs of life until cancelled; returns at once where none are wanted."""
        while self.sign_every_s:
            self.alive()
            await asyncio.sleep(self.sign_every_s)

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.sendto(message.encode(), address)
        except OSError:
            return  # the manager is away or busy; it finds out by itself how we are


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """After how long without a sign of life the manager restarts this process; 0 for never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() else 0.0
