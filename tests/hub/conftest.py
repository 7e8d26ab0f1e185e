"""A hub in the test's own process, on a new database, asked through ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from pydantic import SecretStr

from hub.access import passwords
from hub.app import create_app
from hub.services import Services
from hub.settings import HubSettings

ADMIN_PASSWORD = "Correct-Horse-1"


@dataclass
class Hub:
    """A running hub."""

    app: FastAPI
    settings: HubSettings

    @property
    def services(self) -> Services:
        """Its parts."""
        services: Services = self.app.state.services
        return services

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A client that is not signed in and keeps cookies."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("127.0.0.1", 4711))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)

    async def signed_in(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> httpx.AsyncClient:
        """A client with a bearer token and no cookies."""
        client = self.client()
        answer = await client.post("/auth/login", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    async def member(self, username: str, password: str = "Password1") -> httpx.AsyncClient:
        """A new user, signed in. Needs open registration."""
        body = {"username": username, "email": f"{username}@example.org", "password": password}
        answer = await self.client().post("/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        return self.client(Authorization=f"Bearer {answer.json()['access_token']}")


@asynccontextmanager
async def running_hub(settings: HubSettings, *, wait: bool = True) -> AsyncIterator[Hub]:
    """A hub with these settings, ready unless told not to wait."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        hub = Hub(app, settings)
        if wait:
            async with asyncio.timeout(30):
                await hub.services.storage.ready()
        yield hub


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords hashed in a millisecond."""
    monkeypatch.setattr(passwords, "PasswordHasher", partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def hub_settings(hub_database_url: str, tmp_path: Path, cheap_hashes: None) -> dict[str, Any]:
    """Settings of a hub whose broker is not there."""
    password_file = tmp_path / "admin-password"
    password_file.write_text(f"{ADMIN_PASSWORD}\n")
    return {
        "database_url": SecretStr(hub_database_url),
        "mqtt_port": 1,
        "retention_days": 0,
        "registration": "open",
        "admin_password_file": password_file,
        "secret_key_file": tmp_path / "secret-key",
    }


@pytest.fixture
async def hub(hub_settings: dict[str, Any]) -> AsyncIterator[Hub]:
    """A ready hub with open registration and an administrator."""
    async with running_hub(HubSettings(**hub_settings)) as running:
        yield running
