"""What a run's status sets, for any times; and how tags change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.events.event import PublicEvent
from hub.experiments.fields import TAGS_MAX
from hub.experiments.rules import Status
from hub.runs.rules import Timing, changed_tags, events_of, needs_idle_sessions

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
TAGS = st.lists(st.sampled_from("abcdefg"), unique=True)


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=400)), st.sampled_from([Status.SUCCEEDED, Status.FAILED]))
def test_a_run_lasts_from_running_to_its_end_and_archiving_keeps_that(
    start: datetime, length: timedelta, end: Status
) -> None:
    running = Timing().entering(Status.RUNNING, start)
    assert running == Timing(started_at=start)
    ended = running.entering(end, start + length)
    assert ended == Timing(start, start + length, length.total_seconds())
    assert ended.entering(Status.ARCHIVED, start + 2 * length) == ended


@given(MOMENTS, st.timedeltas(timedelta(microseconds=1), timedelta(days=1)))
def test_a_clock_that_was_set_back_makes_no_negative_duration(start: datetime, back: timedelta) -> None:
    ended = Timing(started_at=start).entering(Status.FAILED, start - back)
    assert ended.duration_seconds == 0.0


def test_a_draft_that_is_archived_never_ran() -> None:
    assert Timing().entering(Status.ARCHIVED, datetime.now(UTC)) == Timing()


def test_each_status_is_told_as_a_change_and_by_its_name() -> None:
    assert {status: events_of(status)[1:] for status in Status} == {
        Status.DRAFT: (),
        Status.RUNNING: (PublicEvent.RUN_STARTED,),
        Status.SUCCEEDED: (PublicEvent.RUN_FINISHED,),
        Status.FAILED: (PublicEvent.RUN_FINISHED,),
        Status.ARCHIVED: (PublicEvent.RUN_ARCHIVED,),
    }
    assert {events_of(status)[0] for status in Status} == {PublicEvent.RUN_STATUS_CHANGED}


def test_only_running_goes_together_with_active_sessions() -> None:
    assert [status for status in Status if needs_idle_sessions(status)] == ["succeeded", "failed", "archived"]


@given(TAGS, TAGS, TAGS)
def test_tags_are_taken_away_before_others_are_added(tags: list[str], add: list[str], remove: list[str]) -> None:
    changed = changed_tags(tags, add=add, remove=remove)
    assert set(changed) == set(tags) - set(remove) | set(add)
    assert len(changed) == len(set(changed))
    kept = [tag for tag in tags if tag not in remove]
    assert changed[: len(kept)] == kept


def test_too_many_tags_are_refused() -> None:
    with pytest.raises(ValueError, match=str(TAGS_MAX)):
        changed_tags([str(number) for number in range(TAGS_MAX)], add=["more"], remove=[])
