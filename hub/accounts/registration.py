"""New accounts: for anyone, for those who are invited, or for nobody, as the setting `registration` says.

An invitation is worth what its maker may do at the moment it is used: one who has left the project, or is no
administrator any more, lets nobody in. It is used up in the transaction that makes the account.
"""

from __future__ import annotations

from typing import Protocol

import asyncpg

from hub.access.tokens import TOKEN_LENGTH_MAX, token_hash
from hub.accounts import invitations, store
from hub.accounts.signin import Session, begin_session, change_by
from hub.accounts.views import Registration
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import Problem, conflict, forbidden, invalid
from hub.events.change import Change, Changes
from hub.events.event import NewEvent, SubjectType
from hub.projects import store as projects


async def register(changes: Changes, wanted: Registration) -> Session:
    """A new account, signed in. Raises: Problem 403, 409 when name or address is taken, 422."""
    services = changes.services
    await _admit(changes, wanted)
    password_hash = await services.passwords.hash(wanted.password)
    user_id = uuid7()
    try:
        async with change_by(changes, user_id) as change:
            invitation = await _take_invitation(change, wanted) if wanted.invitation_token else None
            row = await store.add_user(
                change.connection,
                user_id=user_id,
                username=wanted.username,
                email=wanted.email,
                password_hash=password_hash,
                is_admin=False,
                now=change.now,
            )
            change.record(NewEvent("user.registered", SubjectType.USER, user_id, payload={"username": wanted.username}))
            if invitation is not None:
                await _honour(change, invitation, wanted.username)
            return await begin_session(changes, change, row, "registration")
    except asyncpg.UniqueViolationError as error:
        raise name_taken(error) from None


class ConstraintError(Protocol):
    """A broken constraint, as asyncpg reports one."""

    constraint_name: str | None


def name_taken(error: ConstraintError) -> Problem:
    """The answer where a new account breaks a unique index."""
    taken = "user name" if error.constraint_name == "users_username" else "e-mail address"
    return conflict(f"this {taken} is taken", code="taken")


async def _admit(changes: Changes, wanted: Registration) -> None:
    """Refuse before a password is hashed. Raises: Problem 403, 422."""
    services = changes.services
    registration = services.settings.registration
    if registration == "closed":
        raise forbidden("registration is closed; ask an administrator", code="registration_closed")
    if registration == "invitation" and not wanted.invitation_token:
        raise forbidden("registration is by invitation; bring an invitation_token", code="invitation_needed")
    if wanted.invitation_token:
        async with acquire(services.pool) as connection:
            found = await invitations.find(connection, _hash(wanted), services.now())
        _check(found, wanted)


async def _take_invitation(change: Change, wanted: Registration) -> invitations.Row:
    """Use the invitation up; parallel users of the same one wait, and then find it used. Raises: Problem 403, 422."""
    return _check(await invitations.take(change.connection, _hash(wanted), change.now), wanted)


def _check(found: invitations.Row | None, wanted: Registration) -> invitations.Row:
    if found is None:
        raise forbidden("this invitation was used already, has expired or was withdrawn", code="invitation_refused")
    if found["email"] and found["email"].lower() != wanted.email.lower():
        raise invalid("email", "the invitation is for another address")
    return found


async def _honour(change: Change, invitation: invitations.Row, username: str) -> None:
    """Note who came, and let him join the project."""
    user_id, project_id, role = change.actor.id, invitation["project_id"], invitation["role"]
    assert user_id is not None
    await invitations.note_user(change.connection, invitation["id"], user_id)
    payload = {"user_id": str(user_id), "username": username}
    change.record(NewEvent("invitation.used", SubjectType.INVITATION, invitation["id"], project_id, payload))
    if project_id is not None:
        await projects.add_member(change.connection, project_id, user_id, role, change.now)
        joined = {**payload, "role": role, "invitation_id": str(invitation["id"])}
        change.record(NewEvent("member.added", SubjectType.MEMBER, user_id, project_id, joined))


def _hash(wanted: Registration) -> bytes:
    return token_hash(wanted.invitation_token[:TOKEN_LENGTH_MAX])
