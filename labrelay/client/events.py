"""Server-sent events as the hub's streams send them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        kind: `telemetry` (committed readings, each once), `live` (latest values, conflated) or `error`.
        id: cursor of a `telemetry` event; None for others.
        data: the reading, as in `/telemetry/query`.
    """

    kind: str
    id: int | None
    data: dict[str, Any]


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The events in a stream of lines; comments, which only keep the line open, are left out."""
    kind, id_text = "message", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield Event(kind, int(id_text) if id_text.isdigit() else None, json.loads("\n".join(data)))
            kind, id_text, data = "message", "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "id":
            id_text = value
        elif name == "data":
            data.append(value)
