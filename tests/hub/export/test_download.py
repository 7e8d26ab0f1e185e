"""Files that are sent while they are read, by a hub that listens: whole, or visibly not."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from hub.database.pool import acquire, transaction
from hub.export import download
from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub

EXPORT = "/api/v1/experiments/export"
COLUMNS = (
    "id,project_id,owner_id,name,description,experiment_type,tags,metadata,status,archived_at,created_at,updated_at,"
    "version"
)
_FILL = """
    insert into experiments (id, project_id, owner_id, name, metadata)
    select gen_random_uuid(), p.id, p.owner_id, 'E' || n, jsonb_build_object('a', repeat('Lorem ipsum ', 400))
    from projects p, generate_series(1, $1) as n
"""


@dataclass
class Lab:
    """A hub that listens on a port, with a project of Ann's."""

    hub: Hub
    ann: httpx.AsyncClient
    project: str

    async def add(self, name: str, **fields: Any) -> dict[str, Any]:
        answer = await self.ann.post("/api/v1/experiments", json={"project_id": self.project, "name": name, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def fill(self, count: int) -> None:
        """Experiments of about 5 kB: 5,000 fill all buffers on the way to a client that does not read."""
        async with acquire(self.hub.services.pool) as connection:
            await connection.execute(_FILL, count)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        async with acquire(self.hub.services.pool) as connection:
            return await connection.fetchval(statement, *arguments)

    async def no_export_under_way(self) -> None:
        async with asyncio.timeout(20):
            while self.hub.services.exports.under_way:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def listening(hub: Hub) -> AsyncIterator[str]:
    """The hub's address while it listens."""
    config = uvicorn.Config(hub.app, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve([door]), name="listening hub")
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def new_lab(hub: Hub) -> AsyncIterator[Lab]:
    async with listening(hub) as url, httpx.AsyncClient(base_url=url, timeout=30) as ann:
        ann.headers.update((await hub.member("ann")).headers)
        answer = await ann.post("/projects", json={"name": "Lab"})
        yield Lab(hub, ann, answer.json()["id"])


async def read_into(received: bytearray, answer: httpx.Response) -> None:
    async for part in answer.aiter_raw():
        received += part


@pytest.fixture
async def lab(hub: Hub) -> AsyncIterator[Lab]:
    async with new_lab(hub) as made:
        yield made


async def test_a_file_has_the_whole_list_in_its_order(lab: Lab) -> None:
    await lab.fill(250)
    made = await lab.add("Zinc", tags=["b", "a"], metadata={"a": [1, None]}, description='Say "hi",\nµ')
    listed = (await lab.ann.get("/api/v1/experiments", params={"page_size": 100})).json()["experiments"]
    as_json = await lab.ann.get(EXPORT, params={"format": "json"})
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json()["total"] == 251
    assert as_json.json()["experiments"][:100] == listed
    as_csv = await lab.ann.get(EXPORT)
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    assert as_csv.text.partition("\r\n")[0] == COLUMNS
    assert [line["id"] for line in lines] == [one["id"] for one in as_json.json()["experiments"]]
    mine = next(line for line in lines if line["id"] == made["id"])
    assert mine == {
        **{name: str(value) for name, value in made.items()},
        "tags": "b,a",
        "metadata": '{"a":[1,null]}',
        "archived_at": "",
    }


async def test_a_file_has_a_name_and_is_attached(lab: Lab) -> None:
    for kind in ("csv", "json"):
        answer = await lab.ann.get(EXPORT, params={"format": kind})
        name = answer.headers["content-disposition"]
        assert name.startswith('attachment; filename="experiments-2')
        assert name.endswith(f'Z.{kind}"')
        assert "content-length" not in answer.headers
    refused = await lab.ann.get(EXPORT, params={"format": "xlsx"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "format")
    assert "content-disposition" not in refused.headers


async def test_a_file_takes_the_lists_filters(lab: Lab) -> None:
    await lab.add("Zinc", tags=["hot", "zinc"], status="running")
    await lab.add("Tin", tags=["hot"])
    for params, expected in (
        ({"tags": "hot,zinc"}, ["Zinc"]),
        ({"status": "draft"}, ["Tin"]),
        ({"created_after": "2999-01-01T00:00:00Z"}, []),
        ({"project_id": lab.project}, ["Tin", "Zinc"]),
    ):
        answer = await lab.ann.get(EXPORT, params={"format": "json", **params})
        assert [one["name"] for one in answer.json()["experiments"]] == expected, params


async def test_no_cell_is_a_formula(lab: Lab) -> None:
    await lab.add("=cmd|' /C calc'!A0", description="@SUM(1)", tags=["-2"], experiment_type="+1")
    (line,) = csv.DictReader(io.StringIO((await lab.ann.get(EXPORT)).text, newline=""))
    assert [line[name] for name in ("name", "description", "tags", "experiment_type")] == [
        "'=cmd|' /C calc'!A0",
        "'@SUM(1)",
        "'-2",
        "'+1",
    ]
    as_json = (await lab.ann.get(EXPORT, params={"format": "json"})).json()
    assert as_json["experiments"][0]["name"] == "=cmd|' /C calc'!A0"


async def test_a_file_shows_one_moment(lab: Lab) -> None:
    await lab.fill(5_000)
    async with lab.ann.stream("GET", EXPORT, params={"format": "json"}) as answer:
        await lab.execute("update experiments set name = 'changed ' || name")
        await lab.execute("delete from experiments where id in (select id from experiments order by id limit 100)")
        content = await answer.aread()
    read = json.loads(content)
    assert read["total"] == len(read["experiments"]) == 5_000
    assert not any(one["name"].startswith("changed") for one in read["experiments"])


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_a_file_that_breaks_off_is_seen_to(lab: Lab, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    await lab.fill(5_000)
    received = bytearray()
    async with lab.ann.stream("GET", EXPORT, params={"format": kind}) as answer:
        assert answer.status_code == 200
        await lab.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and xact_start is not null and query like '%order by e.id desc%' and pid <> pg_backend_pid()"
        )
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await read_into(received, answer)
    assert received
    if kind == "json":
        with pytest.raises(ValueError, match=r"line|char"):
            json.loads(received)
    await lab.no_export_under_way()
    assert "event=export_broken" in caplog.text
    assert (await lab.ann.get(EXPORT, params={"format": "json"})).json()["total"] == 5_000


async def test_what_the_database_cannot_begin_is_an_error_and_no_file(hub_settings: dict[str, Any]) -> None:
    settings = HubSettings(**hub_settings, database_command_timeout_s=1.0)
    async with running_hub(settings) as hub, new_lab(hub) as lab:
        async with transaction(hub.services.pool) as connection:
            await connection.execute("lock table experiments in access exclusive mode")
            answer = await lab.ann.get(EXPORT)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert "content-disposition" not in answer.headers
        assert hub.services.exports.under_way == 0
        assert (await lab.ann.get(EXPORT)).status_code == 200


async def test_a_client_that_leaves_ends_its_export(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await lab.fill(5_000)
    async with lab.ann.stream("GET", EXPORT) as answer:
        await anext(answer.aiter_raw())
        assert lab.hub.services.exports.under_way == 1
    await lab.no_export_under_way()
    assert "event=export_abandoned" in caplog.text


async def test_a_client_that_stops_reading_is_given_up(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SEND_TIMEOUT_S", 0.3)
    await lab.fill(5_000)
    async with lab.ann.stream("GET", EXPORT) as answer:
        await lab.no_export_under_way()
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    assert "the client took nothing for 0.3 s" in caplog.text


async def test_an_export_that_takes_too_long_is_broken_off(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DURATION_S_MAX", 0.3)
    await lab.fill(5_000)
    async with lab.ann.stream("GET", EXPORT) as answer:
        await lab.no_export_under_way()
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    assert "event=export_broken" in caplog.text


async def test_only_so_many_exports_are_under_way(lab: Lab) -> None:
    exports = lab.hub.services.exports
    assert exports.at_once_max == lab.hub.settings.database_connections_max // 4
    with contextlib.ExitStack() as stack:
        for _ in range(exports.at_once_max):
            stack.enter_context(exports.slot())
        refused = await lab.ann.get(EXPORT)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_exports")
        assert int(refused.headers["retry-after"]) > 0
        assert "content-disposition" not in refused.headers
    assert (await lab.ann.get(EXPORT)).status_code == 200


async def test_what_is_exported_is_the_callers_own(lab: Lab) -> None:
    await lab.add("Secret")
    eve = await lab.hub.member("eve")
    assert (await eve.get(EXPORT, params={"format": "json"})).json() == {"experiments": [], "total": 0}
