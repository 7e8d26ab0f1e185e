"""What ingest knows of agents, epochs, dictionaries and profiles, kept in memory between transactions.

Invariants
    * Everything here is read inside an ingest transaction, after it has taken the shared catalogue lock, and used only
      inside transactions that found the same generation under the same lock (`enter_ingest` in the schema). So what is
      used is what is committed: nobody can publish or delete in between.
    * No absence is remembered: what was not there is looked up again.
    * Ids of epochs and the content of published profiles never change; these survive a new generation, not a new
      incarnation of the database.
    * A new generation does not say what has changed, and mostly it is something else: a draft, another agent's sensor.
      So dictionaries of epochs are doubted then, not forgotten; the first group that needs one has the database
      compare, by a digest taken under the lock, what it rests on (`hub.ingest.lookup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from hub.database.pool import Connection
from hub.ingest import catalogue_sql as sql
from hub.ingest.dictionary import Dictionary
from hub.ingest.lookup import Lookup, PostKey, Reach
from hub.ingest.profiles import Profiles
from shared.readings import Int64

EPOCHS_MAX = 50_000
SLOTS_MAX = 2_000_000
"""More than this is forgotten at once and looked up again."""

EpochKey: TypeAlias = tuple[UUID, bytes]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent.

    Attributes:
        is_welcome: whether its batches are taken: it is enrolled, or retired and may still deliver.
        is_answered: whether it is told of those that are not: one that is compromised hears nothing.
    """

    project_id: UUID
    is_welcome: bool
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What one group needs, to be used in its transaction only; stays whole when others forget.

    Attributes:
        dropped_us: int64 (n, 2), ranges (to exclusive) whose raw readings were dropped.
    """

    dictionaries: Mapping[int, Dictionary]
    posts: Mapping[PostKey, Dictionary]
    profiles: Profiles
    dropped_us: Int64


@dataclass(frozen=True, slots=True)
class _Held:
    """An epoch's dictionary, and the digest of what it rests on."""

    dictionary: Dictionary
    digest: bytes


