"""One connection of a sensor that sends its readings over WebSocket.

Messages go in in the order in which they come, several at a time; each is answered after its commit, in that order.
Only so many wait for an answer (`hub.ingest.unanswered`): beyond that nothing is read, and the sender's own writes come
to a halt.

The connection ends when the client goes, when a message breaks the protocol, when something cannot be stored now, when
the token is good no longer, and when another connection takes the stream over. What has been read by then is committed
all the same (or fails), before the stream is anybody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from hub.access.principals import SensorPrincipal
from hub.errors import Problem, conflict, invalid, problem_of, too_many
from hub.ingest import entrance, stream_messages
from hub.ingest.arrivals import Outcome, Submission
from hub.ingest.body import decode_body, submission_of
from hub.ingest.column_body import decode_columns, submission_of_columns
from hub.ingest.inlets import Holder
from hub.ingest.rates import whole_seconds
from hub.ingest.sensor_socket import (
    GONE,
    REFUSED,
    SUPERSEDED,
    TOO_LARGE,
    TRY_AGAIN,
    Ending,
    Socket,
    first_of,
    until_token_is_void,
)
from hub.ingest.stream_messages import Error, Readings, Said, problem_object
from hub.ingest.streams import StreamPlace
from hub.ingest.unanswered import MESSAGES_MAX, Unanswered, Waiting
from hub.services import Services
from shared.errors import StorageUnavailable

SLOW_DOWN_S_MAX = 10.0
"""How long a sensor that sends too fast is kept waiting; beyond that it is sent away."""


class Inlet:
    """Takes one connection's messages and answers them.

    Args:
        last_seq: how far the stream has come.
        holder: of the stream.
    """

    def __init__(
        self, services: Services, sensor: SensorPrincipal, socket: Socket, stream: str, last_seq: int, holder: Holder
    ) -> None:
        self._services = services
        self._sensor = sensor
        self._socket = socket
        self._stream = stream
        self._last_seq = last_seq
        self._holder = holder
        self._seq = 0
        self._submitted_seq = last_seq
        self._signals: set[tuple[str, ...]] = set()
        self._unanswered = Unanswered(
            self._say, self._require_service, timeout_s=services.settings.ingest_post_timeout_s
        )

    async def run(self) -> Ending:
        """Until it ends; the reason is told. What was read is settled then."""
        work: dict[str, Coroutine[Any, Any, Ending]] = {
            "answers": self._unanswered.answer(),
            "reader": self._read(),
            "token": until_token_is_void(self._services, self._sensor),
            "takeover": self._watch_takeover(),
        }
        name, ending = await first_of(work)
        if name != "answers":
            await self._unanswered.settle()
        if ending.problem is not None:
            await self._say(Error(problem_object(ending.problem), ending.seq))
        await self._unanswered.abandon()
        return ending

    async def _read(self) -> Ending:
        while True:
            await self._unanswered.room()
            content = await self._socket.receive()
            if content is None:
                return Ending(GONE)
            if len(content) > self._services.settings.body_bytes_max:
                detail = f"the message is larger than {self._services.settings.body_bytes_max} bytes"
                return Ending(TOO_LARGE, Problem(413, detail))
            try:
                message = stream_messages.decode(content)
                self._require_order(message)
            except Problem as problem:
                return Ending(REFUSED, problem)
            assert isinstance(message, Readings)
            ending = await self._take(message)
            if ending is not None:
                return ending

    def _require_order(self, message: object) -> None:
        """Raises: Problem 409."""
        if not isinstance(message, Readings):
            raise conflict("the stream is open already", code="already_open")
        if message.seq <= self._seq:
            raise conflict(f"seq {message.seq} came after {self._seq}: it must rise", code="seq_order")
        self._seq = message.seq

    async def _take(self, message: Readings) -> Ending | None:
        """Queue a message. Returns: why the connection must end, if it must."""
        if message.seq <= self._last_seq:
            self._unanswered.add(Waiting(message.seq, 0, Outcome(0)))
            return None
        try:
            async with asyncio.timeout(self._services.settings.ingest_post_timeout_s):
                submission = await self._submission(message)
                await self._slow_down(submission.readings)
                await self._services.ingest.room()
                result = self._services.ingest.submit(submission)
        except Problem as problem:
            if problem.status in (401, 403) or problem.code == "decommissioned":
                return Ending(REFUSED, problem, message.seq)
            if problem.status == 429:
                return Ending(TRY_AGAIN, problem, message.seq)
            self._unanswered.add(Waiting(message.seq, 0, problem))
            return None
        except (StorageUnavailable, TimeoutError) as error:
            return Ending(TRY_AGAIN, _unstored(error), message.seq)
        self._submitted_seq = message.seq
        self._unanswered.add(Waiting(message.seq, submission.readings, result))
        return None

    async def _submission(self, message: Readings) -> Submission:
        """Raises: Problem, StorageUnavailable."""
        submission, run_id = self._decoded(message)
        await entrance.require_place(self._services, self._sensor, run_id, submission.session_id)
        if submission.signals not in self._signals:
            await entrance.require_signals(self._services, self._sensor.id, submission.signals)
            if len(self._signals) < MESSAGES_MAX:
                self._signals.add(submission.signals)
        return replace(submission, place=StreamPlace(self._stream, message.seq, self._submitted_seq))

    async def _slow_down(self, readings: int) -> None:
        """Wait until the sensor may send so much. Raises: Problem 429 when that takes long."""
        wait_s = self._services.rates.take(self._sensor.id, readings, self._sensor.readings_per_s_max)
        while wait_s:
            if wait_s > SLOW_DOWN_S_MAX:
                raise too_many("the sensor sends more than it may; come again later", whole_seconds(wait_s))
            await asyncio.sleep(wait_s)
            wait_s = self._services.rates.take(self._sensor.id, readings, self._sensor.readings_per_s_max)

    def _decoded(self, message: Readings) -> tuple[Submission, UUID | None]:
        """The readings, and the run that they name. Raises: Problem."""
        if isinstance(message.columns, msgspec.Raw):
            columns = decode_columns(bytes(message.columns))
            entrance.require_own(self._sensor, columns.sensor_id or self._sensor.id, columns.project_id)
            return submission_of_columns(columns, self._sensor.id), columns.run_id
        assert isinstance(message.body, msgspec.Raw)
        body = decode_body(bytes(message.body))
        entrance.require_own(self._sensor, body.sensor_id, body.project_id)
        return submission_of(body), body.run_id

    async def _say(self, message: Said) -> None:
        await self._socket.send(stream_messages.encode(message))

    async def _require_service(self) -> None:
        """Raises: Problem."""
        await entrance.require_in_service(self._services, self._sensor.id)

    async def _watch_takeover(self) -> Ending:
        await self._holder.superseded.wait()
        return Ending(SUPERSEDED, conflict("another connection has taken the stream over", code="superseded"))


def first_message(content: bytes | None) -> stream_messages.Open:
    """The message that opens a stream. Raises: Problem."""
    message = stream_messages.decode(content or b"")
    if not isinstance(message, stream_messages.Open):
        raise invalid("type", 'the first message opens a stream: {"type": "open", "stream": …}')
    return message


def _unstored(error: Exception) -> Problem:
    found = problem_of(error)
    return found or Problem(503, "the readings could not be stored in time")
