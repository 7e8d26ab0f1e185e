"""Issuing certificates: made when asked for, and by the hub itself as soon as a session's is final.

What is asked for is always of this moment. Only final ones are kept, each with the next number, and a new one only when
what it says of the session and its sensors has changed: late readings that count, a backfill, retention.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.agents.configure import Configurator
from hub.certificates import store
from hub.certificates.build import build, not_started
from hub.certificates.rules import State
from hub.certificates.signing import CertificateKey
from hub.certificates.store import Row
from hub.certificates.subject import TIMEOUT_S, subject_of
from hub.certificates.views import Certificate
from hub.certificates.waits import waits_of
from hub.database.pool import transaction
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, SubjectType
from shared.canonical import canonical_json
from shared.clock import Clock

SESSIONS_PER_PASS = 50
LOOKED_AT_DAYS = 90
"""Sessions that ended earlier get their certificate when somebody asks."""
BACKOFF_MAX_S = 300.0
_BACKOFF_FIRST_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it is signed, and whom it concerns."""

    document: str
    state: State
    agent_ids: tuple[UUID, ...] = ()


class Issuer:
    """Makes, signs and keeps certificates.

    Args:
        configurator: told whose agents need not say any more that they have taken everything.
        hub: its address, as certificates name it.
    """

    def __init__(
        self, storage: Storage, clock: Clock, configurator: Configurator, key: CertificateKey, *, hub: str
    ) -> None:
        self.key = key
        self._storage = storage
        self._clock = clock
        self._configurator = configurator
        self._hub = hub
        self._not_before: dict[UUID, tuple[float, float]] = {}

    async def issue(self, session_id: UUID, run_id: UUID | None = None) -> Issued | None:
        """The certificate of this moment, None for a session that is not there. Raises: StorageUnavailable."""
        now = self._now()
        async with transaction(self._storage.pool, isolation="repeatable_read") as connection:
            await connection.execute(f"set local statement_timeout = {round(TIMEOUT_S * 1000)}")
            row = await store.session(connection, session_id, run_id)
            if row is None:
                return None
            subject = await subject_of(connection, row, now)
            if subject is None:
                return self._signed(not_started(row, hub=self._hub, now=now))
            standing = await store.latest(connection, session_id)
            version = standing["version"] + 1 if standing is not None else 1
            certificate = await build(connection, subject, hub=self._hub, version=version, now=now)
        issued = self._signed(certificate, tuple(agent.row["id"] for agent in subject.agents))
        return issued if certificate.state is not State.FINAL else await self._keep(row, certificate, issued, now)

    async def once(self) -> None:
        """Issue the certificates that have become final since the last pass. Raises: StorageUnavailable."""
        since = self._now() - timedelta(days=LOOKED_AT_DAYS)
        async with transaction(self._storage.pool) as connection:
            due = await store.due(connection, since, SESSIONS_PER_PASS + len(self._not_before))
        now_s = self._clock.monotonic_s()
        self._not_before = {row["id"]: self._not_before[row["id"]] for row in due if row["id"] in self._not_before}
        ready = [row["id"] for row in due if self._not_before.get(row["id"], (0.0, 0.0))[0] <= now_s]
        for session_id in ready[:SESSIONS_PER_PASS]:
            await self._look_at(session_id, now_s)

    async def _look_at(self, session_id: UUID, now_s: float) -> None:
        """Issue a session's certificate, unless it still waits: then look again after a while, ever longer."""
        if await self._waits(session_id):
            _, waited_s = self._not_before.get(session_id, (0.0, _BACKOFF_FIRST_S / 2))
            wait_s = min(2 * waited_s, BACKOFF_MAX_S)
            self._not_before[session_id] = (now_s + wait_s, wait_s)
            return
        issued = await self.issue(session_id)
        if issued is not None and issued.state is State.FINAL:
            self._not_before.pop(session_id, None)
            self._configurator.touch(issued.agent_ids)

    async def _waits(self, session_id: UUID) -> bool:
        async with transaction(self._storage.pool, isolation="repeatable_read", readonly=True) as connection:
            row = await store.session(connection, session_id)
            subject = None if row is None else await subject_of(connection, row, self._now())
            return subject is None or bool(await waits_of(connection, subject))

    async def _keep(self, row: Row, certificate: Certificate, issued: Issued, now: datetime) -> Issued:
        """Keep a final certificate, unless it says what the last one said. Returns: the one that stands."""
        session_id, digest = row["id"], digest_of(certificate)
        async with begin_change(self._storage.pool, HUB, now) as change:
            if not await store.lock(change.connection, session_id):
                return issued
            standing = await store.latest(change.connection, session_id)
            if standing is not None and standing["digest"] == digest:
                if standing["session_version"] != row["version"]:
                    await store.still_holds(change.connection, session_id, standing["version"], row["version"])
                return Issued(standing["document"], State.FINAL, issued.agent_ids)
            if standing is not None and standing["version"] >= certificate.version:
                return Issued(standing["document"], State.FINAL, issued.agent_ids)  # another hub was quicker
            kept = (certificate.version, str(certificate.state), now, row["version"], digest, issued.document)
            await store.add(change.connection, session_id, *kept)
            told = {
                "capture_session_id": str(session_id),
                "run_id": str(row["run_id"]),
                "version": certificate.version,
                "totals": certificate.totals.model_dump(mode="json"),
            }
            change.record(
                NewEvent("capture_session.certified", SubjectType.SESSION, session_id, row["project_id"], told)
            )
        log.info("event=certificate_issued session=%s version=%d", session_id, certificate.version)
        return issued

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)

    def _signed(self, certificate: Certificate, agent_ids: tuple[UUID, ...] = ()) -> Issued:
        document = self.key.document(certificate.model_dump(mode="json"))
        return Issued(canonical_json(document).decode(), certificate.state, agent_ids)


def digest_of(certificate: Certificate) -> bytes:
    """Of what it says about the session and its sensors. How agents stand goes on changing after that is settled."""
    said = certificate.model_dump(mode="json", include={"session", "sensors", "retention"})
    return hashlib.sha256(canonical_json(said)).digest()
