"""The hub's parts: built from the settings, run together, stopped together.

Each background part has `run`, which goes on until it is cancelled. A part that fails takes the hub down with it, so
that whoever supervises the process sees it and starts a whole one: `on_failure` in the application's state is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import State

from hub.access.passwords import Passwords
from hub.access.throttle import Throttle
from hub.access.tokens import TokenSigner, load_or_make_key
from hub.accounts.broker_rights import MemberRights
from hub.accounts.first_admin import ensure_admin
from hub.agents.configure import Configurator
from hub.agents.hub_time import TimeLane
from hub.agents.presence import PresenceBook
from hub.agents.revocation import Revocations
from hub.agents.transitions import Transitions
from hub.broker.lanes import UpMessage
from hub.broker.link import BrokerLink
from hub.broker.provisioners import new_provisioner
from hub.broker.turns import Turns
from hub.certificates.issue import Issuer
from hub.certificates.signing import key_of
from hub.database.pool import Connection
from hub.database.storage import Storage
from hub.events import purge
from hub.events.bell import EventBell
from hub.events.dispatch import Dispatcher
from hub.events.feed import EventFeed
from hub.events.publish import EventPublisher
from hub.events.send import Sender
from hub.events.target import Guard
from hub.export.download import Exports
from hub.ingest.claims import ClaimCheck
from hub.ingest.fold import LedgerFolding
from hub.ingest.inlets import Inlets
from hub.ingest.live import LiveLane
from hub.ingest.rates import Rates
from hub.ingest.subscriber import Subscriber
from hub.ingest.write import IngestWriter
from hub.metrics import Metrics
from hub.recalculation.work import Recalculation
from hub.runs.artifacts.contents import open_contents
from hub.runs.artifacts.orphans import Orphans
from hub.runs.auto_complete import complete_overdue
from hub.sensors.connections import ConnectionWatch
from hub.sensors.limit_watch import EVERY_S as LIMITS_EVERY_S
from hub.sensors.limit_watch import LimitWatch
from hub.sensors.schedule import activate_due
from hub.services import Services
from hub.sessions.late import LateData
from hub.sessions.upkeep import ForgottenSessions, needs_readings
from hub.settings import HubSettings
from hub.telemetry.aggregate import fold_settled
from hub.telemetry.live import LiveHub
from hub.telemetry.summaries import Summaries
from hub.telemetry.tail import Tail
from hub.timetable import Job, Timetable
from hub.upkeep import Upkeep
from shared.clock import AnchoredClock
from shared.errors import LabrelayError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """Something that runs in the background as long as the hub does."""

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What requests use, and what runs behind them."""

    services: Services
    background: tuple[Part, ...]


def build(settings: HubSettings, metrics: Metrics) -> Parts:
    """All parts, connected to one another and to nothing outside yet. Raises: ConfigurationError."""
    services = _services(settings, metrics)
    storage, broker, clock = services.storage, services.broker, services.clock
    live_lane = LiveLane(settings, storage.pool, services.live, broker, clock)
    services.configurator.on_change(live_lane.forget)
    broker.handle("data", Subscriber(services.ingest, storage, metrics).receive)
    claims = ClaimCheck(storage, clock, services.ingest.acknowledger.tell_incarnation)

    async def receive_state(message: UpMessage) -> None:
        await services.presence.receive(message)
        await claims.receive(message)

    broker.handle("state", receive_state)
    broker.handle("live", live_lane.receive)
    broker.handle("time", TimeLane(broker, clock).receive)
    broker.measure(metrics)
    sender = Sender(services.webhook_guard, clock, timeout_s=settings.webhook_timeout_s)
    background = (
        Part("database", storage.run),
        Part("events", services.bell.run),
        Part("event feed", services.feed.run),
        Part("event publisher", EventPublisher(storage, broker, services.bell, clock, metrics).run),
        Part("webhooks", Dispatcher(settings, storage, sender, services.bell, clock, metrics).run),
        Part("broker", broker.run),
        Part("ingest", services.ingest.run),
        Part("claims", claims.run),
        Part("live lane", live_lane.run),
        Part("live values", services.live.run),
        Part("tail", services.tail.run),
        Part("presence", lambda: services.presence.run(storage.pool)),
        Part("configuration", services.configurator.run),
        Part("timetable", Timetable(storage, _jobs(settings, services)).run),
    )
    return Parts(services, background)


