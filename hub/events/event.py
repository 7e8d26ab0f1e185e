"""What can be said of a change: its type, what it is about, who made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID


class PublicEvent(StrEnum):
    """What webhooks, event streams and MQTT are told. All other types stay in the audit."""

    RUN_STARTED = "run.started"
    RUN_FINISHED = "run.finished"
    RUN_ARCHIVED = "run.archived"
    RUN_STATUS_CHANGED = "run.status_changed"
    RUN_TAGS_UPDATED = "run.tags_updated"
    SESSION_CREATED = "capture_session.created"
    SESSION_STOPPED = "capture_session.stopped"
    SESSION_BACKFILL_STARTED = "capture_session.backfill_started"
    SESSION_BACKFILL_COMPLETED = "capture_session.backfill_completed"
    SESSION_LATE_ATTACHED = "capture_session.late_attached"
    PROFILE_PUBLISHED = "conversion_profile.published"
    PROFILE_BACKFILL_STARTED = "conversion_profile.backfill_started"
    PROFILE_BACKFILL_COMPLETED = "conversion_profile.backfill_completed"
    SENSOR_REGISTERED = "sensor.registered"
    SENSOR_ONLINE = "sensor.online"
    SENSOR_OFFLINE = "sensor.offline"
    SENSOR_LIMIT_EXCEEDED = "sensor.limit_exceeded"
    SENSOR_LIMIT_CLEARED = "sensor.limit_cleared"
    SENSOR_SILENT = "sensor.silent"
    AGENT_ONLINE = "agent.online"
    AGENT_OFFLINE = "agent.offline"
    AGENT_CONFLICT = "agent.conflict"


PUBLIC_EVENTS = frozenset(PublicEvent)


class SubjectType(StrEnum):
    """What an event is about."""

    USER = "user"
    PROJECT = "project"
    MEMBER = "member"
    INVITATION = "invitation"
    TOKEN = "token"
    EXPERIMENT = "experiment"
    RUN = "run"
    ARTIFACT = "artifact"
    SESSION = "capture_session"
    SENSOR = "sensor"
    PROFILE = "conversion_profile"
    AGENT = "agent"
    WEBHOOK = "webhook"
    SET_ASIDE = "set_aside"
    EPOCH = "epoch"


class ActorType(StrEnum):
    """Who changes things."""

    USER = "user"
    SENSOR = "sensor"
    AGENT = "agent"
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changed something, and in which request.

    Attributes:
        address: where the request came from.
    """

    type: ActorType
    id: UUID | None = None
    address: str = ""
    request_id: str = ""


HUB = Actor(ActorType.HUB)
"""The hub itself, in what it does from time to time."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that was done.

    Attributes:
        event_type: `<thing>.<what happened to it>`.
        payload: what to tell of it, as JSON has it; never a secret.
    """

    event_type: str
    subject_type: SubjectType
    subject_id: UUID | None
    project_id: UUID | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_public(self) -> bool:
        """Whether others than the audit are told. What belongs to no project concerns nobody else."""
        return self.project_id is not None and self.event_type in PUBLIC_EVENTS
