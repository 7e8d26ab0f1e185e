"""The contract that every polled driver keeps, whoever wrote it.

Subclass `PolledDriverContract` in a test module and give it the four fixtures; pytest runs all that is here against
your driver and your instrument (a simulator or the real thing):

    class TestMyDriver(PolledDriverContract):
        @pytest.fixture
        def driver(self): return MY_DRIVER
        @pytest.fixture
        def instrument(self): yield an Instrument whose `table` is `[devices.bench]` with at least two points,
            those that give texts last
        @pytest.fixture
        def values(self): return what the points read, by name
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from drivers.api import Driver, PolledBus
from shared.clock import AnchoredClock
from shared.errors import ConfigurationError, InstrumentError, InstrumentTimeout, InstrumentUnavailable
from shared.readings import Reason

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Instrument:
    """What the contract needs to do to an instrument.

    Attributes:
        table: its `[devices.bench]` table.
        mute: it stops answering, for good.
        vanish: its port or connection goes away.
        come_back: and returns.
    """

    table: Mapping[str, Any]
    mute: Callable[[], None]
    vanish: Callable[[], None]
    come_back: Callable[[], None]


class PolledDriverContract:
    """Subclass, give the fixtures `driver`, `instrument` and `values`, and every test here runs."""

    @pytest.fixture
    def driver(self) -> Driver:
        raise NotImplementedError

    @pytest.fixture
    def instrument(self) -> Instrument:
        raise NotImplementedError

    @pytest.fixture
    def values(self) -> Mapping[str, float]:
        raise NotImplementedError

    @pytest.fixture
    def device(self, driver, instrument):
        return driver.device("bench", instrument.table)

    @pytest.fixture
    def clock(self):
        return AnchoredClock()

    @pytest.fixture
    def bus(self, driver, device, clock):
        bus: PolledBus = driver.open([device], clock)
        yield bus
        bus.close()

    def test_it_is_registered_under_the_word_in_the_configuration(self, driver, instrument):
        assert driver.name == instrument.table["driver"]

    def test_a_device_names_itself_its_bus_and_its_points(self, device, instrument, values):
        assert device.name == "bench"
        assert device.bus
        assert device.timeout_s > 0
        assert set(values) <= {point.name for point in device.points}
        assert len({point.name for point in device.points}) == len(device.points)

    def test_a_point_feeds_device_dot_point_unless_told_otherwise(self, device, instrument):
        for point in device.points:
            told = instrument.table["points"][point.name]
            assert point.sensor == told.get("sensor", f"bench.{point.name}")
            assert point.signal == told.get("signal", "value")
            assert point.interval_s > 0

    def test_two_devices_of_one_table_share_a_bus(self, driver, instrument):
        assert driver.device("one", instrument.table).bus == driver.device("two", instrument.table).bus

    def test_an_unknown_key_is_refused_with_the_nearest_known_one(self, driver, instrument):
        with pytest.raises(ConfigurationError) as caught:
            driver.device("bench", {**instrument.table, "timeout": 1.0})
        assert caught.value.key == ("devices", "bench", "timeout")
        assert "timeout_s" in caught.value.hint

    def test_a_wrong_type_is_refused_with_the_path_of_keys(self, driver, instrument):
        with pytest.raises(ConfigurationError) as caught:
            driver.device("bench", {**instrument.table, "timeout_s": "soon"})
        assert caught.value.key == ("devices", "bench", "timeout_s")

    def test_a_table_is_not_changed(self, driver, instrument):
        before = repr(instrument.table)
        driver.device("bench", instrument.table)
        assert repr(instrument.table) == before

    def test_all_points_are_read_with_their_values(self, bus, device, values):
        exchange = bus.read(device, tuple(range(len(device.points))))
        assert list(exchange.errors) == []
        read = {device.points[i].name: raw for i, raw in zip(exchange.samples.point, exchange.samples.raw, strict=True)}
        assert read == pytest.approx(values)
        assert not exchange.samples.reason.any()

    def test_samples_are_columns_of_the_declared_types(self, bus, device):
        samples = bus.read(device, tuple(range(len(device.points)))).samples
        assert samples.point.dtype == np.uint32
        assert samples.timestamp_us.dtype == np.int64
        assert samples.raw.dtype == np.float64
        assert samples.reason.dtype == np.uint8
        assert len(samples.point) == len(samples.timestamp_us) == len(samples.raw) == len(samples.reason)

    def test_only_the_points_asked_for_are_read(self, bus, device, values):
        last = [point.name in values for point in device.points].count(True) - 1
        assert bus.read(device, (last,)).samples.point.tolist() == [last]

    def test_a_timestamp_is_the_moment_of_the_exchange(self, bus, device, clock):
        before_us = clock.now_us()
        samples = bus.read(device, (0,)).samples
        assert before_us <= samples.timestamp_us[0] <= clock.now_us()

    def test_the_same_tuple_can_be_polled_again_and_again(self, bus, device, values):
        points = tuple(range(len(device.points)))
        for _ in range(20):
            assert len(bus.read(device, points).samples) == len(values)

    def test_a_mute_instrument_is_a_timeout_within_its_time(self, bus, device, instrument):
        bus.read(device, (0,))
        instrument.mute()
        began_s = time.monotonic()
        error = failure(bus, device)
        assert isinstance(error, InstrumentTimeout)
        assert time.monotonic() - began_s < device.timeout_s + 5.0

    def test_a_port_that_vanishes_and_returns_is_read_again(self, bus, device, instrument):
        bus.read(device, (0,))
        instrument.vanish()
        assert isinstance(failure(bus, device), InstrumentUnavailable | InstrumentTimeout)
        assert isinstance(failure(bus, device), InstrumentUnavailable | InstrumentTimeout)
        instrument.come_back()
        deadline_s = time.monotonic() + PATIENCE_S
        while failure(bus, device) is not None:
            assert time.monotonic() < deadline_s, "the port is back, but is not read"

    def test_a_missing_port_is_unavailable_with_a_hint(self, driver, device, instrument):
        instrument.vanish()
        with pytest.raises(InstrumentUnavailable) as caught:
            driver.open([device], AnchoredClock())
        assert caught.value.hint
        assert caught.value.retryable

    def test_closing_twice_does_no_harm_and_ends_reading(self, bus, device):
        bus.close()
        bus.close()
        with pytest.raises(InstrumentUnavailable):
            bus.read(device, (0,))

    def test_closing_from_another_thread_ends_a_blocked_read(self, driver, instrument):
        device = driver.device("bench", {**instrument.table, "timeout_s": 30.0})
        bus = driver.open([device], AnchoredClock())
        instrument.mute()
        closer = threading.Timer(0.2, bus.close)
        closer.start()
        began_s = time.monotonic()
        assert failure(bus, device) is not None
        closer.join()
        assert time.monotonic() - began_s < PATIENCE_S

    def test_good_samples_carry_no_reason(self, bus, device):
        assert set(bus.read(device, (0,)).samples.reason.tolist()) == {Reason.NONE}


def failure(bus, device) -> InstrumentError | None:
    """What reading the first point fails with, raised or returned; None for a success."""
    try:
        exchange = bus.read(device, (0,))
    except InstrumentError as error:
        return error
    assert len(exchange.samples) or exchange.errors, "an exchange brings samples or errors"
    return exchange.errors[0] if exchange.errors else None
