"""A sensor's connection over WebSocket: what it is to the hub, and why it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hub.access.credentials import still_good
from hub.access.principals import SensorPrincipal
from hub.database.pool import acquire
from hub.errors import Problem, unauthorized
from hub.services import Services
from shared.errors import StorageUnavailable

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
