"""Reading an instrument once."""

from __future__ import annotations

import threading
import time

import pytest

from agent.probe import probe
from agent.settings import DeviceSettings
from drivers.api import Exchange, Point, Sink
from shared.clock import AnchoredClock
from shared.errors import InstrumentTimeout, InstrumentUnavailable, InvalidAnswer
from shared.readings import Reason
from tests.agent.acquisition.fakes import FakeDriver, Meter, samples

METER = Meter(points=(Point("flow", "meter.flow"), Point("temp", "meter.temp")))
CLOCK = AnchoredClock()


def settings(driver: FakeDriver) -> DeviceSettings:
    return DeviceSettings(METER, driver, None)  # type: ignore[arg-type]


def test_all_points_of_a_polled_device_are_read_at_once_and_the_port_is_released() -> None:
    driver = FakeDriver(CLOCK)
    found = probe(settings(driver), CLOCK)
    assert [(value.point.name, value.raw, value.reason) for value in found.values] == [
        ("flow", 1.0, Reason.NONE),
        ("temp", 1.0, Reason.NONE),
    ]
    assert (driver.opened, driver.closed) == (1, 1)


def test_what_went_wrong_is_told_beside_what_came() -> None:
    part = Exchange(samples([1], 5, [2.0]), (InstrumentTimeout("no answer"),), {"serial": "A7"})
    found = probe(settings(FakeDriver(CLOCK, lambda device, points: part)), CLOCK)
    assert [value.point.name for value in found.values] == ["temp"]
    assert [str(error) for error in found.errors] == ["no answer"]
    assert found.texts == {"serial": "A7"}


def test_a_bus_that_cannot_be_opened_is_an_error() -> None:
    with pytest.raises(InstrumentUnavailable):
        probe(settings(FakeDriver(CLOCK, refusal=InstrumentUnavailable("no such port"))), CLOCK)


def test_a_listening_device_is_heard_until_every_point_has_come() -> None:
    def hear(sink: Sink, ended: threading.Event) -> None:
        sink.failed(METER, InvalidAnswer("half a line"))
        for point in (0, 0, sink.add_point(METER, Point("new", "meter.new")), 1):
            assert sink.deliver(METER, samples([point], CLOCK.now_us(), [float(point)])).done()
        assert ended.wait(20)

    started_s = time.monotonic()
    found = probe(settings(FakeDriver(CLOCK, hear=hear)), CLOCK, listening_s=20)
    assert time.monotonic() - started_s < 15
    assert [value.point.name for value in found.values] == ["flow", "flow", "new", "temp"]
    assert [str(error) for error in found.errors] == ["half a line"]


def test_a_listening_device_that_says_nothing_is_left_after_a_while() -> None:
    driver = FakeDriver(CLOCK, hear=lambda sink, ended: None if ended.wait(20) else pytest.fail("not closed"))
    assert probe(settings(driver), CLOCK, listening_s=0.1).values == []
    assert driver.closed >= 1