class Catalogue:
    """The memory; for one event loop."""

    def __init__(self, reach: Reach = Reach()) -> None:  # noqa: B008 - it is frozen
        self._reach = reach
        self._met: tuple[UUID, int] | None = None
        self._generation = -1
        self._profiles = Profiles()
        self.epochs: dict[EpochKey, int] = {}
        self._agents: dict[UUID, Agent] = {}
        self._held: dict[int, _Held] = {}
        self._sure: set[int] = set()
        """Epochs whose dictionaries are held and need not be compared."""
        self._posts: dict[PostKey, Dictionary] = {}
        self._dropped_us: Int64 | None = None
        self._slots = 0

    @property
    def generation(self) -> int:
        """Of the catalogue, as last seen; -1 before."""
        return self._generation

    def meet(self, incarnation: UUID, connects: int = 0) -> None:
        """The database is this one, sought so often; forget everything if it was, or may have been, another."""
        if (incarnation, connects) != self._met:
            self._met = (incarnation, connects)
            self.epochs.clear()
            self._profiles = Profiles()
            self._held.clear()
            self.doubt()

    def doubt(self) -> None:
        """Trust nothing that may have changed, or that a rolled back transaction had written, until it is compared."""
        self._generation = -1
        self._agents.clear()
        self._sure.clear()
        self._posts.clear()
        self._dropped_us = None
        if self._slots > SLOTS_MAX:
            self._held.clear()
        self._slots = sum(len(held.dictionary.slots) for held in self._held.values())
        if len(self.epochs) > EPOCHS_MAX:
            self.epochs.clear()

    async def enter(self, connection: Connection, epoch_ids: Sequence[int]) -> None:
        """Begin an ingest transaction: lock, and doubt what may have been changed since the last one.

        Args:
            epoch_ids: that the transaction writes for, rising.
        """
        generation: int = await connection.fetchval(sql.ENTER, epoch_ids)
        if generation != self._generation or self._slots > SLOTS_MAX:
            self.doubt()
            self._generation = generation

    async def load_agents(self, connection: Connection, agent_ids: Iterable[UUID]) -> Mapping[UUID, Agent]:
        """Those of the agents that there are."""
        wanted = set(agent_ids)
        known = {agent_id: self._agents[agent_id] for agent_id in wanted & self._agents.keys()}
        if wanted - known.keys():
            for row in await connection.fetch(sql.AGENTS, list(wanted - known.keys())):
                known[row["id"]] = Agent(row["project_id"], row["is_welcome"], row["status"] != "compromised")
        self._agents.update(known)
        return known

    def has_post(self, key: PostKey) -> bool:
        """Whether the signals of a sensor that posts for itself are known."""
        return key in self._posts

    def outdate(self, epoch_id: int) -> None:
        """The epoch's dictionary grows in this transaction: look it up again."""
        self._sure.discard(epoch_id)
        held = self._held.pop(epoch_id, None)
        if held is not None:
            self._slots -= len(held.dictionary.slots)

    async def load(self, connection: Connection, epoch_ids: Iterable[int], posts: Iterable[PostKey]) -> Known:
        """The dictionaries of epochs and posts, and what belongs to them."""
        profiles, wanted_posts = self._profiles, set(posts)
        lookup = Lookup(connection, profiles, self._reach)
        own = {key: self._posts[key] for key in wanted_posts & self._posts.keys()}
        dropped_us = await lookup.dropped_us() if self._dropped_us is None else self._dropped_us
        epochs = await self._load_epochs(lookup, set(epoch_ids))
        if absent := list(wanted_posts - own.keys()):
            own |= await lookup.posts(absent)
        if profiles is self._profiles:  # else the database is sought anew, and places in the table mean something else
            self._keep(epochs, own, dropped_us)
        return Known({epoch_id: held.dictionary for epoch_id, held in epochs.items()}, own, profiles, dropped_us)

    async def _load_epochs(self, lookup: Lookup, wanted: set[int]) -> dict[int, _Held]:
        held = {epoch_id: self._held[epoch_id] for epoch_id in wanted & self._held.keys()}
        found = {epoch_id: held[epoch_id] for epoch_id in wanted & self._sure}
        doubted = wanted - found.keys()
        if not doubted:
            return found
        digests = await lookup.digests(doubted)
        changed = [
            epoch_id for epoch_id in doubted if epoch_id not in held or held[epoch_id].digest != digests[epoch_id]
        ]
        found |= {epoch_id: held[epoch_id] for epoch_id in doubted.difference(changed)}
        if changed:
            made = await lookup.epochs(changed)
            found |= {epoch_id: _Held(dictionary, digests[epoch_id]) for epoch_id, dictionary in made.items()}
        return found

    def recall(self, epoch_of: Mapping[EpochKey, int]) -> Known | None:
        """What is known of these epochs and their agents without asking; None where something is not.

        It holds for `generation`, which is to be compared under the catalogue lock.
        """
        agents = [self._agents.get(agent_id) for agent_id, _ in epoch_of]
        epoch_ids = epoch_of.values()
        if self._generation < 0 or self._dropped_us is None or not self._sure.issuperset(epoch_ids):
            return None
        if any(agent is None or not agent.is_welcome for agent in agents):
            return None
        dictionaries = {epoch_id: self._held[epoch_id].dictionary for epoch_id in epoch_ids}
        return Known(dictionaries, {}, self._profiles, self._dropped_us)

    def _keep(self, epochs: Mapping[int, _Held], posts: Mapping[PostKey, Dictionary], dropped_us: Int64) -> None:
        """Remember what is complete; what is still to be registered is looked up again."""
        for epoch_id, held in epochs.items():
            if self._held.get(epoch_id) is not held:
                self.outdate(epoch_id)
                if not held.dictionary.is_complete:
                    continue
                self._held[epoch_id] = held
                self._slots += len(held.dictionary.slots)
            self._sure.add(epoch_id)
        for key, dictionary in posts.items():
            if key not in self._posts and dictionary.is_complete:
                self._posts[key] = dictionary
                self._slots += len(dictionary.slots)
        self._dropped_us = dropped_us
