"""The configuration file: what it means, and what its mistakes are answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.configuration import find_config, load_settings, parse_settings, read_settings
from shared.errors import ConfigurationError

GOOD = """\
[agent]
name = "bench-pc"
log_level = "debug"

[spool]
policy = "thin"

[devices.bench]
driver = "modbus-tcp"
host = "127.0.0.1"
interval_s = 0.5
points.flow = { register = "holding:0", type = "float32", unit = "L/min" }
points.temp = { register = "input:4", interval_s = 2.0 }

[devices.spare]
driver = "modbus-tcp"
enabled = false
host = "127.0.0.1"
points.flow.register = "holding:0"
"""


def mistakes(text: str) -> list[tuple[int | None, str]]:
    settings, errors = parse_settings(text, file="agent.toml")
    assert settings is None
    assert all(error.file == "agent.toml" for error in errors)
    return [(error.line, f"{error.message} ({error.hint})") for error in errors]


def test_a_good_file_is_understood_by_agent_and_driver() -> None:
    settings, errors = parse_settings(GOOD)
    assert errors == []
    assert settings is not None
    assert settings.name == "bench-pc"
    assert settings.spool.policy == "thin"
    assert [entry.device.name for entry in settings.devices] == ["bench"]
    bench = settings.device("bench")
    assert [(point.sensor, point.interval_s) for point in bench.device.points] == [
        ("bench.flow", 0.5),
        ("bench.temp", 2.0),
    ]
    assert bench.flush_interval_s is None


def test_an_empty_file_has_defaults_and_no_devices() -> None:
    settings, errors = parse_settings("")
    assert errors == []
    assert settings is not None
    assert settings.devices == ()
    assert settings.name


def test_the_flush_interval_can_be_set_per_device_and_is_not_the_drivers_business() -> None:
    settings, errors = parse_settings(GOOD.replace("interval_s = 0.5", "interval_s = 0.5\nflush_interval_s = 0.05"))
    assert errors == []
    assert settings is not None
    assert settings.device("bench").flush_interval_s == 0.05


def test_every_mistake_is_found_at_once_with_its_line_and_the_nearest_known_key() -> None:
    found = mistakes(
        """\
[agnet]
[agent]
nmae = "x"
log_level = "loud"
queue_readings = true
[spool]
policies = "thin"
[devices.a]
driver = "modbus-tpc"
[devices.b]
driver = "modbus-tcp"
hots = "127.0.0.1"
flush_interval_s = 0
[devices.c]
driver = "modbus-tcp"
host = "127.0.0.1"
points = { flow = { register = "holding:0", typ = "float32" }, temp = { register = "holding:zero" } }
[devices.d]
host = "127.0.0.1"
"""
    )
    lines = [line for line, _ in found]
    assert lines == sorted(lines, key=lambda line: line or 0)
    said = dict.fromkeys(lines, "")
    for line, text in found:
        said[line] += text
    assert "did you mean `agent`" in said[1]
    assert "did you mean `name`" in said[3]
    assert 4 in said
    assert 5 in said
    assert "did you mean `policy`" in said[7]
    assert "did you mean `modbus-tcp`" in said[9]
    assert "flush_interval_s" in said[13]
    assert "did you mean `type`" in said[17]
    assert "zero" in said[17]
    assert "driver" in said[18]


def test_what_a_mistake_leaves_missing_is_not_reported_as_another() -> None:
    found = mistakes(GOOD.replace('host = "127.0.0.1"\ninterval_s', "host = 7\ninterval_s"))
    assert len(found) == 1
    assert found[0][0] == 10


def test_text_that_is_no_toml_is_answered_with_line_and_column() -> None:
    assert mistakes("[agent]\nname = \n") == [(2, "not TOML: Invalid value (column 8) ()")]


def test_two_points_may_not_feed_the_same_signal() -> None:
    found = mistakes(GOOD.replace('{ register = "input:4"', '{ sensor = "Bench.Flow", register = "input:4"'))
    assert found[0][0] == 13
    assert "both feed signal `value` of sensor `Bench.Flow`" in found[0][1]


def test_devices_with_different_drivers_cannot_share_a_port() -> None:
    text = """\
[devices.a]
driver = "modbus-rtu"
port = "/dev/ttyUSB0"
points.x.register = "holding:0"
[devices.b]
driver = "line-serial"
port = "/dev/ttyUSB0"
points.x = { prompt = "?", field = 1 }
"""
    found = mistakes(text)
    assert found[0][0] == 5
    assert "share" in found[0][1]


def test_a_sensor_name_that_no_dictionary_can_hold_is_refused() -> None:
    found = mistakes(GOOD.replace('unit = "L/min"', f'sensor = "{"s" * 201}"'))
    assert found[0][0] == 12
    assert "201 characters" in found[0][1]


def test_loading_raises_the_first_mistake_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\nnmae = 1\nlog_levle = 2\n")
    with pytest.raises(ConfigurationError, match=r"agent\.toml:2: unknown key `nmae`.*1 more"):
        load_settings(path)


def test_a_file_that_cannot_be_read_is_one_mistake(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    assert "cannot be read" in str(read_settings(path)[1][0])
    path.write_bytes(b"name = '\xff'")
    assert "not UTF-8" in str(read_settings(path)[1][0])


def test_windows_line_ends_do_not_shift_lines(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"[agent]\r\n\r\nnmae = 1\r\n")
    assert [error.line for error in read_settings(path)[1]] == [3]


def test_the_data_directory_on_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\ndata_dir = "/somewhere"\n')
    assert load_settings(path).data_dir == Path("/somewhere")
    assert load_settings(path, data_dir=str(tmp_path)).data_dir == tmp_path


def test_a_local_file_is_found_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("x.toml") == Path("x.toml")
    (tmp_path / "labrelay-agent.toml").touch()
    assert find_config(None) == Path("labrelay-agent.toml")
