"""Tables of a configuration: messages that help."""

import msgspec
import pytest

from shared.errors import ConfigurationError
from shared.tables import parse_table


class Bench(msgspec.Struct):
    interval_s: float
    unit: int = 1


def test_a_table_becomes_a_structure() -> None:
    assert parse_table({"interval_s": 2}, Bench) == Bench(2.0, 1)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean `interval_s`") as caught:
        parse_table({"intervall_s": 2}, Bench, key=("devices", "bench"))
    assert caught.value.key == ("devices", "bench", "intervall_s")


def test_a_wrong_type_names_the_key() -> None:
    with pytest.raises(ConfigurationError, match="expected `int`") as caught:
        parse_table({"interval_s": 1, "unit": "one"}, Bench, key=("devices", "bench"))
    assert caught.value.key == ("devices", "bench", "unit")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="interval_s"):
        parse_table({}, Bench)
