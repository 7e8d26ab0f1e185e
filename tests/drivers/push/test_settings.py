from typing import Any

import pytest

from drivers.push.device import LOOPBACK, Endpoints, PushDevice
from drivers.push.driver import PUSH
from shared.clock import ManualClock
from shared.errors import ConfigurationError, InstrumentUnavailable


def test_a_port_is_enough_and_it_is_on_the_loopback() -> None:
    device = PUSH.device("script", {"driver": "push", "tcp_port": 4840})
    assert device.endpoints.hosts == LOOPBACK
    assert device.points == ()
    assert device.limits.points_max == 500


def test_known_points_have_their_sensor_and_unit_beforehand() -> None:
    table = {"http_port": 4841, "points": {"temp": {"unit": "°C", "sensor": "oven", "signal": "core"}}}
    point = PUSH.device("script", table).points[0]
    assert (point.name, point.sensor, point.signal, point.unit) == ("temp", "oven", "core", "°C")


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ({}, ("devices", "script"), "listens nowhere"),
        ({"tcp_port": 0}, ("devices", "script", "tcp_port"), ">= 1"),
        ({"tcp_prot": 1}, ("devices", "script", "tcp_prot"), "did you mean `tcp_port`"),
        ({"tcp_port": 5, "http_port": 5}, ("devices", "script", "http_port"), "the same"),
        ({"tcp_port": 5, "points_max": 0}, ("devices", "script", "points_max"), ">= 1"),
        (
            {"tcp_port": 5, "points": {"a": {"valid_min": 1, "valid_max": 0}}},
            ("devices", "script", "points", "a", "valid_min"),
            "above",
        ),
    ],
)
def test_a_table_that_cannot_be_followed_names_its_key(
    table: dict[str, Any], key: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        PUSH.device("script", table)
    assert caught.value.key == key


def test_a_port_that_another_program_has_is_unavailable(push: Any) -> None:
    device = PUSH.device("other", {"tcp_port": push().tcp})
    with pytest.raises(InstrumentUnavailable, match="another program"):
        PUSH.open([device], ManualClock())


def test_closed_before_it_listens_it_ends_at_once(sink: Any) -> None:
    bus = PUSH.open([PushDevice("script", Endpoints(tcp_port=0))], ManualClock())
    bus.close()
    bus.close()
    bus.listen(sink)
