"""HTTP of broker credentials: what a person reads live values and events of his projects with, over MQTT."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser
from hub.access.rules import IN_PERSON, SIGNED_IN, rule
from hub.accounts import broker_credentials as store
from hub.broker.address import BrokerAddress, broker_address
from hub.broker.provision import ProvisioningRefused
from hub.broker.rights import member_username, of_member, project_topics
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import Problem, conflict, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Name
from hub.paging import Paging
from hub.services import CurrentServices

router = APIRouter(prefix="/auth/broker-credentials")

CREDENTIALS_MAX = 20
"""Credentials of one person that are good at the same time."""


class NewBrokerCredential(Body):
    """What the credentials are for."""

    name: Name


class BrokerCredentialView(BaseModel):
    """Where the broker is, who one is there, and what may be subscribed to; without the password."""

    id: UUID
    name: str
    username: str
    status: Literal["active", "lost"] = Field(description="`lost`: the broker does not know them any more.")
    created_at: datetime
    host: str
    port: int
    tls: bool
    ca_pem: str | None = Field(description="Authority of the broker's certificate, where the system's do not vouch.")
    topics: list[str] = Field(description="Those of all projects of the caller, as of now.")

    @classmethod
    def of(cls, row: store.Row, address: BrokerAddress) -> Self:
        """From the database."""
        return cls(
            id=row["id"],
            name=row["name"],
            username=row["mqtt_username"],
            status="active" if row["lost_at"] is None else "lost",
            created_at=row["created_at"],
            host=address.host,
            port=address.port,
            tls=address.tls,
            ca_pem=address.ca_pem,
            topics=[topic for project_id in row["project_ids"] for topic in project_topics(project_id)],
        )


class BrokerCredentialWithPassword(BaseModel):
    """New credentials. The password is shown once: a repeat of the request has none."""

    broker_credential: BrokerCredentialView
    password: str | None


class BrokerCredentials(BaseModel):
    """The caller's credentials, newest first; revoked ones are gone."""

    broker_credentials: list[BrokerCredentialView]
    total: int
    page: int
    page_size: int


@router.post("", status_code=201, response_model=BrokerCredentialWithPassword, dependencies=[rule(IN_PERSON)])
async def add_credential(changes: CurrentChanges, user: CurrentUser, body: NewBrokerCredential) -> Response:
    """Draw credentials that may read live values and events of the caller's projects, and write nothing.

    The broker follows as the caller joins and leaves projects.
    """
    services, credential_id = changes.services, uuid7()
    address, username = broker_address(services.settings), member_username(credential_id)

    async def create(change: Change) -> BrokerCredentialWithPassword:
        connection = change.connection
        await store.making(connection)
        if await store.count(connection, user.id) >= CREDENTIALS_MAX:
            raise conflict(f"you have {CREDENTIALS_MAX} of these; revoke one first", code="too_many_credentials")
        row = await store.add(connection, credential_id, user.id, body.name, username, change.now)
        access = await services.provisioner.issue(username, of_member(row["project_ids"]))
        _record(change, "broker_credential.made", row)
        return BrokerCredentialWithPassword(
            broker_credential=BrokerCredentialView.of(row, address), password=access.password
        )

    try:
        async with services.broker_turns.turn():
            return await changes.once(create, stored=_without_password)
    except ProvisioningRefused as error:
        raise Problem(409, str(error), code="provisioning_refused") from error


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_credentials(
    services: CurrentServices, user: CurrentUser, paging: Annotated[Paging, Depends()]
) -> BrokerCredentials:
    """The caller's own credentials."""
    address = broker_address(services.settings)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, user.id, paging.page_size, paging.offset)
    views = [BrokerCredentialView.of(row, address) for row in rows]
    return BrokerCredentials(broker_credentials=views, total=total, page=paging.page, page_size=paging.page_size)


@router.delete("/{credential_id}", status_code=204, dependencies=[rule(IN_PERSON)])
async def revoke_credential(changes: CurrentChanges, user: CurrentUser, credential_id: UUID) -> None:
    """Make credentials of the caller's worthless, and end their connections: at once, if the broker can be told."""
    async with changes.begin() as change:
        row = await store.revoke(change.connection, credential_id, user.id, change.now)
        if row is None:
            raise not_found("broker credential")
        _record(change, "broker_credential.revoked", row)
    await changes.services.member_rights.void(row["mqtt_username"])


def _record(change: Change, event_type: str, row: store.Row) -> None:
    payload = {"name": row["name"], "username": row["mqtt_username"]}
    change.record(NewEvent(event_type, SubjectType.TOKEN, row["id"], payload=payload))


def _without_password(view: BaseModel) -> BaseModel:
    return view.model_copy(update={"password": None})
