"""A sensor that sends over WebSocket what it would post, and nothing around it.

    {"sensor_id": …, "readings": […]}     ────►
                                          ◄────    {"status": "accepted", "accepted": 2}

Each message is a body of `POST /api/v1/telemetry`; each is answered, in order, after its commit, as that would be: with
how many readings are new, or with the problem, which has a number as its `status`. The next one is read then. What was
not answered when the connection was lost is to be sent again; it is stored once, as everywhere.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from hub.access.credentials import sensor_of_token
from hub.access.principals import SensorPrincipal
from hub.errors import Problem, problem_of, unauthorized
from hub.ingest import entrance, nonfinite
from hub.ingest.body import decode_body
from hub.ingest.sensor_socket import (
    GONE,
    REFUSED,
    TOO_LARGE,
    UNFORESEEN,
    Ending,
    Socket,
    first_of,
    until_token_is_void,
)
from hub.ingest.stream_messages import problem_object
from hub.services import Services

log = logging.getLogger(__name__)


class _Outline(msgspec.Struct):
    """As much of a message as tells what it is."""

    type: Any = msgspec.UNSET
    sensor_id: Any = msgspec.UNSET
    readings: Any = msgspec.UNSET


_outline = msgspec.json.Decoder(_Outline)


def is_bare_post(content: bytes) -> bool:
    """Whether a message is a post's body; what cannot be read is none."""
    try:
        found = _outline.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not isinstance(error, msgspec.DecodeError) or not nonfinite.may_be_why(error, content):
            return False
        try:
            found = msgspec.convert(nonfinite.loads(content), _Outline)
        except (msgspec.DecodeError, RecursionError, Problem):
            return False
    is_named = found.sensor_id is not msgspec.UNSET or found.readings is not msgspec.UNSET
    return found.type is msgspec.UNSET and is_named


class BarePosts:
    """One connection.

    Args:
        sensor: of the token that came with the request; None where none came.
        token: looked up for each message, so that it is refused as soon as it is good no longer.
    """

    def __init__(self, services: Services, socket: Socket, sensor: SensorPrincipal | None, token: str) -> None:
        self._services = services
        self._socket = socket
        self._sensor = sensor
        self._token = token

    async def run(self, first: bytes) -> Ending:
        """Until it ends; the client has been told why by then."""
        if self._sensor is None:
            ending = Ending(REFUSED, unauthorized("send the sensor's token in the header, or as access_token"))
        else:
            work = {"posts": self._serve(first), "token": until_token_is_void(self._services, self._sensor)}
            _, ending = await first_of(work)
        if ending.problem is not None:
            await self._say(problem_object(ending.problem))
        return ending

    async def _serve(self, content: bytes | None) -> Ending:
        bytes_max = self._services.settings.body_bytes_max
        while content is not None:
            if len(content) > bytes_max:
                return Ending(TOO_LARGE, Problem(413, f"the message is larger than {bytes_max} bytes"))
            try:
                accepted = await self._take(content)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    log.error("event=bare_post_failed", exc_info=error)
                    return Ending(UNFORESEEN, Problem(500, "the hub made a mistake; its log has the details"))
                if problem.status == 401:
                    return Ending(REFUSED, problem)
                await self._say(problem_object(problem))
            else:
                await self._say({"status": "accepted", "accepted": accepted})
            content = await self._socket.receive()
        return Ending(GONE)

    async def _take(self, content: bytes) -> int:
        """Returns: how many readings are new. Raises: Problem, StorageUnavailable."""
        sensor = await sensor_of_token(self._services, self._token)
        if sensor is None:
            raise unauthorized("the token is good no longer")
        done = await entrance.take(self._services, sensor, decode_body(content))
        return done.new

    async def _say(self, told: dict[str, Any]) -> None:
        await self._socket.send(msgspec.json.encode(told).decode())
