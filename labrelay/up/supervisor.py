"""Keeps children running: starts them in order, restarts those that die, and ends them in reverse order.

::

    starting ──ready──► running ──died──► waiting ──back-off──► starting
        └──died or too slow before it was ever ready: `start` raises

Every child has one task. Ending the supervisor, by leaving its context in whatever way, ends every child.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from labrelay.up import child
from labrelay.up.child import Child, ChildError, ChildSpec

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A child that ran this long has earned a quick restart."""
_POLL_READY_S = 0.05

State = Literal["starting", "running", "waiting", "stopping", "ended"]


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one child.

    Attributes:
        name: of its spec.
        state: where in its life it is.
        pid: of the server, once known.
        restarts: how often it was started again.
        note: why it is not running, for people.
    """

    name: str
    state: State
    pid: int | None = None
    restarts: int = 0
    note: str = ""


class Supervisor:
    """Children in the order in which they were started. An async context manager.

    Args:
        on_change: told of every change of a child's state.
        backoff_first_s: pause before the first restart; it doubles up to `backoff_max_s` and is jittered.
        backoff_max_s: the longest pause.
    """

    def __init__(
        self,
        on_change: Callable[[Status], None] = lambda _: None,
        *,
        backoff_first_s: float = BACKOFF_FIRST_S,
        backoff_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self._on_change = on_change
        self._backoff_first_s = backoff_first_s
        self._backoff_max_s = backoff_max_s
        self._kept: list[_Kept] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def statuses(self) -> list[Status]:
        """Of every child, in the order of their start."""
        return [kept.status for kept in self._kept]

    async def start(self, spec: ChildSpec) -> None:
        """Start a child and return when it is ready. Raises: ChildError when it does not become ready."""
        kept = _Kept(spec, self._on_change, self._backoff_first_s, self._backoff_max_s)
        self._kept.append(kept)
        await kept.start()

    async def restart(self, name: str) -> None:
        """End a child on purpose; it is started again at once. Raises: KeyError."""
        await _find(self._kept, name).restart()

    async def stop(self) -> None:
        """End all children, the last started first. Idempotent; a cancellation does not keep it from finishing."""
        while self._kept:
            kept = self._kept[-1]
            stopping = asyncio.create_task(kept.stop(), name=f"stop {kept.status.name}")
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                await stopping
                self._kept.pop()
                await self.stop()
                raise
            self._kept.pop()


def _find(kept: list[_Kept], name: str) -> _Kept:
    """The child of that name. Raises: KeyError."""
    for one in kept:
        if one.status.name == name:
            return one
    raise KeyError(name)


class _Kept:
    """One child that is kept running by its own task."""

    def __init__(
        self, spec: ChildSpec, on_change: Callable[[Status], None], backoff_first_s: float, backoff_max_s: float
    ) -> None:
        self.status = Status(spec.name, "starting")
        self._spec = spec
        self._on_change = on_change
        self._backoff_first_s = backoff_first_s
        self._backoff_max_s = backoff_max_s
        self._backoff_s = backoff_first_s
        self._restarts = 0
        self._restart_wanted = False
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(ready), name=f"keep {self._spec.name}")
        await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        await ready

    async def restart(self) -> None:
        self._restart_wanted = True
        if self._child is not None:
            self._child.request_stop()

    async def stop(self) -> None:
        if self._task is None or self._task.done():
            return
        self._change("stopping")
        self._task.cancel()
        await asyncio.wait([self._task])
        self._change("ended")

    async def _keep(self, ready: asyncio.Future[None]) -> None:
        while True:
            started_s = time.monotonic()
            try:
                note = await self._live(ready)
            except ChildError as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
                note = str(error)
            if time.monotonic() - started_s > HEALTHY_AFTER_S:
                self._backoff_s = self._backoff_first_s
            if self._restart_wanted:
                self._restart_wanted = False
            else:
                self._change("waiting", note=note)
                await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))
                self._backoff_s = min(self._backoff_s * 2, self._backoff_max_s)
            self._restarts += 1

    async def _live(self, ready: asyncio.Future[None]) -> str:
        """One life of the child. Returns: how it ended. Cancellation ends it first. Raises: ChildError."""
        self._change("starting")
        current = self._child = child.start(self._spec)
        current.control.setblocking(False)
        try:
            gone = asyncio.create_task(self._until_gone(current), name=f"watch {self._spec.name}")
            try:
                await self._until_ready(gone)
                self._change("running")
                if not ready.done():
                    ready.set_result(None)
                await asyncio.shield(gone)
            finally:
                gone.cancel()
                await asyncio.wait([gone])
        finally:
            self._child = None
            await _finish(current)
        return f"ended with status {current.exit_status}"

    async def _until_gone(self, current: Child) -> None:
        """Until the leash closes its end of the socket, which it does when it ends."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(current.control, 256)
            except ConnectionError:
                return
            if not data:
                return
            current.learn_pid(data)
            self._change(self.status.state)

    async def _until_ready(self, gone: asyncio.Task[None]) -> None:
        deadline = time.monotonic() + self._spec.ready_timeout_s
        while not await asyncio.to_thread(self._spec.ready):
            await asyncio.wait([gone], timeout=_POLL_READY_S)
            if gone.done():
                current = self._child
                if current is not None:
                    await asyncio.to_thread(current.wait, 5.0)
                raise child.ended(self._spec, current.exit_status if current else None)
            if time.monotonic() > deadline:
                raise child.not_ready(self._spec)

    def _change(self, state: State, note: str = "") -> None:
        pid = self._child.pid if self._child else None
        status = Status(self._spec.name, state, pid, self._restarts, note)
        if status != self.status:
            self.status = status
            self._on_change(status)


async def _finish(current: Child) -> None:
    """End what may be left of a child; a second cancellation waits until that is done."""
    ending = asyncio.create_task(asyncio.to_thread(current.stop), name=f"end {current.spec.name}")
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise
