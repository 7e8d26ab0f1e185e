"""The page in a real browser, against a real hub: signing in, live values, devices, trouble and its end."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from hub.app import create_app
from hub.broker.lanes import UpMessage
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.services import Services
from hub.settings import HubSettings
from hub.telemetry import stream
from hub.telemetry.live import LiveReading
from labrelay.up.ports import free_port
from shared import messages
from shared.messages import DeviceState, SpoolState, State
from shared.readings import Reason, Status, status_byte
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.readings import START, Bench, Reading
from tests.hub.conftest import ADMIN_PASSWORD, cheap_hashes, hub_settings

__all__ = ["cheap_hashes", "hub_settings"]

pytestmark = pytest.mark.browser

RECHECK_S = 0.5
"""How often streams ask for new sensors."""
DRAWN = re.compile(r"^M.+L")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Portal:
    """A hub that listens, and a browser to look at it with."""

    settings: HubSettings
    browser: Browser
    server: uvicorn.Server | None = None
    serving: asyncio.Task[None] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.settings.base_url

    @property
    def services(self) -> Services:
        assert self.server is not None
        services: Services = self.server.config.app.state.services  # type: ignore[union-attr]
        return services

    async def start(self) -> None:
        """Listen."""
        app = create_app(self.settings)
        config = uvicorn.Config(app, port=self.settings.port, log_config=None, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.serving = asyncio.create_task(self.server.serve(), name="portal test server")
        async with asyncio.timeout(30):
            while not self.server.started:
                await asyncio.sleep(0.02)
            await self.services.storage.ready()

    async def stop(self) -> None:
        """Stop listening."""
        assert self.server is not None
        assert self.serving is not None
        self.services.tail.stop()
        self.server.should_exit = True
        await self.serving

    async def page(self, **context: Any) -> Page:
        """A new browser window; what goes wrong in its scripts fails the test."""
        page = await (await self.browser.new_context(**context)).new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._note(message.text))
        await page.goto(self.url)
        return page

    async def signed_in(self, **context: Any) -> Page:
        """The same, with the administrator signed in."""
        page = await self.page(**context)
        await sign_in(page, ADMIN_PASSWORD)
        await expect(page.locator("#fact-stream")).to_have_text("live")
        return page

    async def lab(self) -> Bench:
        """A project of the administrator's."""
        async with acquire(self.services.pool) as connection:
            user_id = await connection.fetchval("select id from users")
            bench = Bench(self.services.storage, user_id=user_id)
            await connection.execute(
                "insert into projects (id, owner_id, name) values ($1, $2, 'Lab')", bench.project_id, user_id
            )
            await connection.execute("insert into project_members values ($1, $2, 'owner')", bench.project_id, user_id)
        return bench

    async def agent(self, bench: Bench, state: State) -> None:
        """An enrolled agent that has just said how it is."""
        agent_id = uuid7()
        async with acquire(self.services.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'bench-pc', '')",
                agent_id,
                bench.project_id,
            )
        await self.services.presence.receive(UpMessage(agent_id, "state", messages.encode(state), False))

    def say(self, sensor_id: UUID, raw: float, physical: float | None, status: int = 1) -> None:
        """A live value of now."""
        now_us = self.services.clock.now_us()
        self.services.live.offer([LiveReading(sensor_id, "value", now_us, raw, physical, status, "°C")])

    def _note(self, text: str) -> None:
        if "Content Security Policy" in text or "Uncaught" in text:
            self.problems.append(text)


async def sign_in(page: Page, password: str) -> None:
    await page.fill("#sign-in [name=username]", "admin")
    await page.fill("#sign-in [name=password]", password)
    await page.click("#sign-in button")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        skip_or_fail("Chromium is not installed", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def portal(hub_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Portal]:
    monkeypatch.setattr(stream, "RECHECK_S", RECHECK_S)
    async with chromium() as browser:
        made = Portal(HubSettings(**hub_settings, port=free_port()), browser)
        await made.start()
        yield made
        await made.stop()
    assert made.problems == []


async def test_a_wrong_password_is_said_and_the_right_one_shows_how_to_begin(portal: Portal) -> None:
    page = await portal.page()
    await sign_in(page, "Wrong-Horse-1")
    await expect(page.locator("#sign-in-problem")).to_be_visible()
    await sign_in(page, ADMIN_PASSWORD)
    await expect(page.locator("#agents")).to_contain_text(f"labrelay agent enrol --hub {portal.url} --code CODE")
    await expect(page.locator("#values-empty")).to_contain_text("No values yet")
    await page.reload()
    await expect(page.locator("#account-name")).to_have_text("admin")
    await page.click("#sign-out")
    await expect(page.locator("#sign-in")).to_be_visible()
    await page.reload()
    await expect(page.locator("#sign-in")).to_be_visible()


async def test_live_values_devices_backlog_and_lag_are_shown_as_they_come(portal: Portal) -> None:
    bench = await portal.lab()
    sensor = await bench.sensor("oven.temperature", "°C")
    series = await bench.series(sensor)
    await portal.agent(bench, _state())
    page = await portal.signed_in()
    for step in range(8):
        portal.say(sensor, 20 + math.sin(step), 200 + math.sin(step))
        await asyncio.sleep(0.3)
    row = page.locator("tr[data-signal='oven.temperature']")
    portal.say(sensor, 21.5, 215.25)
    await expect(row.locator(".physical")).to_have_text("215.25 °C")
    await expect(row.locator(".raw")).to_have_text("21.5")
    await expect(row.locator(".spark path")).to_have_attribute("d", DRAWN)
    now_s = portal.services.now().timestamp() - START.timestamp()
    await bench.store(series, [Reading(now_s + 0.001, raw=1.0)])
    await expect(page.locator("#fact-lag")).to_contain_text("s")
    portal.say(sensor, 3.0, None, status_byte(Status.CONVERSION_FAILED, Reason.OUT_OF_RANGE))
    await expect(row.locator(".status")).to_have_text("failed: out of range")
    card = page.locator("[data-agent='bench-pc']")
    await expect(card).to_contain_text("no answer within 1.0 s")
    await expect(page.locator("#fact-backlog")).to_have_text("1,234")
    await expect(page.locator("#fact-devices")).to_have_text("1 of 2 failing")


async def test_a_sensor_that_appears_later_joins_the_table_and_can_be_filtered(portal: Portal) -> None:
    bench = await portal.lab()
    page = await portal.signed_in()
    for name in ("pump.flow", "oven.temperature"):
        sensor = await bench.sensor(name)
        series = await bench.series(sensor)
        await asyncio.sleep(2 * RECHECK_S)
        await bench.store(series, [Reading(portal.services.now().timestamp() - START.timestamp(), raw=4.5)])
    await expect(page.locator("tr[data-signal='pump.flow'] .raw")).to_have_text("4.5")
    await page.fill("#filter", "nothing")
    await expect(page.locator("#values-empty")).to_have_text("No signal's name contains this.")
    await page.fill("#filter", "FLOW")
    await expect(page.locator("tr[data-signal]")).to_have_count(1)


async def test_a_hub_that_goes_away_is_said_and_its_return_needs_no_reload(portal: Portal) -> None:
    bench = await portal.lab()
    sensor = await bench.sensor("oven")
    page = await portal.signed_in()
    await portal.stop()
    await expect(page.locator("#notice")).to_contain_text("The hub does not answer")
    await expect(page.locator("#fact-stream")).to_contain_text("lost")
    await portal.start()
    await expect(page.locator("#fact-stream")).to_have_text("live")
    await expect(page.locator("#notice")).to_be_hidden()
    portal.say(sensor, 1.0, 7.5)
    await expect(page.locator("tr[data-signal='oven'] .physical")).to_have_text("7.5 °C")


async def test_the_page_fits_a_phone(portal: Portal) -> None:
    bench = await portal.lab()
    sensor = await bench.sensor("oven.with.a.rather.long.name.as.laboratories.have.them")
    await portal.agent(bench, _state())
    page = await portal.signed_in(viewport={"width": 360, "height": 740})
    portal.say(sensor, 1.0, 7.5)
    await expect(page.locator("tr[data-signal] .physical")).to_have_text("7.5 °C")
    await expect(page.locator("[data-agent]")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def _state() -> State:
    return State(
        status="online",
        instance="ab" * 16,
        version="0.1.0",
        host="bench-pc.lab",
        spool=SpoolState(pending_batches=3, pending_readings=1234),
        devices=[
            DeviceState("oven", "modbus-tcp", "ok", points=3, readings=120_000),
            DeviceState("balance", "line", "failing", points=1, failures=4, error="no answer within 1.0 s on ttyUSB0"),
        ],
    )
