"""What `labrelay up` says: coloured and compact on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

import segno

from labrelay.up.supervisor import Status

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2", "cyan": "36"}


class Terminal:
    """Writes to a stream, by default stdout."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._fancy = self._stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._started_s = time.monotonic()
        self._down: set[str] = set()

    def say(self, text: str = "") -> None:
        """A line as it is."""
        print(text, file=self._stream, flush=True)

    def styled(self, text: str, style: str) -> str:
        """`text` in a colour, where there are colours."""
        return f"\033[{_COLOURS[style]}m{text}\033[0m" if self._fancy else text

    def starting(self, what: str, detail: str = "") -> None:
        """Something is about to start; only shown where it is followed by `ready` on the same line."""
        if self._fancy:
            print(f"\r\033[K  {self.styled('○', 'yellow')} {what:<16} {detail}", end="", file=self._stream, flush=True)

    def ready(self, what: str, detail: str = "") -> None:
        """Something does its work."""
        seconds = self.styled(f"{time.monotonic() - self._started_s:5.1f} s", "dim")
        clear = "\r\033[K" if self._fancy else ""
        self.say(f"{clear}  {self.styled('●', 'green')} {what:<16} {detail:<44} {seconds}")

    def warn(self, text: str) -> None:
        """Something that a person should know."""
        self.say(f"{self.styled('!', 'yellow')} {text}")

    def changed(self, status: Status) -> None:
        """A server died or came back; each is said once."""
        if status.state == "waiting" and status.name not in self._down:
            self._down.add(status.name)
            self.warn(f"{status.name} {status.note}; it is started again")
        elif status.state == "running" and status.name in self._down:
            self._down.discard(status.name)
            self.say(f"{self.styled('●', 'green')} {status.name} is back")

    def qr_code(self, text: str) -> None:
        """`text` for a telephone's camera; nothing where there is no terminal."""
        if self._fancy:
            segno.make(text, error="m").terminal(out=self._stream, compact=True)
