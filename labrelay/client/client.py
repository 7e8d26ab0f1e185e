"""The client: sensors, readings as columns, streams that resume, and sending."""

from __future__ import annotations

import random
import ssl
import time as clock
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import ArrayLike

from labrelay.client import columns, errors, events
from labrelay.client.columns import Readings
from labrelay.client.errors import HubFailed, HubUnreachable
from labrelay.client.events import Event

PAGE = 20_000
READINGS_A_REQUEST = 10_000
ATTEMPTS = 4
RETRY_S_MAX = 15.0
_RETRYABLE = (429, 502, 503, 504)
_HEARTBEAT_TIMEOUT_S = 30.0
"""A stream sends a comment every 10 s; a line that is silent for longer is dead."""

Moment = str | datetime | np.datetime64
"""A time: RFC 3339 text, an aware datetime, or a datetime64 in UTC."""


class Client:
    """A connection to a hub; close it, or use it in a `with` statement.

    Args:
        url: of the hub, e.g. `https://lab.example`.
        token: an access token, or a sensor's.
        authority: PEM file of the authority that signed the hub's certificate, for hubs with one of their own
            (`labrelay up --lan` keeps it in `<data-dir>/certificates/ca.crt`).
        timeout_s: for one answer.
        transport: another way to reach the hub, for tests.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        authority: str | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        trust = ssl.create_default_context(cafile=authority) if authority else True
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, verify=trust, transport=transport)

    @classmethod
    def sign_in(cls, url: str, username: str, password: str, **options: Any) -> Self:
        """A client for a user; `options` as for the class. Raises: ClientError."""
        client = cls(url, **options)
        try:
            answer = client._call("POST", "/auth/login", json={"username": username, "password": password})
        except errors.ClientError:
            client.close()
            raise
        client._http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def sensors(self, **filters: str) -> list[dict[str, Any]]:
        """All sensors that you may see; filters: `project_id`, `status`, `type`. Raises: ClientError."""
        found: list[dict[str, Any]] = []
        while True:
            query = {**filters, "limit": 100, "offset": len(found)}
            page = self._call("GET", "/api/v1/sensors", params=query)
            found += page["sensors"]
            if not page["sensors"] or len(found) >= page["total"]:
                return found

    def readings(
        self,
        *,
        sensor_id: str | Sequence[str] | None = None,
        time_from: Moment | None = None,
        time_to: Moment | None = None,
        signal: str | None = None,
        capture_session_id: str | None = None,
        run_id: str | None = None,
        project_id: str | None = None,
        include_late: bool = False,
        limit: int | None = None,
    ) -> Readings:
        """Stored readings as columns, however many pages they take.

        Args:
            sensor_id: one sensor or up to 50.
            time_from: inclusive.
            time_to: inclusive.
            limit: at most so many, the first ones.

        Raises: ClientError.
        """
        query = _given(
            sensor_id=[sensor_id] if isinstance(sensor_id, str) else sensor_id,
            time_from=columns.timestamp(time_from) if time_from is not None else None,
            time_to=columns.timestamp(time_to) if time_to is not None else None,
            signal=signal,
            capture_session_id=capture_session_id,
            run_id=run_id,
            project_id=project_id,
            include_late=True if include_late else None,
        )
        return columns.from_points(self._pages(query, limit))

    def stream(
        self,
        *,
        sensor_id: str | Sequence[str] | None = None,
        since_id: int | None = None,
        live: bool = False,
        max_events: int | None = None,
        idle_timeout_s: float | None = None,
        **filters: str,
    ) -> Iterator[Event]:
        """Events as they come; goes on behind the last one after every interruption, for as long as it is iterated.

        Args:
            sensor_id: one sensor or several.
            since_id: begin behind this reading; by default with what comes from now on.
            live: also `live` events, the latest values before they are stored.
            max_events: end after so many `telemetry` events.
            idle_timeout_s: end when nothing came for so long.

        Raises: RequestRefused when the hub says no; interruptions are waited out.
        """
        query = _given(
            sensor_id=[sensor_id] if isinstance(sensor_id, str) else sensor_id,
            since_id=since_id,
            live=True if live else None,
            idle_timeout_seconds=idle_timeout_s,
            **filters,
        )
        last_id: int | None = None
        received = failures = 0
        while True:
            try:
                for event in self._stream_once(query, last_id):
                    failures = 0
                    last_id = event.id if event.id is not None else last_id
                    yield event
                    received += event.kind == "telemetry"
                    if max_events is not None and received >= max_events:
                        return
                if idle_timeout_s is not None:
                    return  # the hub ends a stream only because it was quiet for that long
            except (httpx.TransportError, HubFailed):
                pass
            failures += 1
            clock.sleep(_pause_s(failures))

    def send(
        self,
        sensor_token: str,
        sensor_id: str,
        raw: ArrayLike,
        time: ArrayLike | Sequence[datetime] | None = None,
        *,
        physical: ArrayLike | None = None,
        signal: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> int:
        """Send readings of a sensor; sent twice they are stored once.

        Args:
            raw: one value or many, float64 (n,).
            time: as many times; may be left out for a single reading, which is then taken now.
            physical: values that were converted already, float64 (n,).
            meta: kept with each reading.

        Returns: how many were new. Raises: ClientError, ValueError for columns that do not fit together.
        """
        readings = columns.to_readings(raw, time, physical, signal)
        accepted = 0
        for start in range(0, len(readings), READINGS_A_REQUEST):
            body = _given(sensor_id=sensor_id, meta=meta, readings=readings[start : start + READINGS_A_REQUEST])
            answer = self._call(
                "POST", "/api/v1/telemetry", json=body, headers={"Authorization": f"Bearer {sensor_token}"}
            )
            accepted += int(answer["accepted"])
        return accepted

    def _pages(self, query: dict[str, Any], limit: int | None) -> Iterator[list[dict[str, Any]]]:
        since_id: int | None = None
        left = limit
        while left is None or left > 0:
            page_query = {**query, **_given(since_id=since_id), "limit": min(PAGE, left or PAGE)}
            page = self._call("GET", "/api/v1/telemetry/query", params=page_query)
            yield page["points"]
            since_id = page["next_since_id"]
            if since_id is None:
                return
            if left is not None:
                left -= len(page["points"])

    def _stream_once(self, query: dict[str, Any], last_id: int | None) -> Iterable[Event]:
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        timeout = httpx.Timeout(self._http.timeout.connect, read=_HEARTBEAT_TIMEOUT_S)
        address = "/api/v1/telemetry/stream"
        with self._http.stream("GET", address, params=query, headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                answer.read()
                errors.check(answer)
            yield from events.parse(answer.iter_lines())

    def _call(self, method: str, path: str, **request: Any) -> Any:
        """The JSON of a successful answer; tries again what may succeed then. Every call of ours may be repeated."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise HubUnreachable(f"{method} {path}: {error or type(error).__name__}") from error
                clock.sleep(_pause_s(attempt))
                continue
            if answer.status_code not in _RETRYABLE or attempt == ATTEMPTS:
                break
            clock.sleep(_retry_after_s(answer) or _pause_s(attempt))
        errors.check(answer)
        return answer.json() if answer.content else None


def _given(**fields: Any) -> dict[str, Any]:
    """What is not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _pause_s(failures: int) -> float:
    return min(RETRY_S_MAX, 0.25 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


def _retry_after_s(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(RETRY_S_MAX, float(text)) if text.isdigit() else 0.0
