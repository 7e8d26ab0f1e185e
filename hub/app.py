"""The hub as an ASGI application: its routes, its middleware, and its parts over its life.

::

    RequestContext → CORS → BodyLimit → CsrfGuard → routes
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from hub import health, parts
from hub.access.cookies import CsrfGuard
from hub.accounts import routes as account_routes
from hub.agents import binding_routes, epoch_routes
from hub.agents import routes as agent_routes
from hub.certificates import routes as certificate_routes
from hub.declared import only_declared
from hub.documents import documents_router
from hub.errors import install_error_handlers
from hub.events import routes as event_routes
from hub.events import webhook_routes
from hub.experiments import routes as experiment_routes
from hub.ingest import import_routes, set_aside_routes, websocket
from hub.ingest import routes as ingest_routes
from hub.metrics import Metrics
from hub.portal.files import portal_router
from hub.projects import routes as project_routes
from hub.recalculation import routes as recalculation_routes
from hub.requests import BodyLimit, RequestContext, Uploads
from hub.runs import batch_routes as run_batch_routes
from hub.runs import routes as run_routes
from hub.runs.annotations import routes as run_annotation_routes
from hub.runs.artifacts import content_routes as run_content_routes
from hub.runs.artifacts import routes as run_artifact_routes
from hub.runs.attached import routes as run_sensor_routes
from hub.runs.metrics import routes as run_metric_routes
from hub.sensors import routes as sensor_routes
from hub.sessions import routes as session_routes
from hub.settings import HubSettings
from hub.telemetry import aligned_routes
from hub.telemetry import routes as telemetry_routes

ROUTERS: tuple[APIRouter, ...] = (
    account_routes.router,
    project_routes.router,
    experiment_routes.router,
    run_batch_routes.router,
    run_routes.router,
    run_sensor_routes.router,
    run_metric_routes.router,
    run_annotation_routes.router,
    run_artifact_routes.router,
    run_content_routes.router,
    sensor_routes.router,
    recalculation_routes.router,
    session_routes.router,
    certificate_routes.router,
    agent_routes.router,
    binding_routes.router,
    epoch_routes.router,
    import_routes.router,
    ingest_routes.router,
    websocket.router,
    set_aside_routes.router,
    telemetry_routes.router,
    aligned_routes.router,
    event_routes.router,
    webhook_routes.router,
    health.router,
)
_EXPOSED_HEADERS = (
    "X-Request-Id",
    "X-Trace-Id",
    "Retry-After",
    "ETag",
    "Idempotency-Replayed",
    "Content-Disposition",
    "Repr-Digest",
    "Accept-Ranges",
    "Content-Range",
)


def create_app(settings: HubSettings) -> FastAPI:
    """The application. Nothing is connected until its lifespan begins."""
    metrics = Metrics()
    app = FastAPI(
        title="Labrelay",
        description="Carries readings from laboratory instruments into experiment records.",
        version=version("labrelay"),
        lifespan=_lifespan(settings, metrics),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # hub.declared looks at it
    )
    install_error_handlers(app)
    _add_middleware(app, settings, metrics)
    for router in (*ROUTERS, documents_router(app)):
        app.include_router(router, dependencies=[Depends(only_declared)])
    app.include_router(portal_router(files("hub") / "portal"))
    return app


def _add_middleware(app: FastAPI, settings: HubSettings, metrics: Metrics) -> None:
    """Innermost first."""
    app.add_middleware(CsrfGuard, origins=(settings.base_url, *settings.cors_origins))
    app.add_middleware(
        BodyLimit,
        bytes_max=settings.body_bytes_max,
        timeout_s=settings.body_timeout_s,
        uploads=(
            Uploads(run_content_routes.UPLOAD_PATH, settings.artifact_bytes_max),
            Uploads(import_routes.IMPORT_PATH, settings.agent_import_bytes_max, "POST"),
        ),
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("*",),
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(RequestContext, metrics=metrics, secure=settings.secure_cookies)


def _lifespan(settings: HubSettings, metrics: Metrics) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        built = parts.build(settings, metrics)
        app.state.services = built.services
        async with parts.running(built, app.state):
            yield

    return lifespan
