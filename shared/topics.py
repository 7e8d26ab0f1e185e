"""MQTT topics, all under `labrelay/v1`.

An agent writes below its own `up/` and reads below its own `down/`, and nothing else; the broker enforces it. The hub
publishes live values and events of projects for dashboards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

PREFIX = "labrelay/v1"

Up = Literal["data", "state", "live", "reply", "time"]
Down = Literal["ack", "config", "cmd", "time"]

ALL_UP = f"{PREFIX}/agents/+/up/+"
"""What the hub subscribes to."""

_UP = re.compile(rf"{PREFIX}/agents/([0-9a-f-]{{36}})/up/(data|state|live|reply|time)")
_NOT_IN_LEVEL = re.compile(r"[+#/\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A parsed topic that an agent wrote to."""

    agent_id: UUID
    lane: Up


def up(agent_id: UUID, lane: Up) -> str:
    """Where agent `agent_id` writes."""
    return f"{PREFIX}/agents/{agent_id}/up/{lane}"


def down(agent_id: UUID, lane: Down) -> str:
    """Where agent `agent_id` reads."""
    return f"{PREFIX}/agents/{agent_id}/down/{lane}"


def parse_up(topic: str) -> UpTopic | None:
    """The agent and lane of a topic, None if it is not one of an agent's."""
    found = _UP.fullmatch(topic)
    if found is None:
        return None
    try:
        return UpTopic(UUID(found.group(1)), found.group(2))  # type: ignore[arg-type]
    except ValueError:
        return None


def live(project_id: UUID, sensor_id: UUID, signal: str) -> str:
    """Latest value of one signal, for dashboards; characters that a topic level cannot hold become `_`."""
    return f"{PREFIX}/projects/{project_id}/live/{sensor_id}/{_NOT_IN_LEVEL.sub('_', signal)}"


def events(project_id: UUID) -> str:
    """Events of a project, for dashboards."""
    return f"{PREFIX}/projects/{project_id}/events"
