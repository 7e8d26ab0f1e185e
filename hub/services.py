"""What the parts of a running hub share, built once by `hub.parts` and handed to each request.

A route takes them as a parameter, `services: CurrentServices`, and its connections from `transaction(services.pool)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from hub.database.pool import Pool
from hub.database.storage import Storage
from hub.database.tiers import Tier
from hub.metrics import Metrics
from hub.settings import HubSettings
from shared.clock import Clock

if TYPE_CHECKING:
    from hub.access.passwords import Passwords
    from hub.access.throttle import Throttle
    from hub.access.tokens import TokenSigner
    from hub.accounts.broker_rights import MemberRights
    from hub.agents.configure import Configurator
    from hub.agents.presence import PresenceBook
    from hub.agents.revocation import Revocations
    from hub.broker.link import BrokerLink
    from hub.broker.provision import Provisioner
    from hub.broker.turns import Turns
    from hub.certificates.issue import Issuer
    from hub.events.bell import EventBell
    from hub.events.feed import EventFeed
    from hub.events.target import Guard
    from hub.export.download import Exports
    from hub.ingest.inlets import Inlets
    from hub.ingest.rates import Rates
    from hub.ingest.write import IngestWriter
    from hub.runs.artifacts.contents import Contents
    from hub.telemetry.live import LiveHub
    from hub.telemetry.tail import Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of this hub.

    `storage` is there even while the database is not; `tier` and `incarnation` are known once it has answered.
    `contents` keeps those of artifacts, where the settings say so.
    """

    settings: HubSettings
    clock: Clock
    metrics: Metrics
    storage: Storage
    signer: TokenSigner
    passwords: Passwords
    throttle: Throttle
    broker: BrokerLink
    ingest: IngestWriter
    inlets: Inlets
    rates: Rates
    live: LiveHub
    tail: Tail
    presence: PresenceBook
    configurator: Configurator
    provisioner: Provisioner
    broker_turns: Turns
    revocations: Revocations
    member_rights: MemberRights
    bell: EventBell
    feed: EventFeed
    webhook_guard: Guard
    exports: Exports
    contents: Contents | None
    certificates: Issuer

    def now(self) -> datetime:
        """The moment, as the database's timestamps have it."""
        return datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC)

    @property
    def pool(self) -> Pool:
        """Connections; use `hub.database.pool.transaction` and `acquire`, which translate errors and keep timeouts."""
        return self.storage.pool

    @property
    def tier(self) -> Tier:
        """The storage tier in use. Raises: StorageUnavailable."""
        return self.storage.tier

    @property
    def incarnation(self) -> UUID:
        """The database's incarnation, drawn anew by a restore or promotion. Raises: StorageUnavailable."""
        return self.storage.incarnation


def all_services(connection: HTTPConnection) -> Services:
    """The services, whatever state the database is in; for health and metrics."""
    services: Services = connection.app.state.services
    return services


def ready_services(connection: HTTPConnection) -> Services:
    """The services with a database that is there and migrated. Raises: StorageUnavailable (503)."""
    services = all_services(connection)
    services.storage.check_ready()
    return services


CurrentServices = Annotated[Services, Depends(ready_services)]
AnyServices = Annotated[Services, Depends(all_services)]
