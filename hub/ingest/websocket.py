"""`GET /api/v1/telemetry/ws`: a sensor's readings over WebSocket, numbered and acknowledged, or as bare posts.

The first message decides which (`hub.ingest.inlet`, `hub.ingest.bare_posts`). The token comes in the Authorization
header, as `access_token` in the query, or in the message that opens a stream; cookies count for nothing, so that no
page elsewhere can make a browser send. A wrong one in the request is answered with 401 before the connection is one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from hub.access.credentials import sensor_of_token
from hub.access.identity import SensorPrincipal, bearer_token
from hub.database.pool import transaction
from hub.errors import Problem, not_found, problem_of, unauthorized
from hub.ingest import entrance, stream_messages
from hub.ingest.bare_posts import BarePosts, is_bare_post
from hub.ingest.body import READINGS_MAX
from hub.ingest.inlet import Inlet, first_message
from hub.ingest.sensor_socket import REFUSED, TRY_AGAIN, UNFORESEEN, Ending, first_of, until_token_is_void
from hub.ingest.stream_messages import Error, Open, Ready, Window, problem_object
from hub.ingest.streams import open_stream
from hub.ingest.unanswered import MESSAGES_MAX, READINGS_WAITING_MAX
from hub.services import CurrentServices, Services

OPEN_TIMEOUT_S = 10.0
"""How long a client may take to say which stream it is for."""
SEND_TIMEOUT_S = 30.0
"""How long a client may leave answers unread."""

log = logging.getLogger(__name__)
router = APIRouter(prefix="/api/v1", tags=["telemetry"])


class ClientSocket:
    """A connection of the framework's, as an inlet needs it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | None:
        """The next message; None when the client has gone."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        content: bytes | None = message.get("bytes")
        return content if content is not None else message["text"].encode()

    async def send(self, text: str) -> None:
        """Say something; nothing where the client has gone. One that does not read for long is let go."""
        if self._websocket.client_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._websocket.send_text(text)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
            log.info("event=inlet_unread client=%s", self._websocket.client)

    async def close(self, code: int) -> None:
        """End it."""
        if self._websocket.client_state is not WebSocketState.CONNECTED:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._websocket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
            log.info("event=inlet_lost client=%s", self._websocket.client)


@router.websocket("/telemetry/ws")
async def receive_telemetry(
    websocket: WebSocket,
    services: CurrentServices,
    access_token: Annotated[str, Query(description="The sensor's token, where no header can be set.")] = "",
    project_id: Annotated[UUID | None, Query(description="One of the sensor's, if given.")] = None,
) -> None:
    """Take a sensor's readings as they come."""
    with services.inlets.connected():
        token = bearer_token(websocket) or access_token
        sensor = await _sensor(services, token, project_id) if token else None
        await websocket.accept()
        socket = ClientSocket(websocket)
        ending = await _serve(services, socket, sensor, token, project_id)
        if ending.problem is not None:
            log.info("event=inlet_closed code=%d reason=%r", ending.code, ending.problem.detail)
        await socket.close(ending.code)


async def _serve(
    services: Services, socket: ClientSocket, sensor: SensorPrincipal | None, token: str, project_id: UUID | None
) -> Ending:
    try:
        first = await _first(services, socket, sensor)
        if isinstance(first, Ending):
            return first
        if is_bare_post(first):
            return await BarePosts(services, socket, sensor, token).run(first)
        message = first_message(first)
        if message.access_token is not None:
            sensor = await _sensor(services, message.access_token, project_id)
        if sensor is None:
            raise unauthorized("send the sensor's token")
        return await _follow(services, socket, sensor, message)
    except Exception as error:  # noqa: BLE001 - the connection's supervisor: whatever happened is told and logged
        ending = _ended_by(error)
        if ending.problem is not None:
            await socket.send(stream_messages.encode(Error(problem_object(ending.problem))))
        return ending


async def _first(services: Services, socket: ClientSocket, sensor: SensorPrincipal | None) -> bytes | Ending:
    """The first message, or why none comes. Who has brought a token may take his time. Raises: TimeoutError."""
    found: bytes | Ending | None
    if sensor is None:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            found = await socket.receive()
    else:
        work: dict[str, Coroutine[Any, Any, bytes | Ending | None]] = {
            "first message": socket.receive(),
            "token": until_token_is_void(services, sensor),
        }
        _, found = await first_of(work)
    if isinstance(found, Ending) and found.problem is not None:
        raise found.problem
    return Ending(REFUSED) if found is None else found


async def _follow(services: Services, socket: ClientSocket, sensor: SensorPrincipal, message: Open) -> Ending:
    """Raises: Problem, StorageUnavailable."""
    entrance.require_own(sensor, sensor.id, None)
    async with services.inlets.hold((sensor.id, message.stream)) as holder:
        async with transaction(services.pool) as connection:
            last_seq = await open_stream(connection, sensor.id, message.stream)
        ready = Ready(
            str(sensor.id),
            message.stream,
            last_seq,
            Window(MESSAGES_MAX, READINGS_WAITING_MAX),
            READINGS_MAX,
            services.settings.body_bytes_max,
        )
        await socket.send(stream_messages.encode(ready))
        return await Inlet(services, sensor, socket, message.stream, last_seq, holder).run()


async def _sensor(services: Services, token: str, project_id: UUID | None) -> SensorPrincipal:
    """Raises: Problem 401, 404 where the sensor is not in the project."""
    found = await sensor_of_token(services, token)
    if found is None:
        raise unauthorized("send the sensor's token")
    if project_id is not None and project_id not in found.project_ids:
        raise not_found("project")
    return found


def _ended_by(error: Exception) -> Ending:
    if isinstance(error, TimeoutError):
        return Ending(REFUSED, Problem(408, f"no stream was opened within {OPEN_TIMEOUT_S:g} s"))
    problem = problem_of(error)
    if problem is None:
        log.error("event=inlet_failed", exc_info=error)
        return Ending(UNFORESEEN, Problem(500, "the hub made a mistake; its log has the details"))
    return Ending(TRY_AGAIN if problem.status >= 500 else REFUSED, problem)
