from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulators.scenarios import HELD_MAX, Chain, Reading, apply, scenario
from shared.errors import ConfigurationError

STREAM = [Reading(float(t), 10.0 + t) for t in range(20)]


def sent(table: dict[str, Any], stream: list[Reading] = STREAM) -> list[float]:
    return [reading.t_s for reading in apply(stream, scenario(table))]


def test_a_dropout_loses_the_end_of_each_period() -> None:
    assert sent({"kind": "dropout", "every_s": 10, "length_s": 3}) == [*range(7), *range(10, 17)]


def test_a_burst_holds_back_and_sends_at_once() -> None:
    burst = scenario({"kind": "burst", "every_s": 10, "length_s": 3})
    counts = [len(burst.step(reading)) for reading in STREAM]
    assert counts == [1] * 7 + [0, 0, 0, 4] + [1] * 6 + [0, 0, 0]
    assert len(burst.flush()) == 3


def test_out_of_order_shuffles_within_its_window_and_loses_nothing() -> None:
    times = sent({"kind": "out_of_order", "window": 4, "seed": 1})
    assert times != sorted(times)
    assert all(sorted(times[n : n + 4]) == list(range(n, n + 4)) for n in range(0, 20, 4))


def test_late_data_come_after_their_delay_with_their_own_time() -> None:
    late = scenario({"kind": "late", "every_s": 100, "delay_s": 5})
    released = [late.step(reading) for reading in STREAM]
    assert released[0] == []
    assert released[5] == [STREAM[0], STREAM[5]]


def test_spikes_change_values_now_and_then_and_never_times() -> None:
    stream = [Reading(float(t), 0.0) for t in range(5000)]
    readings = list(apply(stream, scenario({"kind": "spikes", "probability": 0.1, "magnitude": 50, "seed": 2})))
    spikes = [reading.value for reading in readings if reading.value]
    assert set(spikes) == {50.0, -50.0}
    assert 350 < len(spikes) < 650
    assert [reading.t_s for reading in readings] == [reading.t_s for reading in stream]


KEEPING = st.sampled_from(
    [
        {"kind": "burst", "every_s": 7, "length_s": 3},
        {"kind": "out_of_order", "window": 3, "seed": 5},
        {"kind": "late", "every_s": 4, "delay_s": 6},
        {"kind": "spikes", "probability": 0.5, "magnitude": 1},
    ]
)


@given(st.lists(KEEPING, max_size=4), st.integers(0, 50))
def test_a_chain_of_what_only_delays_loses_nothing_and_doubles_nothing(tables: list[Any], length: int) -> None:
    stream = [Reading(float(t), 0.0) for t in range(length)]
    readings = apply(stream, Chain([scenario(table) for table in tables]))
    assert sorted(reading.t_s for reading in readings) == [reading.t_s for reading in stream]


def test_what_is_held_back_is_bounded() -> None:
    burst = scenario({"kind": "burst", "every_s": 1e9, "length_s": 1e9})
    sent_early = [burst.step(Reading(float(t), 0.0)) for t in range(HELD_MAX + 5)]
    assert sum(map(len, sent_early)) == 5
    assert len(burst.flush()) == HELD_MAX


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ({"kind": "drop"}, ("scenarios", "kind"), "did you mean `dropout`"),
        ({"kind": "dropout", "every_s": 1}, ("scenarios",), "length_s"),
        ({"kind": "out_of_order", "window": 1}, ("scenarios", "window"), ">= 2"),
        ({"kind": "spikes", "probability": 2, "magnitude": 1}, ("scenarios", "probability"), "<= 1"),
    ],
)
def test_a_table_that_cannot_be_followed_says_so(table: dict[str, Any], key: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        scenario(table, key=("scenarios",))
    assert caught.value.key == key
