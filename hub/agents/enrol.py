"""Enrolment: an owner or editor asks for a code, an agent exchanges it, once, for credentials at the broker.

A code is `LR1-<secret>`, in base32; where the hub itself serves TLS, `-<pin>` follows, the first 16 bytes of the
SHA-256 of its certificate, so that the agent knows the hub without any authority. Only the secret's hash is kept. An
agent that lost the answer may ask again with the same code, until it expires or the agent is revoked, and is given new
credentials.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from hub.agents.store import Row
from hub.broker import rights
from hub.broker.provision import BrokerAccess, Provisioner
from hub.database.pool import Connection, affected
from hub.errors import Problem, conflict, not_found
from hub.events.change import Change
from hub.events.event import NewEvent, SubjectType
from shared.errors import ConfigurationError

PREFIX = "LR1"
SECRET_BYTES = 15
PIN_BYTES = 16
NAMES_TRIED_MAX = 1000
_RACES_MAX = 100
"""How often another agent may be quicker to take a name."""

_ADD_CODE = """
insert into enrolment_codes (code_hash, project_id, name, created_by, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6)
"""
_LOCK_CODE = """
select project_id, name, created_by, expires_at, used_at, agent_id from enrolment_codes where code_hash = $1 for update
"""
_USE_CODE = "update enrolment_codes set used_at = coalesce(used_at, $2), agent_id = $3 where code_hash = $1"
_AGENT = "select project_id, name, status from agents where id = $1 for update"
_NAMES = "select lower(name) as name from agents where project_id = $1 and id <> $2"
_ADD_AGENT = """
insert into agents (id, project_id, name, mqtt_username, enrolled_by, enrolled_at) values ($1, $2, $3, $4, $5, $6)
on conflict (project_id, lower(name)) do nothing
"""
_ENROL_AGAIN = """
update agents set status = 'enrolled', mqtt_username = $2, enrolled_by = $3, enrolled_at = $4, revoked_at = null,
                  revoked_by = null, revoked_reason = '', refused_since = null, voided_at = null
where id = $1
"""


@dataclass(frozen=True, slots=True)
class NewAgent:
    """What an agent says about itself."""

    id: UUID
    name: str
    host: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an agent is given."""

    agent_id: UUID
    project_id: UUID
    name: str
    access: BrokerAccess


def new_code(certificate: Path | None, secret: bytes | None = None) -> str:
    """A code that nobody can guess.

    Args:
        secret: `SECRET_BYTES` that it is made of; drawn if not given.
    Raises: ConfigurationError when the certificate cannot be read.
    """
    parts = [PREFIX, _base32(secret or secrets.token_bytes(SECRET_BYTES))]
    if certificate is not None:
        parts.append(_base32(pin_of(certificate)))
    return "-".join(parts)


def pin_of(certificate: Path) -> bytes:
    """What stands for the first certificate of a PEM file. Raises: ConfigurationError."""
    try:
        text = certificate.read_text()
        end = text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        encoded = ssl.PEM_cert_to_DER_cert(text[text.index(ssl.PEM_HEADER) : end])
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{certificate} is not a certificate: {error}", key=("tls_cert_file",)) from error
    return hashlib.sha256(encoded).digest()[:PIN_BYTES]


def code_hash(code: str) -> bytes:
    """What is kept of a code: of the secret alone, without the pin, however it was typed."""
    parts = "".join(code.split()).upper().split("-")
    return hashlib.sha256("-".join(parts[:2]).encode()).digest()


async def add_code(
    connection: Connection, code: str, project_id: UUID, name: str, user_id: UUID, now: datetime, lifetime: timedelta
) -> datetime:
    """Remember a code. Returns: when it expires."""
    expires_at = now + lifetime
    await connection.execute(_ADD_CODE, code_hash(code), project_id, name, user_id, now, expires_at)
    return expires_at


async def enrol(
    change: Change, provisioner: Provisioner, code: str, agent: NewAgent, project_id: UUID | None = None
) -> Enrolled:
    """Exchange a code. The credentials are made before the code is used up, so that a crash in between costs nothing.

    Args:
        project_id: that of the code, where the agent's people have said so.

    Raises: Problem 401 for an unknown code, 404 for one of another project than `project_id`, 409 for one that another
        agent has used or an agent of another project, 410 for an expired one; LinkUnavailable, ProvisioningRefused,
        StorageUnavailable.
    """
    digest, connection, now = code_hash(code), change.connection, change.now
    row = await connection.fetchrow(_LOCK_CODE, digest)
    if row is None:
        raise Problem(401, "this enrolment code is not known", code="unknown_code")
    if project_id not in (None, row["project_id"]):
        raise not_found("enrolment code")
    if row["used_at"] is not None and row["agent_id"] != agent.id:
        raise conflict("this enrolment code has been used", code="code_used")
    if row["expires_at"] <= now:
        raise Problem(410, "this enrolment code has expired", code="code_expired")
    name = await _keep_agent(connection, agent, row, now)
    access = await provisioner.issue(rights.agent_username(agent.id), rights.of_agent(agent.id))
    await connection.execute(_USE_CODE, digest, now, agent.id)
    told = {"agent_id": str(agent.id), "name": name, "host": agent.host, "again": row["used_at"] is not None}
    change.record(NewEvent("agent.enrolled", SubjectType.AGENT, agent.id, row["project_id"], told))
    return Enrolled(agent.id, row["project_id"], name, access)


async def _keep_agent(connection: Connection, agent: NewAgent, code: Row, now: datetime) -> str:
    project_id, user_id = code["project_id"], code["created_by"]
    standing = await connection.fetchrow(_AGENT, agent.id)
    if standing is not None:
        if standing["project_id"] != project_id:
            raise conflict("this agent is enrolled in another project", code="agent_elsewhere")
        if standing["status"] == "compromised":
            raise conflict("this agent was marked as compromised; start it with a new identity", code="compromised")
        if standing["status"] != "enrolled" and code["used_at"] is not None:
            detail = "this enrolment code has been used, and the agent was retired since; ask for another code"
            raise conflict(detail, code="code_used")
        await connection.execute(_ENROL_AGAIN, agent.id, rights.agent_username(agent.id), user_id, now)
        return str(standing["name"])
    for _ in range(_RACES_MAX):
        taken = {row["name"] for row in await connection.fetch(_NAMES, project_id, agent.id)}
        name = free_name(code["name"] or agent.name or agent.host or "agent", taken)
        username = rights.agent_username(agent.id)
        if affected(await connection.execute(_ADD_AGENT, agent.id, project_id, name, username, user_id, now)):
            return name
    raise conflict("too many agents take this name at once", code="name_taken")


def free_name(wanted: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken. Raises: Problem 409 when hundreds of those are."""
    for number in range(1, NAMES_TRIED_MAX):
        name = wanted[:200] if number == 1 else f"{wanted[:190]}-{number}"
        if name.lower() not in taken:
            return name
    raise conflict("too many agents have this name", code="name_taken")


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")
