"""The hub's public API, as far as the first start needs it: sign in, a project, an enrolment code, profiles."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from shared.errors import CredentialsRefused, LabrelayError, LinkUnavailable

TIMEOUT_S = 20.0


class HubApi:
    """A signed-in client. An async context manager.

    Args:
        base_url: the hub.
        authority: PEM file of the authority that signed the hub's certificate; None for plain HTTP.
    """

    def __init__(self, base_url: str, authority: Path | None = None) -> None:
        trust = ssl.create_default_context(cafile=str(authority)) if authority else True
        self._client = httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S, verify=trust, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def sign_in(self, username: str, password: str) -> None:
        """Raises: CredentialsRefused, LinkUnavailable."""
        answer = await self._call("POST", "/auth/login", {"username": username, "password": password})
        self._client.headers["Authorization"] = f"Bearer {answer['access_token']}"

    async def sign_in_link(self) -> str:
        """An address that signs its first visitor in."""
        return str((await self._call("POST", "/auth/sign-in-links", {}))["url"])

    async def project(self, name: str, description: str) -> str:
        """Id of the project of that name, made if there is none."""
        for project in (await self._call("GET", "/projects"))["projects"]:
            if project["name"] == name:
                return str(project["id"])
        made = await self._call("POST", "/projects", {"name": name, "description": description})
        return str(made["id"])

    async def enrolment_code(self, project_id: str, name: str) -> str:
        """A code with which one agent can enrol."""
        body = {"project_id": project_id, "name": name}
        return str((await self._call("POST", "/api/v1/agents/enrolment-codes", body))["code"])

    async def sensors(self, project_id: str) -> dict[str, str]:
        """Ids of the project's sensors by name."""
        found: dict[str, str] = {}
        while True:
            query = {"project_id": project_id, "limit": 100, "offset": len(found)}
            page = await self._call("GET", "/api/v1/sensors", query=query)
            found |= {sensor["name"]: sensor["id"] for sensor in page["sensors"]}
            if not page["sensors"] or len(found) >= page["total"]:
                return found

    async def publish_profile(self, sensor_id: str, version: str, kind: str, payload: dict[str, Any]) -> None:
        """Make the profile the sensor's active one, unless it has one or had this one."""
        path = f"/api/v1/sensors/{sensor_id}/conversion-profiles"
        held = (await self._call("GET", path))["conversion_profiles"]
        if any(profile["status"] in ("active", "scheduled") for profile in held):
            return
        same = next((profile for profile in held if profile["version"] == version), None)
        if same is None:
            same = await self._call("POST", path, {"version": version, "kind": kind, "payload": payload})
        if same["status"] == "draft":
            await self._call("POST", f"{path}/{same['id']}/publish", {})

    async def set_display_unit(self, sensor_id: str, unit: str) -> None:
        """Say in which unit the sensor's physical values are."""
        await self._call("PATCH", f"/api/v1/sensors/{sensor_id}", {"display_unit": unit})

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> Any:
        try:
            answer = await self._client.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise LinkUnavailable(f"the hub does not answer {method} {path}: {error!r}") from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise CredentialsRefused(f"the hub refuses {method} {path}: {_detail(answer)}")
        if answer.is_server_error:
            raise LinkUnavailable(f"the hub failed at {method} {path}: {answer.status_code} {_detail(answer)}")
        if answer.is_error:
            raise LabrelayError(f"the hub refuses {method} {path}: {answer.status_code} {_detail(answer)}")
        return answer.json() if answer.content else None


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", ""))
    except (ValueError, AttributeError):
        return answer.text[:200]
