"""Who is online: debounced, expiring, and aware of two processes of one agent."""

from __future__ import annotations

from uuid import UUID

import pytest

from hub.agents.presence import SILENT_S, PresenceBook
from hub.broker.lanes import UpMessage
from hub.database.ids import uuid7
from hub.settings import HubSettings
from shared import messages
from shared.clock import ManualClock
from shared.messages import State

AGENT = uuid7()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> PresenceBook:
    return PresenceBook(HubSettings(), clock)


def _is_online(book: PresenceBook, agent_id: UUID = AGENT) -> bool:
    presence = book.of(agent_id)
    return presence is not None and presence.online


def _in_conflict(book: PresenceBook) -> bool:
    presence = book.of(AGENT)
    return presence is not None and presence.conflict


def test_a_short_absence_is_not_one(book: PresenceBook, clock: ManualClock) -> None:
    book.note(AGENT, State("online", "a"), retained=False)
    book.note(AGENT, State("offline", "a"), retained=False)
    clock.advance_s(9)
    assert _is_online(book)
    book.note(AGENT, State("online", "a"), retained=False)
    clock.advance_s(9)
    assert _is_online(book)


def test_a_will_without_sequel_means_offline(book: PresenceBook, clock: ManualClock) -> None:
    book.note(AGENT, State("online", "a", version="7"), retained=False)
    book.note(AGENT, State("offline", "a"), retained=False)
    clock.advance_s(11)
    assert not _is_online(book)
    presence = book.of(AGENT)
    assert presence is not None
    assert presence.state.version == "7"
    assert book.online == 0


def test_silence_means_offline(book: PresenceBook, clock: ManualClock) -> None:
    book.note(AGENT, State("online", "a"), retained=False)
    clock.advance_s(SILENT_S + 1)
    assert not _is_online(book)


def test_a_restart_is_no_conflict_and_the_old_will_changes_nothing(book: PresenceBook, clock: ManualClock) -> None:
    book.note(AGENT, State("online", "a"), retained=False)
    book.note(AGENT, State("online", "b"), retained=False)
    book.note(AGENT, State("offline", "a"), retained=False)
    clock.advance_s(11)
    assert _is_online(book)
    assert not _in_conflict(book)


def test_two_processes_of_one_agent_are_a_conflict_until_one_is_silent(book: PresenceBook, clock: ManualClock) -> None:
    for instance in ("a", "b", "a"):
        book.note(AGENT, State("online", instance), retained=False)
    assert _in_conflict(book)
    clock.advance_s(61)
    book.note(AGENT, State("online", "a"), retained=False)
    assert not _in_conflict(book)


async def test_garbage_is_counted(book: PresenceBook) -> None:
    await book.receive(UpMessage(AGENT, "state", b"\xff{", False))
    assert book.garbage == 1
    await book.receive(UpMessage(AGENT, "state", messages.encode(State("online", "a")), False))
    assert _is_online(book)
