"""Errands: done aside, their outcome told to whoever sent them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub.telemetry.errands import Errands
from shared.errors import StorageUnavailable


@asynccontextmanager
async def running(workers: int = 1) -> AsyncIterator[Errands]:
    errands = Errands(workers, "test")
    task = asyncio.create_task(errands.run())
    try:
        yield errands
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _answer() -> int:
    return 42


async def _fail() -> int:
    raise StorageUnavailable("away")


async def test_whoever_sent_one_is_woken_and_gets_its_result_or_its_failure() -> None:
    async with running() as errands:
        for work, result in ((_answer, 42), (_fail, None), (_answer, 42)):
            wake = asyncio.Event()
            errand = errands.send(work, wake)
            assert not errand.done
            await asyncio.wait_for(wake.wait(), 5)
            if result is None:
                with pytest.raises(StorageUnavailable):
                    errand.result()
            else:
                assert errand.result() == result


async def test_one_that_was_abandoned_before_it_began_is_left_out() -> None:
    begun: list[str] = []
    gate, wake = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        await gate.wait()

    async def never() -> None:
        begun.append("never")

    async def last() -> None:
        begun.append("last")

    async with running() as errands:
        errands.send(first, asyncio.Event())
        errands.send(never, asyncio.Event()).abandon()
        errands.send(last, wake)
        gate.set()
        await asyncio.wait_for(wake.wait(), 5)
    assert begun == ["last"]
