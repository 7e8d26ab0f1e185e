"""The running agent: everything put together, supervised, and taken apart in order.

::

    buses ─► intake ─► collector ─► spool ─► link ─► hub
    (a thread each)    (a thread)            (this event loop)

Samples are taken as soon as the spool is open, whether there is a link, or has ever been one, or not. On SIGTERM or
SIGINT acquisition stops, the collector commits what it has, the link gets `shutdown_s` to deliver, says goodbye, and
the spool is closed. A second signal ends the process at once; nothing that was committed is lost by that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent.acquisition.acquire import Acquisition
from agent.acquisition.backoff import Backoff
from agent.acquisition.collect import Collector
from agent.acquisition.convert import Converter
from agent.acquisition.intake import Intake
from agent.acquisition.latest import Latest
from agent.acquisition.profiles import ProfileStore
from agent.acquisition.roster import Roster
from agent.acquisition.worker import Outlet
from agent.hub_link import credentials
from agent.hub_link.link import HubLink
from agent.hub_link.live import LiveLane
from agent.hub_link.report import AgentReport
from agent.identity import load_agent_id
from agent.logging import event_log
from agent.settings import Settings
from agent.signals import StopSignals
from agent.spool.writer import SpoolWriter
from agent.status import INTERVAL_S, LocalStatus, StatusFiles
from agent.system_clock import opened_segment
from shared.clock import AnchoredClock
from shared.errors import ConfigurationError, CredentialsRefused, LabrelayError
from shared.messages import Config, State
from shared.service import ServiceManager

CONFIGURATION_FILE = "configuration.json"
LINK_BACKOFF_S = (1.0, 60.0)
JOIN_S = 10.0
"""The collector's last commit may take so long."""

_log = event_log("daemon")


