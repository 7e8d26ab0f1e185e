"""Messages of a sensor's stream that wait for their answer, which each gets in the order in which they came.

One is answered when it is committed, and all behind it that are by then with it. At most `MESSAGES_MAX` messages with
`READINGS_WAITING_MAX` readings wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hub.errors import Problem, problem_of
from hub.ingest.arrivals import Outcome
from hub.ingest.sensor_socket import REFUSED, TRY_AGAIN, UNFORESEEN, Ending
from hub.ingest.stream_messages import Acknowledged, Refused, Said, problem_object
from shared.errors import StorageUnavailable

MESSAGES_MAX = 64
READINGS_WAITING_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for its answer: what becomes of it, or what is wrong with it."""

    seq: int
    readings: int
    result: asyncio.Future[Outcome] | Outcome | Problem


class Unanswered:
    """What waits, for one connection.

    Args:
        say: tells the sensor.
        check: awaited where readings were set aside; raises the Problem that the sensor has, if that is why.
        timeout_s: how long a message may take.
    """

    def __init__(
        self, say: Callable[[Said], Awaitable[None]], check: Callable[[], Awaitable[None]], *, timeout_s: float
    ) -> None:
        self._say = say
        self._check = check
        self._timeout_s = timeout_s
        self._waiting: deque[Waiting] = deque()
        self._readings = 0
        self._changed = asyncio.Event()

    def add(self, one: Waiting) -> None:
        """One more, behind the others. After `room`."""
        self._waiting.append(one)
        self._readings += one.readings
        self._changed.set()

    async def room(self) -> None:
        """Wait until there is room for another one."""
        while len(self._waiting) >= MESSAGES_MAX or self._readings >= READINGS_WAITING_MAX:
            self._changed.clear()
            await self._changed.wait()

    async def answer(self) -> Ending:
        """Answer until one cannot be stored; why the connection must end then."""
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

    async def _outcome(self, first: Waiting) -> Outcome:
        """Raises: Problem, StorageUnavailable, or what speaks against the message."""
        assert not isinstance(first.result, Problem)
        if isinstance(first.result, Outcome):
            return first.result
        try:
            async with asyncio.timeout(self._timeout_s):
                done = await asyncio.shield(first.result)
        except TimeoutError:
            raise StorageUnavailable("the readings could not be stored in time", hint="send them again") from None
        if done.set_aside:
            await self._check()
        return done

    def _forget_first(self) -> None:
        self._readings -= self._waiting.popleft().readings
        self._changed.set()

    async def _acknowledge(self, seq: int, done: Outcome) -> None:
        if seq:
            await self._say(Acknowledged(seq, done.new, done.repeated, done.set_aside))

    async def settle(self) -> None:
        """Answer what can still be stored."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._waiting and await self._answer_waiting() is None:
                    pass
        except TimeoutError:
            return

    async def abandon(self) -> None:
        """Wait until what is left has been stored or has failed; nobody is told any more."""
        left = [one.result for one in self._waiting if isinstance(one.result, asyncio.Future)]
        if left:
            await asyncio.wait(left, timeout=self._timeout_s)
        for one in left:
            if not one.cancel() and not one.cancelled():
                one.exception()  # looked at, so that nothing warns of it


def _is_settled(one: Waiting) -> bool:
    return not isinstance(one.result, asyncio.Future) or one.result.done()


def _sum(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(one.new + other.new, one.repeated + other.repeated, one.set_aside + other.set_aside)


def _failed(error: Exception, seq: int) -> Ending:
    problem = problem_of(error)
    if problem is None:
        return Ending(UNFORESEEN, Problem(500, "the readings could not be stored; the hub's log says why"), seq)
    return Ending(TRY_AGAIN if problem.status >= 500 else REFUSED, problem, seq)
