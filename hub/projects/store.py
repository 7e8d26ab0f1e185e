"""SQL of projects and members."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database.pool import Connection

if TYPE_CHECKING:
    Row: TypeAlias = asyncpg.Record
else:
    Row = asyncpg.Record

_LIST = """
    select p.*, m.role from projects p join project_members m on m.project_id = p.id
    where m.user_id = $1 order by lower(p.name), p.id
"""
_ONE = """
    select p.*, m.role from projects p join project_members m on m.project_id = p.id
    where p.id = $1 and m.user_id = $2
"""
_ADD = """
    insert into projects (id, owner_id, name, description, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $5)
"""
_CHANGE = """
    update projects set name = coalesce($2, name), description = coalesce($3, description), updated_at = $4,
                        version = version + 1
    where id = $1
"""
_DELETE = "delete from projects where id = $1"

_MEMBERS = """
    select m.user_id, u.username, m.role, m.created_at
    from project_members m join users u on u.id = m.user_id
    where m.project_id = $1 order by lower(u.username)
"""
_MEMBER = """
    select m.user_id, u.username, m.role, m.created_at
    from project_members m join users u on u.id = m.user_id
    where m.project_id = $1 and m.user_id = $2
"""
_ADD_MEMBER = "insert into project_members (project_id, user_id, role, created_at) values ($1, $2, $3, $4)"
_SET_ROLE = "update project_members set role = $3 where project_id = $1 and user_id = $2"
_REMOVE_MEMBER = "delete from project_members where project_id = $1 and user_id = $2"

_LOCK = "select owner_id from projects where id = $1 for no key update"
_OTHER_OWNER = """
    select user_id from project_members
    where project_id = $1 and user_id <> $2 and role = 'owner'
    order by created_at, user_id limit 1
"""
_SET_OWNER = "update projects set owner_id = $2, updated_at = $3, version = version + 1 where id = $1"


async def of_user(connection: Connection, user_id: UUID) -> list[Row]:
    """The user's projects, each with the user's role."""
    return await connection.fetch(_LIST, user_id)


async def one(connection: Connection, project_id: UUID, user_id: UUID) -> Row | None:
    """A project of the user's, with the user's role."""
    return await connection.fetchrow(_ONE, project_id, user_id)


async def add(
    connection: Connection, project_id: UUID, owner_id: UUID, name: str, description: str, now: datetime
) -> None:
    """A new project with its first owner. Raises: asyncpg.UniqueViolationError."""
    await connection.execute(_ADD, project_id, owner_id, name, description, now)
    await connection.execute(_ADD_MEMBER, project_id, owner_id, "owner", now)


async def change(
    connection: Connection, project_id: UUID, name: str | None, description: str | None, now: datetime
) -> None:
    """Another name or description; None leaves it. Raises: asyncpg.UniqueViolationError."""
    await connection.execute(_CHANGE, project_id, name, description, now)


async def delete(connection: Connection, project_id: UUID) -> None:
    """Remove an empty project. Raises: asyncpg.ForeignKeyViolationError while something belongs to it."""
    await connection.execute(_DELETE, project_id)


async def members(connection: Connection, project_id: UUID) -> list[Row]:
    """All members."""
    return await connection.fetch(_MEMBERS, project_id)


async def member(connection: Connection, project_id: UUID, user_id: UUID) -> Row | None:
    """One member."""
    return await connection.fetchrow(_MEMBER, project_id, user_id)


async def add_member(connection: Connection, project_id: UUID, user_id: UUID, role: str, now: datetime) -> None:
    """A new member. Raises: asyncpg.UniqueViolationError."""
    await connection.execute(_ADD_MEMBER, project_id, user_id, role, now)


async def set_role(connection: Connection, project_id: UUID, user_id: UUID, role: str) -> None:
    """Another role."""
    await connection.execute(_SET_ROLE, project_id, user_id, role)


async def remove_member(connection: Connection, project_id: UUID, user_id: UUID) -> None:
    """One member less."""
    await connection.execute(_REMOVE_MEMBER, project_id, user_id)


async def lock(connection: Connection, project_id: UUID) -> UUID | None:
    """Let nobody else change the project, its members or policies until the transaction ends. Returns: its owner."""
    owner: UUID | None = await connection.fetchval(_LOCK, project_id)
    return owner


async def other_owner(connection: Connection, project_id: UUID, user_id: UUID) -> UUID | None:
    """The member who has been an owner for longest beside this one."""
    found: UUID | None = await connection.fetchval(_OTHER_OWNER, project_id, user_id)
    return found


async def set_owner(connection: Connection, project_id: UUID, user_id: UUID, now: datetime) -> None:
    """Pass the project on. Raises: asyncpg.UniqueViolationError."""
    await connection.execute(_SET_OWNER, project_id, user_id, now)
