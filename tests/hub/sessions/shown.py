"""What a hub shows of sessions, by each of the ways to ask, brought to the shape in which a model has it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import httpx

from tests.hub.sessions.conftest import Lab

Row: TypeAlias = tuple[str, int, float, str | None]
"""Sensor, time, value, and the id of the session that it counts to."""
Bucket: TypeAlias = tuple[int, float, float, float]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment: str | None) -> int | None:
    """Microseconds of a moment as the API writes it."""
    if moment is None:
        return None
    since = datetime.fromisoformat(moment) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass
class Shown:
    """A laboratory's hub as a reader sees it.

    Attributes:
        names: of the sensors, by id.
    """

    lab: Lab
    names: Mapping[str, str]

    async def queried(self, **asked: Any) -> list[Row]:
        """All points, page by page; each that is held back says so, and by which session."""
        found: list[dict[str, Any]] = []
        since: int | None = 0
        while since is not None:
            answer = await self._get("/api/v1/telemetry/query", limit=7, since_id=since, **asked)
            found += answer.json()["points"]
            since = answer.json()["next_since_id"]
        return sorted(map(self._row, found))

    def _row(self, point: dict[str, Any]) -> Row:
        at_us = us(point["timestamp"])
        assert at_us is not None
        return self.names[point["sensor_id"]], at_us, point["raw_value"], point["capture_session_id"]

    async def held(self, session_id: str) -> list[tuple[str, int]]:
        """What queries mark as held back by a session."""
        mark = {"late": True, "capture_session_id": session_id}
        answer = await self._get(
            "/api/v1/telemetry/query", capture_session_id=session_id, include_late=True, limit=20_000
        )
        marked = [one for one in answer.json()["points"] if (one["meta"] or {}).get("__system") == mark]
        return sorted(self._row(one)[:2] for one in marked)

    async def exported(self, kind: str, **asked: Any) -> list[Row]:
        """All rows of a file."""
        answer = await self._get("/api/v1/telemetry/export", format=kind, **asked)
        if kind == "json":
            assert answer.json()["total"] == len(answer.json()["points"])
            return sorted(map(self._row, answer.json()["points"]))
        rows = [
            {title.partition(" ")[0]: cell for title, cell in line.items()}
            for line in csv.DictReader(answer.text.splitlines())
        ]
        named = ({"capture_session_id": row["capture_session_id"] or None} for row in rows)
        return sorted(
            self._row(row | {"raw_value": float(row["raw_value"])} | name)
            for row, name in zip(rows, named, strict=True)
        )

    async def summed(self, interval: str, **asked: Any) -> dict[tuple[str, int], Bucket]:
        """(count, least, greatest, sum) by sensor and beginning of the bucket."""
        answer = await self._get("/api/v1/telemetry/aggregated", bucket_interval=interval, **asked)
        found: dict[tuple[str, int], Bucket] = {}
        for one in answer.json()["buckets"]:
            from_us = us(one["bucket"])
            assert from_us is not None
            key = self.names[one["sensor_id"]], from_us
            assert key not in found
            count = one["sample_count"]
            found[key] = count, one["min_raw"], one["max_raw"], round(one["avg_raw"] * count, 6)
        return found

    async def certificate(self, session: dict[str, Any]) -> dict[str, Any]:
        """What the hub certifies now."""
        certified: dict[str, Any] = (await self._get(f"{self.lab.path(session)}/certificate")).json()["certificate"]
        return certified

    async def set_aside(self) -> list[dict[str, Any]]:
        """The list of an owner."""
        answer = await self._get("/api/v1/set-aside", project_id=self.lab.project, page_size=100)
        rows: list[dict[str, Any]] = answer.json()["set_aside"]
        assert answer.json()["total"] == len(rows)
        return rows

    async def _get(self, path: str, **asked: Any) -> httpx.Response:
        answer = await self.lab.owner.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer


def certified_sensors(certificate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sensors of a certificate as a model has them, by name."""
    return {
        one["name"]: {
            "agents": one["agents"],
            "posts": one["posts"],
            "missing": [gap | {name: us(gap[name]) for name in ("time_from", "time_to")} for gap in one["missing"]],
            "waiting_for_clock": one["waiting_for_clock"],
            "first_at": us(one["first_at"]),
            "last_at": us(one["last_at"]),
        }
        for one in certificate["sensors"]
    }
