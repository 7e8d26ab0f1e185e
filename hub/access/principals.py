"""Who may ask: people, signed in or by a token of theirs, and sensors; and how far each may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID


class Role(StrEnum):
    """What a member may do in a project; each includes those before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    def includes(self, other: Role) -> bool:
        """Whether someone with this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class TokenScope(StrEnum):
    """What a personal token may be used for; each includes those before it."""

    READ = "read"
    WRITE = "write"
    MANAGE = "manage"

    def is_granted_by(self, scopes: Iterable[TokenScope]) -> bool:
        """Whether one of these scopes is, or includes, this one."""
        order = list(TokenScope)
        return any(order.index(one) >= order.index(self) for one in scopes)


@dataclass(frozen=True, slots=True)
class PersonalToken:
    """The personal token that a request brought."""

    id: UUID
    scopes: frozenset[TokenScope]


@dataclass(frozen=True, slots=True)
class User:
    """A person who is signed in, or whose personal token is used."""

    id: UUID
    username: str
    email: str
    is_active: bool
    is_admin: bool
    password_change_required: bool
    created_at: datetime
    family: UUID | None = None
    """The sign-in that this request belongs to; None with a personal token."""
    token: PersonalToken | None = None
    """The personal token that was used, if one was."""


@dataclass(frozen=True, slots=True)
class SensorPrincipal:
    """A sensor that sends, or someone who holds its token.

    Attributes:
        project_ids: all projects of the sensor.
        token_hash: of the token that was used.
        readings_per_s_max: a rate of its own.
    """

    id: UUID
    name: str
    status: str
    project_id: UUID
    project_ids: frozenset[UUID]
    token_hash: bytes = field(default=b"", repr=False)
    readings_per_s_max: int | None = None


Principal: TypeAlias = User | SensorPrincipal
