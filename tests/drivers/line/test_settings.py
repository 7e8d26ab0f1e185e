from typing import Any

import pytest

from drivers.api import Point
from drivers.line.device import SerialAddress, TcpAddress
from drivers.line.driver import LINE_SERIAL, LINE_TCP
from shared.clock import ManualClock
from shared.errors import ConfigurationError

BALANCE: dict[str, Any] = {
    "driver": "line-serial",
    "port": "/dev/ttyUSB0",
    "points": {"mass": {"prompt": "SI", "pattern": "([-+]?[0-9.]+) *g", "unit": "g"}},
}


def with_(**changes: Any) -> dict[str, Any]:
    return {**BALANCE, **changes}


def test_ten_lines_of_toml_make_a_device() -> None:
    device = LINE_SERIAL.device("balance", BALANCE)
    assert device.bus == "/dev/ttyUSB0"
    assert device.address == SerialAddress("/dev/ttyUSB0", 9600, 8, "N", 1)
    assert device.points == (Point("mass", "balance.mass", "value", "g", 1.0),)
    assert device.timeout_s == 1.0


def test_a_tcp_instrument_has_host_and_port() -> None:
    device = LINE_TCP.device("meter", {"host": "10.0.0.7", "port": 4001, "prompt": "?", "points": {"v": {"field": 1}}})
    assert device.address == TcpAddress("10.0.0.7", 4001)
    assert device.bus == "tcp:10.0.0.7:4001"
    assert device.prompts == ("?",)


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        (with_(baudrat=9600), ("devices", "balance", "baudrat"), "did you mean `baudrate`"),
        (with_(baudrate="fast"), ("devices", "balance", "baudrate"), "expected `int`"),
        (with_(stopbits=3), ("devices", "balance", "stopbits"), "1, 1.5 or 2"),
        (with_(encoding="klingon"), ("devices", "balance", "encoding"), "klingon"),
        (with_(encoding="utf-16"), ("devices", "balance", "encoding"), "utf-16"),
        (with_(terminator="é"), ("devices", "balance", "terminator"), "ascii"),
        (with_(expect="("), ("devices", "balance", "expect"), "regular expression"),
        (with_(mode="stream"), ("devices", "balance", "points", "mass", "prompt"), "not prompted"),
        (with_(points={}), ("devices", "balance", "points"), "0 points"),
        (with_(prompt_checksum=True), ("devices", "balance", "prompt_checksum"), "without checksum"),
        (
            with_(checksum="sum", checksum_format="decimal"),
            ("devices", "balance", "checksum_format"),
            "needs a checksum_separator",
        ),
        (with_(points={"m": {"prompt": "SI"}}), ("devices", "balance", "points", "m"), "one of"),
        (with_(points={"m": {"field": 1}}), ("devices", "balance", "points", "m"), "no `prompt`"),
        (with_(points={"m": {"prompt": "SI", "field": 0}}), ("devices", "balance", "points", "m", "field"), "field 0"),
        (
            with_(points={"m": {"prompt": "SI", "field": 1, "unti": "g"}}),
            ("devices", "balance", "points", "m", "unti"),
            "did you mean `unit`",
        ),
        (
            with_(points={"m": {"prompt": "SI", "field": 1, "scale": 0}}),
            ("devices", "balance", "points", "m", "scale"),
            "scale not 0",
        ),
        (
            with_(points={"m": {"prompt": "SI", "field": 1, "valid_min": 2, "valid_max": 1}}),
            ("devices", "balance", "points", "m", "valid_min"),
            "above",
        ),
    ],
)
def test_a_table_that_cannot_be_followed_names_its_key(
    table: dict[str, Any], key: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        LINE_SERIAL.device("balance", table)
    assert caught.value.key == key


def test_devices_of_one_port_must_agree_about_it() -> None:
    first = LINE_SERIAL.device("a", BALANCE)
    other = LINE_SERIAL.device("b", with_(baudrate=19_200))
    with pytest.raises(ConfigurationError, match="baudrate: 9600 and 19200") as caught:
        LINE_SERIAL.open([first, other], ManualClock())
    assert caught.value.key == ("devices", "b", "baudrate")


def test_a_stream_needs_a_port_to_itself() -> None:
    streaming = with_(mode="stream", points={"mass": {"field": 1}})
    with pytest.raises(ConfigurationError, match="to itself"):
        LINE_SERIAL.open([LINE_SERIAL.device("a", BALANCE), LINE_SERIAL.device("b", streaming)], ManualClock())
