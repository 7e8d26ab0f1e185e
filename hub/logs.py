"""Logs as events: one line a record, ``time level logger event=… key=value … request_id=…``.

Call it as ``log.info("event=migrated number=%d name=%s", …)``. Line breaks and control characters in values are
escaped, so that no input can forge a line. Request and trace ids of the request being served are added.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_BARE = re.compile(r"[^\s\"=\\]+")


class EventFormatter(logging.Formatter):
    """One line a record; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = record.getMessage()
        if not message.startswith("event="):
            message = f"event=message text={quoted(message)}"
        parts = [moment, record.levelname.lower(), record.name, _CONTROL.sub(_escape, message)]
        parts += [f"{name}={value}" for name, value in _ids() if value and f" {name}=" not in message]
        line = " ".join(parts)
        if record.exc_info:
            trace = self.formatException(record.exc_info).replace("\n", "\n    ")
            line = f"{line}\n    {trace}"
        return line


def quoted(value: object) -> str:
    """A value as it stands behind `=`: bare where that is clear, else in double quotes."""
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def configure_logging(level: str) -> None:
    """Send all logs of the process to standard error as events."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(_without_queries)
    if level == "info":  # else two lines for each of a dozen jobs, some of them every second
        logging.getLogger("apscheduler").setLevel(logging.WARNING)


def _without_queries(record: logging.LogRecord) -> bool:
    """Cut queries off, where tokens may stand: the server writes down the address of each WebSocket."""
    if isinstance(record.args, tuple):
        record.args = tuple(one.partition("?")[0] if isinstance(one, str) else one for one in record.args)
    return True


def _ids() -> tuple[tuple[str, str], tuple[str, str]]:
    return ("request_id", request_id.get()), ("trace_id", trace_id.get())


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