class Agent:
    """One agent, assembled. Make it on the event loop's thread; the spool is open when it is there.

    Raises: ConfigurationError, SpoolUnavailable.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir
        self.agent_id = load_agent_id(self._data_dir)
        _check_credentials(self._data_dir, str(self.agent_id))
        self._clock = AnchoredClock()
        self._profiles = ProfileStore(self._data_dir / CONFIGURATION_FILE)
        self._profiles.load()
        self._roster = Roster([entry.device for entry in settings.devices])
        self._intake = Intake(settings.agent.queue_readings, self._clock)
        self._latest = Latest(self._roster.series)
        self._spool = SpoolWriter(
            self._data_dir,
            agent_id=self.agent_id,
            settings=settings.spool,
            clock=self._clock,
            profile_of=self._profiles.profile,
            version=product_version(),
            host=socket.gethostname(),
        )
        self._spool.note(opened_segment(self._clock.segment, self._spool.started_us))
        self._acquisition = Acquisition(settings.devices, Outlet(self._intake, self._roster, self._clock))
        self._live = LiveLane(self._roster.series, interval_s=settings.hub.live_interval_s)
        self._collector = Collector(
            self._intake,
            self._roster,
            Converter(self._profiles, self._roster.series),
            self._latest,
            self._spool,
            self._live,
            self._clock,
            stop_s=settings.agent.shutdown_s,
        )
        self._configs: asyncio.Queue[Config] = asyncio.Queue(1)
        self.link = self._new_link()
        self._files = StatusFiles(self._data_dir)

    def start(self) -> None:
        """Take samples from now on."""
        self._collector.thread.start()
        self._acquisition.start()

    async def stop(self) -> None:
        """Take no more samples, commit those that were taken, and let the link deliver for a while."""
        await asyncio.to_thread(self._acquisition.stop)
        self._collector.stop()
        await asyncio.to_thread(self._collector.thread.join, JOIN_S + self._settings.agent.shutdown_s)
        if self.link.status.phase == "online":
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.agent.shutdown_s):
                    await self.link.drained()

    async def close(self) -> None:
        """Release everything, whatever state it is in."""
        await asyncio.to_thread(self._acquisition.stop)
        self._collector.stop()
        if self._collector.thread.is_alive():
            await asyncio.to_thread(self._collector.thread.join, JOIN_S)
        await asyncio.to_thread(self._spool.close)
        self._files.write(self._status(self._last_state()))

    async def deliver(self) -> None:
        """Keep up the link to the hub. A bug in it is reported and must not end sampling. Until cancelled."""
        backoff = Backoff(*LINK_BACKOFF_S)
        while True:
            try:
                await self.link.run()
            except Exception as error:  # noqa: BLE001 - the supervisor's edge
                _log.error("link_crashed", exc_info=error)
            await asyncio.sleep(backoff.next_s())
            self.link = self._new_link()

    async def configure(self) -> None:
        """Put configurations in force as they come. Until cancelled."""
        while True:
            config = await self._configs.get()
            await asyncio.to_thread(self._profiles.apply, config)

    async def look_after(self) -> None:
        """Once a second: notice steps of the system's clock, and write the status.

        Until cancelled; returns when the collector has ended by itself, which only a bug can make it do.
        """
        while self._collector.thread.is_alive():
            step_us = self._clock.check_step()
            if step_us:
                _log.warning("system_clock_stepped", step_s=step_us / 1e6, segment=self._clock.segment)
                self._spool.note(opened_segment(self._clock.segment, self._clock.now_us(), step_us))
                self.link.stepped(step_us)
            await asyncio.to_thread(self._tell)
            await asyncio.sleep(INTERVAL_S)

    def _new_link(self) -> HubLink:
        return HubLink(
            data_dir=self._data_dir,
            settings=self._settings.hub,
            writer=self._spool,
            live=self._live,
            clock=self._clock,
            on_config=self._configured,
            report=self._report,
            version=product_version(),
            host=socket.gethostname(),
        )

    def _tell(self) -> None:
        self._files.write(self._status(self.link.state()))
        if self._files.watched():
            self._files.write_values(self._latest.values())

    def _configured(self, config: Config) -> None:
        """Leave a configuration for `configure`; one that nobody came to is outdated by it."""
        if self._configs.full():
            self._configs.get_nowait()
        self._configs.put_nowait(config)

    def _report(self) -> AgentReport:
        collected = self._collector.state
        return AgentReport(
            generation=self._profiles.current.generation,
            devices=self._acquisition.states(),
            adjusted_timestamps=collected.adjusted,
            error=collected.blocked,
        )

    def _last_state(self) -> State:
        return State("offline", self._spool.epoch.hex(), self._clock.now_us(), devices=self._acquisition.states())

    def _status(self, state: State) -> LocalStatus:
        collected = self._collector.state
        return LocalStatus(
            written_us=self._clock.now_us(),
            pid=os.getpid(),
            agent_id=str(self.agent_id),
            name=self._settings.name,
            config=self._settings.file,
            state=state,
            link=str(self.link.status) if state.status == "online" else "",
            waiting_readings=collected.waiting + self._intake.readings,
            lost_readings=collected.lost,
            blocked=collected.blocked,
            refused=dict(self._profiles.current.refused),
            unwanted_readings=collected.unwanted,
        )


async def run(settings: Settings, *, stop: asyncio.Event | None = None) -> None:
    """Run an agent until a signal comes or `stop` is set.

    Raises: ConfigurationError, SpoolUnavailable at the start; LabrelayError when the collector has crashed.
    """
    stop = asyncio.Event() if stop is None else stop
    manager = ServiceManager()
    crashed = False
    agent = Agent(settings)
    signals = StopSignals(asyncio.get_running_loop(), stop.set)
    if not settings.devices:
        _log.warning("no_devices_configured", config=settings.file or "no file found")
    _log.info("agent_starts", agent_id=agent.agent_id, name=settings.name, data_dir=settings.data_dir)
    try:
        agent.start()
        async with asyncio.TaskGroup() as group:
            link = group.create_task(agent.deliver(), name="link")
            configuration = group.create_task(agent.configure(), name="configuration")
            supervision = group.create_task(agent.look_after(), name="supervision")
            signalled = group.create_task(stop.wait(), name="signal")
            signs = group.create_task(manager.stay_alive(), name="signs of life")
            manager.ready()
            await asyncio.wait((supervision, signalled), return_when=asyncio.FIRST_COMPLETED)
            crashed = supervision.done()
            _log.info("agent_stops")
            manager.stopping()
            supervision.cancel()  # the collector may end now
            await agent.stop()
            for task in (link, configuration, signalled, signs):
                task.cancel()
    finally:
        await agent.close()
        signals.restore()
    _log.info("agent_stopped")
    if crashed:
        raise LabrelayError("the collector has crashed", hint="see the traceback above; please report it")


def _check_credentials(data_dir: Path, agent_id: str) -> None:
    """Raises: ConfigurationError if the data directory mixes two agents."""
    try:
        found = credentials.load(data_dir)
    except CredentialsRefused:  # the link will say what is wrong with them; sampling goes on
        return
    if found is None or str(found.agent_id) == agent_id:
        return
    raise ConfigurationError(
        f"the credentials in {data_dir} are those of another agent",
        hint="enrol again, or give each agent a data directory of its own",
    )


def product_version() -> str:
    """Of the installed distribution."""
    try:
        return version("labrelay")
    except PackageNotFoundError:
        return "unknown"
