"""The notebook client against a hub of forty lines that speaks the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from labrelay.client import Client, HubFailed, HubUnreachable, NotFound, NotPermitted, NotSignedIn, RequestRefused
from labrelay.client import client as client_module

Handler = Callable[[httpx.Request], httpx.Response]


def point(number: int, *, physical: float | None = 1.5) -> dict[str, Any]:
    return {
        "id": number,
        "project_id": "p",
        "sensor_id": "s1",
        "signal": "value",
        "timestamp": f"2026-01-01T00:00:00.{number:06d}Z",
        "raw_value": number / 2,
        "physical_value": physical,
        "conversion_status": "converted" if physical is not None else "raw_only",
    }


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(client_module.clock, "sleep", pauses.append)
    return pauses


@pytest.fixture
def connect() -> Iterator[Callable[[Handler], Client]]:
    made: list[Client] = []

    def to(handler: Handler) -> Client:
        made.append(Client("http://hub", "token", transport=httpx.MockTransport(handler)))
        return made[-1]

    yield to
    for client in made:
        client.close()


def test_readings_come_as_columns_over_all_pages(connect: Callable[[Handler], Client]) -> None:
    asked: list[httpx.QueryParams] = []

    def hub(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params)
        since = int(request.url.params.get("since_id", 0))
        points = [point(number) for number in range(since + 1, min(since + 3, 5) + 1)]
        return httpx.Response(200, json={"points": points, "next_since_id": since + 3 if since + 3 < 5 else None})

    readings = connect(hub).readings(sensor_id="s1", time_from=datetime(2026, 1, 1, tzinfo=UTC))
    assert readings.id.tolist() == [1, 2, 3, 4, 5]
    assert readings.time.dtype == np.dtype("datetime64[us]")
    assert readings.time[1] == np.datetime64("2026-01-01T00:00:00.000002")
    assert readings.raw.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert asked[0].get_list("sensor_id") == ["s1"]
    assert asked[0]["time_from"] == "2026-01-01T00:00:00+00:00"
    assert [one.get("since_id") for one in asked] == [None, "3"]


def test_what_has_no_value_is_nan(connect: Callable[[Handler], Client]) -> None:
    page = {"points": [point(1, physical=None)], "next_since_id": None}
    readings = connect(lambda _: httpx.Response(200, json=page)).readings(sensor_id="s1")
    assert np.isnan(readings.physical[0])
    assert readings.status.tolist() == ["raw_only"]


def test_no_readings_are_empty_columns(connect: Callable[[Handler], Client]) -> None:
    readings = connect(lambda _: httpx.Response(200, json={"points": [], "next_since_id": None})).readings()
    assert len(readings) == 0
    assert {name: str(column.dtype)[:9] for name, column in readings.columns().items()} == {
        "id": "int64",
        "time": "datetime6",
        "raw": "float64",
        "physical": "float64",
        "status": "<U1",
        "sensor_id": "<U1",
        "signal": "<U1",
    }


def test_a_limit_asks_for_no_more(connect: Callable[[Handler], Client]) -> None:
    def hub(request: httpx.Request) -> httpx.Response:
        count = int(request.url.params["limit"])
        return httpx.Response(200, json={"points": [point(n) for n in range(count)], "next_since_id": count})

    assert len(connect(hub).readings(limit=7)) == 7


def test_sensors_are_listed_over_all_pages(connect: Callable[[Handler], Client]) -> None:
    def hub(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params["offset"])
        names = [{"name": f"s{n}"} for n in range(start, min(start + 100, 150))]
        return httpx.Response(200, json={"sensors": names, "total": 150})

    assert len(connect(hub).sensors()) == 150


def test_a_stream_goes_on_behind_the_last_event_after_an_interruption(connect: Callable[[Handler], Client]) -> None:
    resumed: list[str | None] = []

    def hub(request: httpx.Request) -> httpx.Response:
        resumed.append(request.headers.get("Last-Event-ID"))
        if len(resumed) == 2:
            raise httpx.ConnectError("refused")
        start = int(resumed[-1] or 0)
        body = ": hello\n\n" + "".join(
            f"id: {n}\nevent: telemetry\ndata: {json.dumps(point(n))}\n\n" for n in (start + 1, start + 2)
        )
        return httpx.Response(200, text=body + 'event: live\ndata: {"raw_value": 1}\n\n')

    found = list(connect(hub).stream(sensor_id="s1", max_events=4))
    assert [event.id for event in found] == [1, 2, None, 3, 4]
    assert [event.kind for event in found] == ["telemetry", "telemetry", "live", "telemetry", "telemetry"]
    assert resumed == [None, "2", "2"]


def test_a_quiet_stream_ends_when_asked_to(connect: Callable[[Handler], Client]) -> None:
    assert list(connect(lambda _: httpx.Response(200, text=": quiet\n\n")).stream(idle_timeout_s=1)) == []


def test_a_stream_that_is_refused_says_so(connect: Callable[[Handler], Client]) -> None:
    with pytest.raises(NotSignedIn):
        next(connect(lambda _: httpx.Response(401, json={"detail": "who are you"})).stream())


def test_sending_uses_the_sensors_token_and_parts(connect: Callable[[Handler], Client]) -> None:
    bodies: list[dict[str, Any]] = []

    def hub(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer sensor-token"
        bodies.append(json.loads(request.content))
        return httpx.Response(202, json={"status": "accepted", "accepted": len(bodies[-1]["readings"])})

    times = np.datetime64("2026-01-01T00:00:00") + np.arange(10_001).astype("timedelta64[ms]")
    assert connect(hub).send("sensor-token", "s1", np.arange(10_001), times, signal="level") == 10_001
    assert [len(body["readings"]) for body in bodies] == [10_000, 1]
    assert bodies[1]["readings"] == [
        {"timestamp": "2026-01-01T00:00:10.000000Z", "raw_value": 10_000.0, "signal": "level"}
    ]


@pytest.mark.parametrize("times", [[datetime(2026, 1, 1)], ["2026-01-01T00:00:00Z"] * 2, [5], None])
def test_times_that_do_not_fit_are_refused_before_anything_is_sent(
    connect: Callable[[Handler], Client], times: Any
) -> None:
    raw = [1.0] if times is not None else [1.0, 2.0]
    with pytest.raises(ValueError, match="time"):
        connect(lambda _: pytest.fail("sent")).send("t", "s1", raw, times)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, NotSignedIn), (403, NotPermitted), (404, NotFound), (422, RequestRefused), (500, HubFailed)],
)
def test_a_refusal_has_a_name_and_the_hubs_words(
    connect: Callable[[Handler], Client], status: int, error: type[Exception]
) -> None:
    answer = httpx.Response(status, json={"detail": "because of the weather", "request_id": "r7"})
    with pytest.raises(error, match=f"GET /api/v1/sensors: {status} because of the weather"):
        connect(lambda _: answer).sensors()


def test_a_hub_that_comes_back_is_asked_again(connect: Callable[[Handler], Client], no_pauses: list[float]) -> None:
    answers = iter([httpx.Response(503), httpx.Response(429, headers={"Retry-After": "3"})])
    found = httpx.Response(200, json={"sensors": [], "total": 0})
    assert connect(lambda _: next(answers, found)).sensors() == []
    assert no_pauses[1] == 3.0


def test_a_hub_that_stays_away_is_unreachable(connect: Callable[[Handler], Client], no_pauses: list[float]) -> None:
    def hub(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(HubUnreachable, match="refused"):
        connect(hub).sensors()
    assert len(no_pauses) == client_module.ATTEMPTS - 1
