"""Devices, points and the series that they feed."""

from __future__ import annotations

import numpy as np
import pytest

from agent.acquisition.roster import NAME_MAX, POINTS_MAX, Roster
from drivers.api import Point
from shared.errors import ConfigurationError
from tests.agent.acquisition.fakes import Meter

METER = Meter("meter", (Point("a", "s1"), Point("b", "s2", signal="x"), Point("c", "s2", signal="y")))
PUSH = Meter("push", ())


def refs(roster: Roster, number: int, *points: int) -> list[int]:
    return roster.refs(number, np.array(points, np.uint32)).tolist()


def test_series_are_numbered_from_one_over_all_devices() -> None:
    roster = Roster([METER, Meter("other", (Point("a", "s9"),))])
    assert refs(roster, 0, 2, 0, 1) == [3, 1, 2]
    assert refs(roster, 1, 0) == [4]
    assert [(s.sensor, s.signal) for s in roster.series] == [("s1", "value"), ("s2", "x"), ("s2", "y"), ("s9", "value")]


def test_a_listening_device_adds_points_and_a_known_one_keeps_its_index() -> None:
    roster = Roster([METER, PUSH])
    assert roster.add_point(PUSH, Point("p", "new")) == 0
    assert roster.add_point(PUSH, Point("q", "newer")) == 1
    assert roster.add_point(PUSH, Point("p", "whatever")) == 0
    assert refs(roster, 1, 1, 0) == [5, 4]
    assert roster.points(1) == 2


def test_two_points_of_one_signal_feed_one_series_whatever_the_case() -> None:
    roster = Roster([METER, PUSH])
    roster.add_point(PUSH, Point("p", "S1"))
    assert refs(roster, 1, 0) == [1]


def test_the_points_of_a_device_are_bounded() -> None:
    roster = Roster([PUSH])
    for n in range(POINTS_MAX):
        roster.add_point(PUSH, Point(f"p{n}", f"s{n}"))
    with pytest.raises(ConfigurationError, match="no more are taken"):
        roster.add_point(PUSH, Point("one more", "s"))


@pytest.mark.parametrize("point", [Point("p", ""), Point("p", "s" * (NAME_MAX + 1)), Point("p", "s", unit="u" * 51)])
def test_names_that_the_dictionary_cannot_hold_are_refused(point: Point) -> None:
    with pytest.raises(ConfigurationError):
        Roster([PUSH]).add_point(PUSH, point)


def test_a_point_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        refs(Roster([METER]), 0, 3)
