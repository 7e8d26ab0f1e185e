"""A fault proxy on every seam of the stack, on an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from bench.chaos.proxy import FaultProxy

T = TypeVar("T")
_PATIENCE_S = 20.0


class Links:
    """Named lines that can be broken; all of them run on one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._proxies: dict[str, FaultProxy] = {}

    def add(self, name: str, port: int) -> int:
        """A line to a server on loopback. Returns: the port where it begins."""
        self._proxies[name] = self._do(FaultProxy("127.0.0.1", port).__aenter__())
        return self._proxies[name].port

    def cut(self, name: str) -> None:
        """Reset the line, and refuse new connections."""
        self._do(self._proxies[name].cut())

    def half_open(self, name: str) -> None:
        """Swallow everything, and tell nobody."""
        self._loop.call_soon_threadsafe(self._proxies[name].half_open)

    def stall(self, name: str) -> None:
        """Keep connections, pass nothing."""
        self._loop.call_soon_threadsafe(self._proxies[name].stall)

    def slow(self, name: str, bytes_s: float) -> None:
        """Pass so many bytes a second."""
        self._loop.call_soon_threadsafe(self._proxies[name].slow, bytes_s)

    def heal(self, name: str, *, reset: bool) -> None:
        """Pass bytes again; with `reset` on new connections, for bytes that were swallowed cannot come back."""
        if reset:
            self._do(self._proxies[name].cut())
        self._loop.call_soon_threadsafe(self._proxies[name].forward)

    def close(self) -> None:
        """End all lines."""
        for proxy in self._proxies.values():
            self._do(proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)
