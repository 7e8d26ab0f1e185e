"""Events: one line each, readable by people or by machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from agent.logging import event_log, set_up


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    ours = logging.getLogger("labrelay")
    own_level = ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(own_level)


def test_an_event_is_a_line_of_fields_that_stays_one_line() -> None:
    stream = io.StringIO()
    set_up("info", "logfmt", stream)
    event_log("test").warning("device_failing", device="bench", error='no "answer"\nat all', empty="", n=3)
    event_log("test").debug("unheard")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith(' WARNING device_failing device=bench error="no \\"answer\\"\\nat all" empty="" n=3\n')


def test_an_event_is_a_json_object_with_its_traceback() -> None:
    stream = io.StringIO()
    set_up("debug", "json", stream)
    try:
        raise KeyError("gone")
    except KeyError as error:
        event_log("test").error("crashed", exc_info=error, device="bench")
    logging.getLogger("a library").warning("by %s", "the way")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["device"]) == ("crashed", "error", "bench")
    assert "KeyError" in first["traceback"]
    assert (second["event"], second["logger"]) == ("by the way", "a library")
