"""The `[devices.<name>]` table of a Modbus device."""

from __future__ import annotations

import pytest

from drivers.modbus.driver import MODBUS_ASCII, MODBUS_RTU, MODBUS_TCP
from drivers.modbus.registers import Table, parse_place
from shared.clock import ManualClock
from shared.errors import ConfigurationError


def tcp(points, **settings):
    return MODBUS_TCP.device("bench", {"driver": "modbus-tcp", "host": "plc", "points": points, **settings})


def refused(points, **settings):
    with pytest.raises(ConfigurationError) as caught:
        tcp(points, **settings)
    return caught.value


def test_what_is_left_out_has_its_default():
    device = tcp({"p": {"register": "holding:7"}})
    (register,) = device.registers
    assert (device.bus, device.unit, device.timeout_s) == ("tcp:plc:502", 1, 1.0)
    assert (register.table, register.address, register.type, register.width) == (Table.HOLDING, 7, "uint16", 1)
    assert (device.limits.gap_fill, device.limits.registers_max, device.limits.coils_max) == (8, 125, 2000)


def test_a_point_overrides_its_device():
    device = tcp(
        {
            "a": {"register": "input:0", "type": "float32"},
            "b": {"register": "input:2", "word_order": "big", "interval_s": 5},
        },
        word_order="little",
        byte_order="little",
        interval_s=0.5,
    )
    assert [(r.word_order, r.byte_order) for r in device.registers] == [("little", "little"), ("big", "little")]
    assert [point.interval_s for point in device.points] == [0.5, 5.0]


def test_a_point_may_name_sensor_signal_and_unit():
    device = tcp({"t": {"register": "input:0", "sensor": "oven", "signal": "temp", "unit": "°C"}})
    (point,) = device.points
    assert (point.name, point.sensor, point.signal, point.unit) == ("t", "oven", "temp", "°C")


def test_a_serial_line_is_set_as_its_specification_says_unless_told_otherwise():
    table = {"port": "COM3", "points": {"p": {"register": "holding:0"}}}
    rtu, ascii_ = MODBUS_RTU.device("a", table).link, MODBUS_ASCII.device("b", table).link
    assert (rtu.bus, rtu.baudrate, rtu.parity, rtu.stopbits, rtu.bytesize) == ("COM3", 19_200, "E", 1, 8)
    assert rtu.pause_s == pytest.approx(3.5 * 11 / 19_200)
    assert (ascii_.bytesize, ascii_.pause_s) == (7, 0.0)


@pytest.mark.parametrize(
    "place", ["holding", "holding:", "holding:-1", "holdings:1", "40001", "coil:x", "holding:65536"]
)
def test_a_place_that_is_none_is_refused(place):
    error = refused({"p": {"register": place}})
    assert error.key == ("devices", "bench", "points", "p", "register")


def test_places_may_be_hexadecimal():
    assert parse_place("input:0x1F") == (Table.INPUT, 31)


@pytest.mark.parametrize(
    ("point", "key"),
    [
        ({"register": "coil:0", "type": "uint16"}, "type"),
        ({"register": "discrete:0", "bit": 3}, "type"),
        ({"register": "holding:0", "type": "bit", "bit": 16}, "bit"),
        ({"register": "holding:0", "type": "bits", "bit": 14, "bits": 3}, "bits"),
        ({"register": "holding:0", "type": "uint16", "bits": 3}, "bits"),
        ({"register": "holding:0", "type": "uint16", "bit": 3}, "bit"),
        ({"register": "holding:0", "type": "string"}, "type"),
        ({"register": "holding:0", "type": "uint16", "length": 3}, "length"),
        ({"register": "holding:65535", "type": "float32"}, "register"),
        ({"register": "holding:0", "scale": 0}, "scale"),
        ({"register": "holding:0", "scale": float("nan")}, "scale"),
        ({"register": "holding:0", "valid_min": 2, "valid_max": 1}, "valid_min"),
        ({"register": "holding:0", "interval_s": 0}, "interval_s"),
        ({"register": "holding:0", "type": "double"}, "type"),
        ({"register": "holding:0", "sensor": ""}, "sensor"),
    ],
)
def test_what_means_nothing_is_refused_with_its_key(point, key):
    assert refused({"p": point}).key == ("devices", "bench", "points", "p", key)


def test_a_misspelt_key_of_a_point_names_the_nearest():
    error = refused({"p": {"register": "holding:0", "sclae": 0.1}})
    assert error.key == ("devices", "bench", "points", "p", "sclae")
    assert "scale" in error.hint


def test_a_device_without_points_is_refused():
    assert refused({}).key == ("devices", "bench", "points")


def test_a_value_wider_than_one_request_is_refused():
    assert refused({"p": {"register": "holding:0", "type": "float64"}}, registers_max=3).key[-1] == "p"


def test_a_point_that_is_no_table_is_refused():
    assert refused({"p": "holding:0"}).key[:3] == ("devices", "bench", "points")


def test_rtu_needs_eight_bits():
    with pytest.raises(ConfigurationError) as caught:
        MODBUS_RTU.device("a", {"port": "COM3", "bytesize": 7, "points": {"p": {"register": "holding:0"}}})
    assert caught.value.key == ("devices", "a", "bytesize")


@pytest.mark.parametrize(
    ("driver", "more"),
    [(MODBUS_RTU, {"baudrate": 9600}), (MODBUS_RTU, {"parity": "none"}), (MODBUS_ASCII, {"bytesize": 8})],
)
def test_two_devices_that_set_one_port_differently_are_refused(driver, more):
    table = {"port": "COM3", "points": {"p": {"register": "holding:0"}}}
    one, other = MODBUS_RTU.device("one", table), driver.device("other", {**table, **more})
    assert one.bus == other.bus
    with pytest.raises(ConfigurationError) as caught:
        MODBUS_RTU.open([one, other], ManualClock())
    assert caught.value.key == ("devices", "other")
