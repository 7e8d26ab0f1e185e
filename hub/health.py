"""Is the hub well? For people, load balancers and Prometheus. Answers whatever state the database is in."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel

from hub.access.rules import ANYONE, rule
from hub.database.tiers import Tier
from hub.ingest.tally import IngestState
from hub.services import AnyServices

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """That the hub is there."""

    status: Literal["ok"] = "ok"
    service: Literal["labrelay-hub"] = "labrelay-hub"
    env: str


class Readiness(BaseModel):
    """Whether the hub can do its work, and what keeps it from it.

    `ready`: all is well. `degraded`: the broker is away; HTTP works. `unavailable`: the database is away.
    """

    status: Literal["ready", "degraded", "unavailable"]
    database: Literal["ok", "unavailable"]
    database_error: str
    storage_tier: Tier | None
    incarnation: UUID | None
    broker: Literal["connected", "unavailable"]
    broker_error: str
    agents_online: int
    ingest: IngestState


@router.get("/health", dependencies=[rule(ANYONE)])
async def health(services: AnyServices) -> Health:
    """That the hub is there, and which installation it is."""
    return Health(env=services.settings.env)


@router.get("/health/live", dependencies=[rule(ANYONE)])
async def live(services: AnyServices) -> Health:
    """That the process answers; restart it when it does not."""
    return Health(env=services.settings.env)


@router.get(
    "/health/ready", dependencies=[rule(ANYONE)], responses={503: {"model": Readiness, "description": "Not ready"}}
)
async def ready(services: AnyServices, response: Response) -> Readiness:
    """Whether database and broker are there: 200, else 503 with what is missing."""
    storage, broker = services.storage, services.broker
    if not (storage.is_ready and broker.connected):
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    known = storage.is_ready
    return Readiness(
        status="unavailable" if not known else "ready" if broker.connected else "degraded",
        database="ok" if known else "unavailable",
        database_error=storage.error,
        storage_tier=services.tier if known else None,
        incarnation=services.incarnation if known else None,
        broker="connected" if broker.connected else "unavailable",
        broker_error=broker.state.error,
        agents_online=services.presence.online,
        ingest=services.ingest.state(),
    )


@router.get("/metrics", dependencies=[rule(ANYONE)], response_class=Response)
async def metrics(services: AnyServices) -> Response:
    """Counters and gauges in Prometheus' text format."""
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
