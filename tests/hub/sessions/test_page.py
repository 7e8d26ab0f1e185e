"""docs/sessions.md: its commands work as they stand there."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.hub.export.test_download import listening
from tests.hub.sessions.conftest import Lab

PAGE = (Path(__file__).parents[3] / "docs" / "sessions.md").read_text()
_COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
TIMEOUT_S = 60.0


async def test_the_commands_of_the_page_do_what_it_says(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    run = await lab.run((oven,))
    await lab.post(oven, {datetime(2026, 3, 2, 9, 30, tzinfo=UTC): 1.0})
    blocks = _COMMANDS.findall(PAGE)
    assert len(blocks) == 5
    token = lab.owner.headers["Authorization"].removeprefix("Bearer ")
    async with listening(lab.hub) as url:
        script = "\n".join(blocks).replace("http://127.0.0.1:8000", url)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TOKEN": token, "RUN": run},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(TIMEOUT_S):
            _, complaints = await shell.communicate()
        assert shell.returncode == 0, complaints.decode()
        async with httpx.AsyncClient(base_url=url, headers=lab.owner.headers) as client:
            file = await client.get("/api/v1/telemetry/export", params={"run_id": run})
    assert len(list(csv.reader(io.StringIO(file.text)))) == 2
    sessions = (await lab.owner.get(f"/api/v1/runs/{run}/capture-sessions")).json()["capture_sessions"]
    assert [one["status"] for one in sessions] == ["archived", "succeeded"]
