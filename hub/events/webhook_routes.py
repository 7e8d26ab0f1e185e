"""HTTP of webhooks and their deliveries. For owners: a subscription sends what happens in a project to the outside, and
its URL is often a credential by itself.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from hub.access.identity import CurrentUser, Role, User, member_of, require_role
from hub.access.named_project import project_to_be
from hub.access.rules import OWNER, rule
from hub.database.ids import uuid7
from hub.database.pool import Connection, acquire
from hub.errors import conflict, invalid, not_found
from hub.events import outbox, subscriptions
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.events.outbox import DeliveryFilter
from hub.events.store import Row
from hub.events.subscriptions import Subscription
from hub.events.target import TargetRefused, parse
from hub.events.views import Deliveries, DeliveryStatus, DeliveryView, NewWebhook, WebhookChange, Webhooks, WebhookView
from hub.paging import Paging
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

PER_PROJECT_MAX = 100
ProjectId = Annotated[UUID | None, Query(description="Only of this project.")]


@router.get("", dependencies=[rule(OWNER)])
async def list_webhooks(
    services: CurrentServices, user: CurrentUser, paging: Annotated[Paging, Depends()], project_id: ProjectId = None
) -> Webhooks:
    """Subscriptions, newest first; without `project_id`, those of all projects that the caller owns."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.OWNER)
    async with acquire(services.pool) as connection:
        rows, total = await subscriptions.page(connection, user.id, project_id, paging.page_size, paging.offset)
    views = [WebhookView.of(row) for row in rows]
    return Webhooks(webhooks=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("", status_code=201, response_model=WebhookView, dependencies=[rule(OWNER)])
async def add_webhook(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    body: NewWebhook,
    project_id: ProjectId = None,
) -> Response:
    """Send events of these types to a URL from now on. The target may not be a private address."""
    project = project_to_be("webhook", body.project_id, project_id)
    await member_of(services, user, project, Role.OWNER)
    await _check_target(services, body.target_url)
    subscription_id = uuid7()

    async def create(change: Change) -> WebhookView:
        if await subscriptions.count_locked(change.connection, project) >= PER_PROJECT_MAX:
            raise conflict(f"a project has at most {PER_PROJECT_MAX} webhooks", code="too_many_webhooks")
        wanted = Subscription(project, body.target_url, body.event_types, body.secret or "", body.is_active)
        await subscriptions.add(change.connection, subscription_id, wanted, user.id, change.now)
        view = WebhookView.of(await _find(change.connection, subscription_id, user))
        change.record(_event("webhook.created", view))
        return view

    return await changes.once(create)


@router.get("/deliveries", dependencies=[rule(OWNER)])
async def list_deliveries(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: ProjectId = None,
    status: DeliveryStatus | None = None,
    subscription_id: UUID | None = None,
) -> Deliveries:
    """What was, is, or could not be delivered, newest first."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.OWNER)
    wanted = DeliveryFilter(user.id, project_id, status, subscription_id)
    async with acquire(services.pool) as connection:
        rows, total = await outbox.page(connection, wanted, paging.page_size, paging.offset)
    views = [DeliveryView.of(row) for row in rows]
    return Deliveries(deliveries=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("/deliveries/{delivery_id}:retry", dependencies=[rule(OWNER)])
async def retry_delivery(changes: CurrentChanges, user: CurrentUser, delivery_id: UUID) -> DeliveryView:
    """Deliver now, and with all attempts anew, what was given up or waits for its next attempt."""
    async with changes.begin() as change:
        row = await _find_delivery(change.connection, delivery_id, user)
        if row["status"] not in (DeliveryStatus.DEAD_LETTERED, DeliveryStatus.PENDING):
            raise conflict(f"the delivery is {row['status']}", code="not_retriable")
        await outbox.retry(change.connection, delivery_id, change.now)
        view = DeliveryView.of(await _find_delivery(change.connection, delivery_id, user))
        told: dict[str, Any] = {"delivery_id": str(view.id), "event_id": view.event_id, "was": row["status"]}
        change.record(
            NewEvent("webhook.delivery_retried", SubjectType.WEBHOOK, view.subscription_id, view.project_id, told)
        )
        return view


@router.get("/{webhook_id}", dependencies=[rule(OWNER)])
async def get_webhook(services: CurrentServices, user: CurrentUser, webhook_id: UUID) -> WebhookView:
    """One subscription."""
    async with acquire(services.pool) as connection:
        return WebhookView.of(_owned(await subscriptions.one(connection, webhook_id, user.id), "webhook"))


@router.patch("/{webhook_id}", dependencies=[rule(OWNER)])
async def change_webhook(
    changes: CurrentChanges, user: CurrentUser, webhook_id: UUID, body: WebhookChange
) -> WebhookView:
    """Switch a subscription off, or on again: then what waited is delivered."""
    async with changes.begin() as change:
        row = await _find(change.connection, webhook_id, user)
        if row["is_active"] == body.is_active:
            return WebhookView.of(row)
        await subscriptions.activate(change.connection, webhook_id, body.is_active, change.now)
        view = WebhookView.of(await _find(change.connection, webhook_id, user))
        change.record(_event("webhook.updated", view))
        return view


@router.delete("/{webhook_id}", status_code=204, dependencies=[rule(OWNER)])
async def delete_webhook(changes: CurrentChanges, user: CurrentUser, webhook_id: UUID) -> None:
    """Remove a subscription with all its deliveries, those that wait too."""
    async with changes.begin() as change:
        view = WebhookView.of(await _find(change.connection, webhook_id, user))
        await subscriptions.delete(change.connection, webhook_id)
        change.record(_event("webhook.deleted", view))


async def _check_target(services: Services, url: str) -> None:
    """Refuse at once what would be refused at each delivery. A name that is not known now may be later."""
    try:
        async with asyncio.timeout(services.settings.webhook_timeout_s):
            await services.webhook_guard.addresses(parse(url))
    except TargetRefused as error:
        raise invalid("target_url", error.message) from None
    except OSError:  # TimeoutError is one
        return


async def _find(connection: Connection, webhook_id: UUID, user: User) -> Row:
    return _owned(await subscriptions.lock_one(connection, webhook_id, user.id), "webhook")


async def _find_delivery(connection: Connection, delivery_id: UUID, user: User) -> Row:
    return _owned(await outbox.lock_one(connection, delivery_id, user.id), "delivery")


def _owned(row: Row | None, what: str) -> Row:
    if row is None:
        raise not_found(what)
    require_role(row["role"], Role.OWNER, what)
    return row


def _event(event_type: str, view: WebhookView) -> NewEvent:
    return NewEvent(event_type, SubjectType.WEBHOOK, view.id, view.project_id, view.model_dump(mode="json"))
