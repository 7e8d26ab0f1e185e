"""Times as they come in a query."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from hub.telemetry.moments import Moment

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


@pytest.mark.parametrize(
    "text", ["2026-03-02T12:00:00", "2026-03-02T12:00:00Z", "2026-03-02T14:00:00+02:00", "2026-03-02T14:00:00 02:00"]
)
def test_a_time_is_utc_whatever_its_offset_and_where_it_has_none(text: str) -> None:
    moment = MOMENT.validate_python(text)
    assert (moment, moment.tzinfo) == (datetime(2026, 3, 2, 12, tzinfo=UTC), UTC)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_cannot_tell_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        MOMENT.validate_python(text)


@pytest.mark.parametrize("given", ["2026", "0.5", "-1", "1e9", " 1772452800 ", "", "+1772452800", 1772452800, 0.5])
def test_a_number_is_no_time(given: object) -> None:
    with pytest.raises(ValidationError, match="not a number"):
        MOMENT.validate_python(given)
