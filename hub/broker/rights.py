"""What someone may do at the broker, as topic filters.

An agent may write below its own `up/` and read below its own `down/`; a member reads the live values and events of the
projects that he belongs to, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from shared import topics

AGENT_PREFIX = "agent-"
MEMBER_PREFIX = "member-"


@dataclass(frozen=True, slots=True)
class Rights:
    """Topic filters that may be published to, and that may be read; all else is refused."""

    publish: frozenset[str] = frozenset()
    subscribe: frozenset[str] = frozenset()


def agent_username(agent_id: UUID) -> str:
    """The agent's name at the broker."""
    return f"{AGENT_PREFIX}{agent_id}"


def member_username(credential_id: UUID) -> str:
    """What a credential that a member has drawn is called at the broker."""
    return f"{MEMBER_PREFIX}{credential_id}"


def of_agent(agent_id: UUID) -> Rights:
    """An agent's."""
    own = f"{topics.PREFIX}/agents/{agent_id}"
    return Rights(frozenset({f"{own}/up/#"}), frozenset({f"{own}/down/#"}))


def of_member(project_ids: Iterable[UUID]) -> Rights:
    """Those of a member of these projects."""
    return Rights(subscribe=frozenset(topic for project_id in project_ids for topic in project_topics(project_id)))


def project_topics(project_id: UUID) -> tuple[str, str]:
    """What members of a project may subscribe to."""
    return f"{topics.PREFIX}/projects/{project_id}/live/#", topics.events(project_id)
