"""What streams want from the database, done aside by a few workers, so that no stream stands still for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


class Errand(Generic[_Result]):
    """One piece of work, under way or done.

    Args:
        wake: set when it is done.
    """

    def __init__(self, work: Callable[[], Awaitable[_Result]], wake: asyncio.Event) -> None:
        self._work = work
        self._wake = wake
        self._outcome: tuple[_Result] | Exception | None = None
        self._abandoned = False

    @property
    def done(self) -> bool:
        """Whether there is a result, or a failure."""
        return self._outcome is not None

    def result(self) -> _Result:
        """What came of it, once it is done. Raises: whatever the work raised."""
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome[0]

    def abandon(self) -> None:
        """Nobody waits for it any more; if it has not begun, it never will."""
        self._abandoned = True

    async def run(self) -> None:
        """Do it; its failure is for whoever asks for the result."""
        if self._abandoned:
            return
        try:
            self._outcome = (await self._work(),)
        except Exception as error:  # noqa: BLE001 - raised again where the result is wanted
            self._outcome = error
        self._wake.set()


class Errands:
    """Workers, and what waits for them: at most one errand of each stream."""

    def __init__(self, workers: int, name: str) -> None:
        self._workers = workers
        self._name = name
        self._waiting: asyncio.Queue[Errand[Any]] = asyncio.Queue()

    def send(self, work: Callable[[], Awaitable[_Result]], wake: asyncio.Event) -> Errand[_Result]:
        """Have work done as soon as a worker is free, while `run` runs."""
        errand = Errand(work, wake)
        self._waiting.put_nowait(errand)
        return errand

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self._name} {number}")

    async def _work(self) -> None:
        while True:
            errand = await self._waiting.get()
            await errand.run()
