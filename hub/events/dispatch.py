"""The dispatcher of webhooks: claims what is due, sends it, writes down what came of it.

Each delivery is made at least once and never altered: its bytes were written in the transaction of the event, and it is
done only when a 2xx answer has been written down. A hub that is stopped gives back what it has under way; what one that
is killed had under way is made again after `webhook_stuck_after_s`.

One target gets one delivery at a time, so a slow one holds up itself alone. Deliveries to a target begin in the order
of their events; one that fails is tried again at its own time, and later ones pass it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta

from hub.database.pool import transaction
from hub.database.storage import Storage
from hub.events import outbox
from hub.events.bell import EventBell
from hub.events.outbox import Claim
from hub.events.send import Sender
from hub.metrics import Metrics
from hub.settings import HubSettings
from hub.wake import set_within
from shared.clock import Clock
from shared.errors import StorageUnavailable

POLL_S_MIN = 0.5
POLL_S_MAX = 10.0
CLAIM_GRACE_S = 10.0
"""How much longer than an attempt a claim counts as alive: to write down what came of it."""
GIVE_BACK_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)


class Dispatcher:
    """Makes deliveries; any number of hubs may."""

    def __init__(
        self, settings: HubSettings, storage: Storage, sender: Sender, bell: EventBell, clock: Clock, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._sender = sender
        self._bell = bell
        self._clock = clock
        self._wake = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._attempts = metrics.counter("labrelay_webhook_attempts_total", "Attempts at webhooks, by what came of it.")
        metrics.gauge("labrelay_webhooks_under_way", "Webhooks being sent", lambda: float(len(self._under_way)))

    async def run(self) -> None:
        """Until cancelled; what is then under way is given back."""
        try:
            with self._bell.waking(self._wake):
                async with asyncio.TaskGroup() as group:
                    while True:
                        await self._storage.ready()
                        self._wake.clear()
                        pause_s = await self._round(group)
                        await set_within(self._wake, pause_s)
        finally:
            await self._sender.close()

    async def _round(self, group: asyncio.TaskGroup) -> float:
        """Begin what is due. Returns: seconds until there may be more."""
        room = self._settings.webhooks_concurrent - len(self._under_way)
        if room <= 0:
            return POLL_S_MAX
        now = self._now()
        try:
            async with transaction(self._storage.pool) as connection:
                alive = timedelta(seconds=self._settings.webhook_timeout_s + CLAIM_GRACE_S)
                claims = await outbox.claim(connection, room, now, now - alive)
                due = await outbox.next_due(connection)
        except StorageUnavailable as error:
            log.info("event=webhooks_wait reason=%r", error.message)
            return POLL_S_MIN
        for claim in claims:
            task = group.create_task(self._deliver(claim), name=f"webhook {claim.message.delivery_id}")
            self._under_way[task] = claim
            task.add_done_callback(self._ended)
        if due is None:
            return POLL_S_MAX
        return min(max((due - now).total_seconds(), POLL_S_MIN), POLL_S_MAX)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        self._wake.set()

    async def _deliver(self, claim: Claim) -> None:
        try:
            reason = await self._sender.attempt(claim.message)
            await self._write_down(claim, reason)
        except asyncio.CancelledError:
            await self._give_back(claim)
            raise

    async def _write_down(self, claim: Claim, reason: str) -> None:
        """Keep at it while the database is away: a delivery that was made should not be made again."""
        deadline_s = self._clock.monotonic_s() + self._settings.webhook_stuck_after_s
        while True:
            try:
                async with transaction(self._storage.pool) as connection:
                    if reason:
                        await outbox.fail(connection, claim, reason, self._next_attempt(claim), self._now())
                    else:
                        await outbox.succeed(connection, claim, self._now())
                break
            except StorageUnavailable:
                if self._clock.monotonic_s() > deadline_s:
                    return
                await asyncio.sleep(1.0)
        self._note(claim, reason)

    def _note(self, claim: Claim, reason: str) -> None:
        given_up = bool(reason) and claim.attempts >= self._settings.webhook_attempts_max
        self._attempts.add(outcome="dead_lettered" if given_up else "failed" if reason else "succeeded")
        if given_up:
            log.warning("event=webhook_given_up delivery_id=%s reason=%r", claim.message.delivery_id, reason)

    def _next_attempt(self, claim: Claim) -> datetime | None:
        if claim.attempts >= self._settings.webhook_attempts_max:
            return None
        pause_s = pause_after(claim.attempts, self._settings.webhook_retry_s, self._settings.webhook_retry_s_max)
        return self._now() + timedelta(seconds=pause_s * random.uniform(0.5, 1.0))

    async def _give_back(self, claim: Claim) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT_S), transaction(self._storage.pool) as connection:
                await outbox.give_back(connection, [claim])
        except (StorageUnavailable, TimeoutError):
            log.info("event=webhook_left delivery_id=%s", claim.message.delivery_id)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)


def pause_after(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds until the next attempt after so many failed ones, before jitter."""
    return min(first_s * 2.0 ** min(attempts - 1, 60), longest_s)
