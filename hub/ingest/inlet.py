"""One connection of a sensor that sends its readings over WebSocket.

Messages go in in the order in which they come, several at a time; each is answered after its commit, in that order. At
most `MESSAGES_MAX` messages with `READINGS_WAITING_MAX` readings wait for an answer: beyond that nothing is read, and
the sender's own writes come to a halt.

The connection ends when the client goes, when a message breaks the protocol, when something cannot be stored now, when
the token is good no longer, and when another connection takes the stream over. What has been read by then is committed
all the same (or fails), before the stream is anybody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from hub.access.credentials import still_good
from hub.access.principals import SensorPrincipal
from hub.database.pool import acquire
from hub.errors import Problem, conflict, invalid, problem_of, too_many, unauthorized
from hub.ingest import entrance, stream_messages
from hub.ingest.arrivals import Outcome, Submission
from hub.ingest.body import decode_body, submission_of
from hub.ingest.column_body import decode_columns, submission_of_columns
from hub.ingest.inlets import Holder
from hub.ingest.rates import whole_seconds
from hub.ingest.stream_messages import Acknowledged, Error, Readings, Refused, Said, problem_object
from hub.ingest.streams import StreamPlace
from hub.services import Services
from shared.errors import StorageUnavailable

MESSAGES_MAX = 64
READINGS_WAITING_MAX = 100_000
SLOW_DOWN_S_MAX = 10.0
"""How long a sensor that sends too fast is kept waiting; beyond that it is sent away."""
RECHECK_S = 2.0
"""How often it is asked whether the token is still good."""

GONE, REFUSED, TOO_LARGE, UNFORESEEN, TRY_AGAIN, SUPERSEDED = 1000, 1008, 1009, 1011, 1013, 4409
"""Close codes."""


_Result = TypeVar("_Result")


class Socket(Protocol):
    """The connection, as far as it is needed here."""

    async def receive(self) -> bytes | None:
        """The next message; None when the client has gone."""
        ...

    async def send(self, text: str) -> None:
        """Say something; nothing where the client has gone."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ends.

    Attributes:
        seq: of the message that it is about.
    """

    code: int
    problem: Problem | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message that waits for its answer: what becomes of it, or what is wrong with it."""

    seq: int
    readings: int
    result: asyncio.Future[Outcome] | Outcome | Problem


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
        self._waiting: deque[_Waiting] = deque()
        self._readings_waiting = 0
        self._changed = asyncio.Event()

    async def run(self) -> Ending:
        """Until it ends; the reason is told. What was read is settled then."""
        work: dict[str, Coroutine[Any, Any, Ending]] = {
            "answers": self._answer(),
            "reader": self._read(),
            "token": until_token_is_void(self._services, self._sensor),
            "takeover": self._watch_takeover(),
        }
        name, ending = await first_of(work)
        if name != "answers":
            await self._settle()
        if ending.problem is not None:
            await self._say(Error(problem_object(ending.problem), ending.seq))
        await self._abandon()
        return ending

    async def _read(self) -> Ending:
        while True:
            await self._room()
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
            self._wait_for(_Waiting(message.seq, 0, Outcome(0)))
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
            self._wait_for(_Waiting(message.seq, 0, problem))
            return None
        except (StorageUnavailable, TimeoutError) as error:
            return Ending(TRY_AGAIN, _unstored(error), message.seq)
        self._submitted_seq = message.seq
        self._wait_for(_Waiting(message.seq, submission.readings, result))
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

    def _wait_for(self, one: _Waiting) -> None:
        self._waiting.append(one)
        self._readings_waiting += one.readings
        self._changed.set()

    async def _room(self) -> None:
        while len(self._waiting) >= MESSAGES_MAX or self._readings_waiting >= READINGS_WAITING_MAX:
            self._changed.clear()
            await self._changed.wait()

    async def _answer(self) -> Ending:
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            ending = await self._answer_waiting()
            if ending is not None:
                return ending

    async def _answer_waiting(self) -> Ending | None:
        """Answer the first that waits, and all behind it that are settled too, with one acknowledgement."""
        seq, done = 0, Outcome(0)
        while self._waiting and (not seq or _is_settled(self._waiting[0])):
            first = self._waiting[0]
            if isinstance(first.result, Problem):
                await self._acknowledge(seq, done)
                seq, done = 0, Outcome(0)
                self._forget_first()
                await self._say(Refused(first.seq, problem_object(first.result)))
                continue
            try:
                one = await self._outcome(first)
            except Exception as error:  # noqa: BLE001 - a supervisor's edge: the connection ends with what went wrong
                await self._acknowledge(seq, done)
                return _failed(error, first.seq)
            self._forget_first()
            seq, done = first.seq, _sum(done, one)
        await self._acknowledge(seq, done)
        return None

    async def _outcome(self, first: _Waiting) -> Outcome:
        """Raises: Problem, StorageUnavailable, or what speaks against the message."""
        assert not isinstance(first.result, Problem)
        if isinstance(first.result, Outcome):
            return first.result
        try:
            async with asyncio.timeout(self._services.settings.ingest_post_timeout_s):
                done = await asyncio.shield(first.result)
        except TimeoutError:
            raise StorageUnavailable("the readings could not be stored in time", hint="send them again") from None
        if done.set_aside:
            await entrance.require_in_service(self._services, self._sensor.id)
        return done

    def _forget_first(self) -> None:
        self._readings_waiting -= self._waiting.popleft().readings
        self._changed.set()

    async def _acknowledge(self, seq: int, done: Outcome) -> None:
        if seq:
            await self._say(Acknowledged(seq, done.new, done.repeated, done.set_aside))

    async def _say(self, message: Said) -> None:
        await self._socket.send(stream_messages.encode(message))

    async def _watch_takeover(self) -> Ending:
        await self._holder.superseded.wait()
        return Ending(SUPERSEDED, conflict("another connection has taken the stream over", code="superseded"))

    async def _settle(self) -> None:
        """Answer what can still be stored."""
        try:
            async with asyncio.timeout(self._services.settings.ingest_post_timeout_s):
                while self._waiting and await self._answer_waiting() is None:
                    pass
        except TimeoutError:
            return

    async def _abandon(self) -> None:
        """Wait until what is left has been stored or has failed; nobody is told any more."""
        left = [one.result for one in self._waiting if isinstance(one.result, asyncio.Future)]
        if left:
            await asyncio.wait(left, timeout=self._services.settings.ingest_post_timeout_s)
        for one in left:
            if not one.cancel() and not one.cancelled():
                one.exception()  # looked at, so that nothing warns of it


