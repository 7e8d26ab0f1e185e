import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulators.signals import waveform
from shared.errors import ConfigurationError

TABLES: list[dict[str, Any]] = [
    {"kind": "constant", "value": 4},
    {"kind": "sine", "offset": 3, "amplitude": 2, "period_s": 7},
    {"kind": "saw", "low": -1, "high": 5, "period_s": 3},
    {"kind": "pulse", "low": 1, "high": 5, "period_s": 3, "duty": 0.25},
    {"kind": "noise", "sigma": 1, "seed": 3},
    {"kind": "walk", "step": 0.5, "low": -2, "high": 2, "seed": 4},
]


def test_each_shape_has_the_values_that_it_should() -> None:
    sine = waveform({"kind": "sine", "offset": 3, "amplitude": 2, "period_s": 8})
    assert [round(sine(t), 9) for t in (0, 2, 4, 6)] == [3, 5, 3, 1]
    saw = waveform({"kind": "saw", "low": 0, "high": 10, "period_s": 4})
    assert [saw(t) for t in (0, 1, 2, 3, 4)] == [0, 2.5, 5, 7.5, 0]
    pulse = waveform({"kind": "square", "low": 1, "high": 2, "period_s": 4, "duty": 0.5})
    assert [pulse(t) for t in (0, 1.9, 2, 3.9, 4)] == [2, 2, 1, 1, 2]
    both = waveform({"kind": "sum", "parts": [{"kind": "constant", "value": 1}, {"kind": "saw", "period_s": 2}]})
    assert both(1) == 1.5


def test_noise_has_its_spread_and_holds_for_its_interval() -> None:
    noise = waveform({"kind": "noise", "sigma": 2, "interval_s": 0.5, "seed": 1})
    values = [noise(n / 2) for n in range(4000)]
    assert abs(statistics.mean(values)) < 0.2
    assert 1.9 < statistics.stdev(values) < 2.1
    assert noise(7.0) == noise(7.49) != noise(7.5)


def test_a_walk_stays_within_its_bounds_and_goes_step_by_step() -> None:
    walk = waveform({"kind": "walk", "start": 20, "step": 0.5, "low": 15, "high": 25, "seed": 3})
    values = [walk(t) for t in range(2000)]
    assert values[0] == 20
    assert all(15 <= value <= 25 for value in values)
    assert max(values) - min(values) > 5


@given(st.sampled_from(TABLES), st.lists(st.floats(0, 1000), max_size=20))
def test_the_value_depends_on_time_alone(table: dict[str, Any], times: list[float]) -> None:
    one, other = waveform(table), waveform(table)
    there = [one(t) for t in times]
    back = [other(t) for t in reversed(times)]
    assert there == back[::-1]
    assert all(math.isfinite(value) for value in there)


def test_another_seed_is_another_noise() -> None:
    assert waveform({"kind": "noise", "sigma": 1, "seed": 1})(0) != waveform({"kind": "noise", "sigma": 1, "seed": 2})(
        0
    )


def test_a_recording_is_replayed_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("datetime;Pressure;Flow\n1;0.5;7\n2;1.5;8\n")
    table = {"kind": "csv", "file": "run.csv", "column": "Pressure", "delimiter": ";", "interval_s": 0.5}
    replay = waveform(table, folder=tmp_path)
    assert [replay(t) for t in (0, 0.5, 1.0, 1.5)] == [0.5, 1.5, 0.5, 1.5]
    once = waveform({**table, "loop": False}, folder=tmp_path)
    assert [once(t) for t in (0, 0.5, 1.0, 99)] == [0.5, 1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ({"kind": "sinus"}, ("kind",), "did you mean `sine`"),
        ({}, ("kind",), "unknown kind"),
        ({"kind": "sine", "period": 1}, ("period",), "did you mean `period_s`"),
        ({"kind": "sine", "period_s": 0}, ("period_s",), "> 0"),
        ({"kind": "sine", "period_s": "1"}, ("period_s",), "expected `float`"),
        ({"kind": "pulse", "period_s": 1, "duty": 2}, ("duty",), "<= 1"),
        ({"kind": "walk", "step": 1, "start": 5, "high": 1}, ("start",), "between"),
        ({"kind": "sum", "parts": []}, ("parts",), "1 to 20"),
        ({"kind": "sum", "parts": [{"kind": "sign"}]}, ("parts", "0", "kind"), "sine"),
        ({"kind": "csv", "file": "nothing.csv", "column": "a"}, ("file",), "cannot replay"),
    ],
)
def test_a_table_that_cannot_be_followed_names_its_key(
    table: dict[str, Any], key: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        waveform(table, key=("x",), folder=tmp_path)
    assert caught.value.key == ("x", *key)


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2\n", "no column `c`"), ("c\n1\nx\n", "row 3"), ("c\n", "no rows"), ("", "no rows")]
)
def test_a_recording_that_cannot_be_replayed_says_where(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        waveform({"kind": "csv", "file": "run.csv", "column": "c"}, folder=tmp_path)
