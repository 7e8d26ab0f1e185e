"""Where contents are kept: a folder, and a bucket of a store that speaks S3 (moto's server, a process of its own)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.runs.artifacts.contents import Contents, open_contents
from hub.settings import HubSettings
from labrelay.up import ports
from tests.fixtures.processes import soon
from tests.hub.conftest import running_hub
from tests.hub.runs.conftest import Lab, furnish, run_url


@dataclass
class Place:
    """Where contents are kept, looked at from outside.

    Attributes:
        settings: that name it.
    """

    settings: dict[str, Any]
    folder: Path | None = None
    bucket_url: str = ""

    def contents(self) -> list[str]:
        """The keys of all that is there; in a folder also of what is not complete."""
        if self.folder is not None:
            return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        listing = httpx.get(self.bucket_url, params={"list-type": "2"}, timeout=20).text
        return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]

    def put(self, key: str, content: bytes) -> None:
        """Put something there behind the hub's back."""
        if self.folder is not None:
            (self.folder / key).parent.mkdir(exist_ok=True)
            (self.folder / key).write_bytes(content)
        else:
            httpx.put(f"{self.bucket_url}/{key}", content=content, timeout=20).raise_for_status()

    def remove(self, key: str) -> None:
        """Remove something behind the hub's back."""
        if self.folder is not None:
            (self.folder / key).unlink()
        else:
            httpx.delete(f"{self.bucket_url}/{key}", timeout=20).raise_for_status()

    def open(self, **settings: Any) -> Contents:
        """The store."""
        contents = open_contents(HubSettings(**(self.settings | settings)))
        assert contents is not None
        return contents


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store that speaks S3."""
    port = ports.free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            soon(lambda: _answers(f"http://127.0.0.1:{port}"), "the store answers", 60.0)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    """A folder."""
    return Place({"artifacts_dir": tmp_path / "artifacts"}, folder=tmp_path / "artifacts")


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path) -> Place:
    """A new bucket."""
    name = f"lab-{tmp_path.name[-40:].replace('_', '-').strip('-').lower()}"
    httpx.put(f"{s3_url}/{name}", timeout=20).raise_for_status()
    for key in ("access", "secret"):
        (tmp_path / key).write_text(f"{key}-key\n")
    settings = {
        "artifacts_bucket": name,
        "artifacts_endpoint": s3_url,
        "artifacts_access_key_file": tmp_path / "access",
        "artifacts_secret_key_file": tmp_path / "secret",
    }
    return Place(settings, bucket_url=f"{s3_url}/{name}")


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    """Either."""
    chosen: Place = request.getfixturevalue(request.param)
    return chosen


@dataclass
class Shelf:
    """A laboratory whose hub keeps contents, with a run."""

    lab: Lab
    place: Place
    run_id: str

    @property
    def url(self) -> str:
        """Of the run's artifacts."""
        return run_url(self.run_id, "artifacts")

    async def new(self, **fields: Any) -> dict[str, Any]:
        """An artifact, by the editor."""
        answer = await self.lab.editor.post(self.url, json=fields)
        assert answer.status_code == 201, answer.text
        artifact: dict[str, Any] = answer.json()
        return artifact

    async def filled(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """An artifact with a content."""
        artifact = await self.new(**fields)
        answer = await self.lab.editor.put(artifact["uri"], content=content)
        assert answer.status_code == 200, answer.text
        kept: dict[str, Any] = answer.json()
        return kept

    async def shown(self, artifact: dict[str, Any]) -> dict[str, Any]:
        """What the viewer sees of it."""
        answer = await self.lab.viewer.get(f"{self.url}/{artifact['id']}")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen


async def new_shelf(lab: Lab, place: Place) -> Shelf:
    """With a run of its own."""
    return Shelf(lab, place, (await lab.new_run())["id"])


@pytest.fixture
async def shelf(hub_settings: dict[str, Any], place: Place) -> AsyncIterator[Shelf]:
    """On a folder, and on a bucket."""
    async with running_hub(HubSettings(**hub_settings, **place.settings)) as hub:
        yield await new_shelf(await furnish(hub), place)


@pytest.fixture
async def folder_shelf(hub_settings: dict[str, Any], folder: Place) -> AsyncIterator[Shelf]:
    """On a folder, for what does not depend on the store."""
    async with running_hub(HubSettings(**hub_settings, **folder.settings)) as hub:
        yield await new_shelf(await furnish(hub), folder)