async def first_of(work: Mapping[str, Coroutine[Any, Any, _Result]]) -> tuple[str, _Result]:
    """What ends first of what a connection is doing, by its name; the rest is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(one, name=f"inlet {name}") for name, one in work.items()}
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks.values():
            task.cancel()
    return next((name, task.result()) for name, task in tasks.items() if not task.cancelled())


async def until_token_is_void(services: Services, sensor: SensorPrincipal) -> Ending:
    """Ends with the token; looked at every `RECHECK_S`."""
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            async with acquire(services.pool) as connection:
                if not await still_good(connection, sensor, services.now()):
                    return Ending(REFUSED, unauthorized("the token is good no longer"))
        except StorageUnavailable:
            continue  # what waits to be stored says so itself


def _is_settled(one: _Waiting) -> bool:
    return not isinstance(one.result, asyncio.Future) or one.result.done()


def _sum(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(one.new + other.new, one.repeated + other.repeated, one.set_aside + other.set_aside)


def _unstored(error: Exception) -> Problem:
    found = problem_of(error)
    return found or Problem(503, "the readings could not be stored in time")


def _failed(error: Exception, seq: int) -> Ending:
    problem = problem_of(error)
    if problem is None:
        return Ending(UNFORESEEN, Problem(500, "the readings could not be stored; the hub's log says why"), seq)
    return Ending(TRY_AGAIN if problem.status >= 500 else REFUSED, problem, seq)


def first_message(content: bytes | None) -> stream_messages.Open:
    """The message that opens a stream. Raises: Problem."""
    message = stream_messages.decode(content or b"")
    if not isinstance(message, stream_messages.Open):
        raise invalid("type", 'the first message opens a stream: {"type": "open", "stream": …}')
    return message