def _jobs(settings: HubSettings, services: Services) -> list[Job]:
    """What is done from time to time."""
    storage, clock = services.storage, services.clock
    holds = [needs_readings] if settings.retention_keep_sessions else []
    upkeep = Upkeep(storage, clock, retention_days=settings.retention_days, holds=holds, events=settings)
    forgotten = ForgottenSessions(storage, clock, settings.session_forgotten_after_h)
    summaries, ledger = Summaries(storage), LedgerFolding(storage, clock)
    transitions = Transitions(storage, services.presence, services.broker, clock)

    async def free_stuck() -> None:
        await purge.free_stuck(storage.pool, settings, services.now())

    return [
        Job("id summaries", 1.0, summaries.once),
        Job("profile activation", 1.0, partial(activate_due, storage, clock)),
        Job("recalculation", 1.0, Recalculation(storage, clock).once),
        Job("agents that come and go", 1.0, transitions.once),
        Job("revoked agents", 2.0, services.revocations.once),
        Job("broker rights of members", 2.0, services.member_rights.once),
        Job("sensors that come and go", 5.0, ConnectionWatch(storage, clock).once),
        Job("limits", LIMITS_EVERY_S, LimitWatch(storage, clock).once),
        Job("stuck webhooks", min(30.0, settings.webhook_stuck_after_s / 2), free_stuck),
        Job("auto-completion of runs", 15.0, partial(complete_overdue, storage, clock)),
        Job("forgotten sessions", 60.0, forgotten.once),
        Job("late data of sessions", 5.0, LateData(storage, clock).once),
        Job("aggregates", 5.0, partial(fold_settled, storage, clock)),
        Job("certificates", 2.0, services.certificates.once),
        Job("ledger folding", 600.0, ledger.work),
        Job("upkeep", 600.0, upkeep.once),
        Job("orphaned artifacts", 3600.0, Orphans(services.contents, storage, clock).remove),
    ]


def _services(settings: HubSettings, metrics: Metrics) -> Services:
    clock = AnchoredClock()
    passwords = Passwords(
        concurrent=settings.password_hashes_concurrent, waiting_max=settings.password_hashes_waiting_max
    )

    async def first_steps(connection: Connection) -> None:
        await ensure_admin(connection, settings, passwords)

    storage = Storage(settings, first_steps)
    broker = BrokerLink(settings)
    tail = Tail(storage.pool)
    bell = EventBell(storage)
    presence, provisioner = PresenceBook(settings, clock), new_provisioner(settings, broker)
    grace_h = settings.agent_retirement_grace_h
    configurator = Configurator(storage.pool, broker, clock)
    key = key_of(settings.certificate_key_file, settings.secret_key_file)
    return Services(
        settings=settings,
        clock=clock,
        metrics=metrics,
        storage=storage,
        signer=TokenSigner(load_or_make_key(settings.secret_key_file) if settings.secret_key_file else None),
        passwords=passwords,
        throttle=Throttle(
            clock=clock,
            window_s=settings.login_window_s,
            pair_max=settings.login_attempts_max,
            address_max=settings.login_attempts_address_max,
        ),
        broker=broker,
        ingest=IngestWriter(settings, storage, broker, tail, clock=clock, metrics=metrics),
        inlets=Inlets(connections_max=settings.websockets_max, takeover_timeout_s=2 * settings.ingest_post_timeout_s),
        rates=Rates(clock, per_s_max=settings.sensor_readings_per_s_max),
        live=LiveHub(clock=clock),
        tail=tail,
        presence=presence,
        configurator=configurator,
        provisioner=provisioner,
        broker_turns=Turns(max(1, settings.database_connections_max // 4), wait_s=settings.broker_timeout_s),
        revocations=Revocations(storage, presence, provisioner, broker, clock, grace_h=grace_h),
        member_rights=MemberRights(storage, provisioner, broker, clock),
        bell=bell,
        feed=EventFeed(storage, bell),
        webhook_guard=Guard(settings.webhook_allowed_networks),
        contents=open_contents(settings),
        certificates=Issuer(storage, clock, configurator, key, hub=settings.base_url),
        exports=Exports(max(1, settings.database_connections_max // 4)),
    )


@asynccontextmanager
async def running(parts: Parts, state: State) -> AsyncIterator[None]:
    """Run the background parts while the block lasts, then stop them and close the database."""

    async def guarded(part: Part) -> None:
        try:
            await part.run()
        except LabrelayError as error:
            log.error("event=part_failed part=%r error=%r", part.name, str(error))
        except Exception:
            log.exception("event=part_failed part=%r", part.name)
        else:
            log.error("event=part_ended part=%r", part.name)
        on_failure: Callable[[], None] | None = getattr(state, "on_failure", None)
        if on_failure is not None:
            on_failure()

    await parts.services.storage.open()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(guarded(part), name=part.name) for part in parts.background]
            try:
                yield
            finally:
                parts.services.tail.stop()
                parts.services.feed.stop()
                for task in reversed(tasks):
                    task.cancel()
    finally:
        await parts.services.storage.close()
