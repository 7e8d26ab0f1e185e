"""Events, webhooks and deliveries as the API takes and shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from hub.events.event import ActorType, PublicEvent, SubjectType
from hub.events.store import Row
from hub.events.target import URL_LENGTH_MAX, TargetRefused, parse
from hub.fields import Body, Flag, storable

SECRET_LENGTH_MAX = 500


class DeliveryStatus(StrEnum):
    """Where a delivery is: pending → in_progress → succeeded, or pending again, or dead_lettered."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"


class WebhookBody(BaseModel):
    """What a webhook is sent: the same bytes at each attempt."""

    event_type: PublicEvent
    project_id: UUID
    occurred_at: datetime
    payload: dict[str, Any]


class ToldEvent(WebhookBody):
    """A public event in streams and on MQTT."""

    id: int = Field(description="Rises in the order in which things happened; a cursor, and what repeats are told by.")


class EventView(BaseModel):
    """Something that was done, by whom, and from where."""

    id: int
    event_type: str
    project_id: UUID | None
    subject_type: SubjectType
    subject_id: UUID | None
    actor_type: ActorType
    actor_id: UUID | None
    actor_role: str = Field(description="The actor's role in the project at that time.")
    address: str = Field(description="Where the request came from.")
    request_id: str
    payload: dict[str, Any]
    is_public: bool = Field(description="Whether webhooks, streams and MQTT were told.")
    created_at: datetime


class Events(BaseModel):
    """A page of events, newest first."""

    events: list[EventView]
    total: int
    page: int
    page_size: int


def _target(url: str) -> str:
    try:
        parse(url)
    except TargetRefused as error:
        raise ValueError(error.message) from None
    return url


def _each_once(types: Sequence[PublicEvent]) -> list[PublicEvent]:
    return list(dict.fromkeys(types))


TargetUrl = Annotated[str, StringConstraints(max_length=URL_LENGTH_MAX), AfterValidator(_target)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=SECRET_LENGTH_MAX), AfterValidator(storable)]
EventTypes = Annotated[list[PublicEvent], Field(min_length=1, max_length=100), AfterValidator(_each_once)]


class NewWebhook(Body):
    """A subscription to be."""

    project_id: UUID | None = Field(None, description="`project_id` in the query will do.")
    target_url: TargetUrl
    event_types: EventTypes
    secret: Secret | None = Field(
        None, description="Signs what is sent, and is never shown again; without it nothing is signed."
    )
    is_active: Flag = True


class WebhookChange(Body):
    """Switch a subscription on or off."""

    is_active: Flag


class WebhookView(BaseModel):
    """A subscription. While it is not active nothing is recorded for it, and what waits goes on waiting."""

    id: UUID
    project_id: UUID
    target_url: str
    event_types: list[str]
    is_signed: bool = Field(description="Whether it has a secret.")
    is_active: bool
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def of(row: Row) -> WebhookView:
        """A row of subscriptions."""
        return WebhookView(**{name: row[name] for name in WebhookView.model_fields})


class Webhooks(BaseModel):
    """A page of subscriptions, newest first."""

    webhooks: list[WebhookView]
    total: int
    page: int
    page_size: int


class DeliveryView(BaseModel):
    """One event on its way to one subscription."""

    id: UUID
    subscription_id: UUID
    project_id: UUID
    event_id: int
    event_type: str
    target_url: str
    request_body: dict[str, Any]
    status: DeliveryStatus
    attempt_count: int
    last_error: str
    dedup_key: str
    locked_at: datetime | None
    next_attempt_at: datetime
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def of(row: Row) -> DeliveryView:
        """A row of deliveries."""
        fields = {name: row[name] for name in DeliveryView.model_fields}
        return DeliveryView(**fields | {"request_body": orjson.loads(row["request_body"])})


class Deliveries(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]
    total: int
    page: int
    page_size: int
