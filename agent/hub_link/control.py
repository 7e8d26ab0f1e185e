"""Commands of the hub: a bounded set, each answered on `up/reply`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.logging import event_log
from shared.errors import LabrelayError
from shared.messages import Command, Reply, encode

WAITING_MAX = 32

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Takes a command's arguments and returns its result at once; runs on the event loop. Raises: LabrelayError."""
Publish = Callable[[bytes], Awaitable[None]]

_log = event_log("control")


class Control:
    """Answers commands one after the other. Args: handlers: by name."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._waiting: asyncio.Queue[Command] = asyncio.Queue(WAITING_MAX)

    def commanded(self, command: Command) -> None:
        """Take a command; one too many is reported and not answered, so that the hub asks again."""
        try:
            self._waiting.put_nowait(command)
        except asyncio.QueueFull:
            _log.warning("command_dropped", name=command.name, waiting=WAITING_MAX)

    async def run(self, publish: Publish) -> None:
        """Answer until cancelled, or until `publish` fails."""
        while True:
            command = await self._waiting.get()
            await publish(encode(self._answer(command)))

    def _answer(self, command: Command) -> Reply:
        handler = self._handlers.get(command.name)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return Reply(command.id, ok=False, error=f"unknown command `{command.name}`; known: {known}")
        try:
            result = dict(handler(command.arguments))
        except LabrelayError as error:
            return Reply(command.id, ok=False, error=str(error))
        _log.info("command_done", name=command.name)
        return Reply(command.id, ok=True, result=result)
