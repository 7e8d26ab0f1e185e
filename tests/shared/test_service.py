"""What systemd is told: that the work has begun, that it goes on, that it ends; and nothing where nobody listens."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.service import ServiceManager


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.setblocking(False)
        yield found


def told(listener: socket.socket) -> list[str]:
    """All that has come."""
    messages = []
    with suppress(BlockingIOError):
        while True:
            messages.append(listener.recv(1024).decode())
    return messages


def test_it_is_told_of_the_beginning_and_the_end(listener: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": listener.getsockname()})
    manager.ready()
    manager.alive()
    manager.stopping()
    assert told(listener) == ["READY=1", "STOPPING=1"]


def test_signs_of_life_come_three_times_as_often_as_they_must(listener: socket.socket) -> None:
    times_s = iter((100.0, 101.0, 119.9, 120.0, 139.0, 140.5))
    environment = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "60000000"}
    manager = ServiceManager(environment, lambda: next(times_s))
    assert manager.sign_every_s == 20.0
    manager.ready()
    assert told(listener) == ["READY=1", "WATCHDOG=1"]
    for _ in range(5):
        manager.alive()
    assert told(listener) == ["WATCHDOG=1", "WATCHDOG=1"]


async def test_a_task_may_give_them(listener: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "3000"})
    task = asyncio.create_task(manager.stay_alive())
    came: list[str] = []
    async with asyncio.timeout(20):
        while len(came) < 3:
            await asyncio.sleep(0.002)
            came += told(listener)
    task.cancel()
    await asyncio.wait([task])
    assert set(came) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "many"},
        {"NOTIFY_SOCKET": "@labrelay-nobody-listens-here"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())},
    ],
)
async def test_nobody_who_listens_is_no_trouble(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()
    manager.alive()
    manager.stopping()
    wanted = environment.get("WATCHDOG_PID") == str(os.getpid())
    assert bool(manager.sign_every_s) == wanted
    if not wanted:
        await manager.stay_alive()


def test_an_abstract_address_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # the kernel draws one
        name = listener.getsockname().decode()
        ServiceManager({"NOTIFY_SOCKET": f"@{name[1:]}"}).ready()
        listener.settimeout(5)
        assert listener.recv(64) == b"READY=1"
