"""A laid-out world: one project with one of everything in it, and everyone who may come to its doors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx

from hub.access.tokens import AccessClaims, new_personal_token, new_token, token_hash
from hub.agents.enrol import code_hash, new_code
from hub.database.ids import uuid7
from hub.sensors.store import lock_starts
from tests.hub.conftest import Hub

CALLERS = ("anonymous", "stranger", "viewer", "editor", "owner", "admin", "sensor", "agent")
"""`admin` administers the hub and is no member; `agent` brings its MQTT password as a bearer token."""
PASSWORD = "Password1"

_THINGS = (
    *("stranger", "viewer", "editor", "owner", "admin", "project", "other_project", "sensor", "busy_sensor", "profile"),
    *(
        "agent",
        "new_agent",
        "experiment",
        "run",
        "other_run",
        "session",
        "annotation",
        "artifact",
        "webhook",
        "delivery",
    ),
    *("invitation", "token", "credential", "task"),
)

_LAY_OUT = """
insert into projects (id, owner_id, name) values ('{project_id}', '{owner_id}', 'p{mark}'),
    ('{other_project_id}', '{owner_id}', 'q{mark}');
insert into project_members (project_id, user_id, role) values ('{project_id}', '{viewer_id}', 'viewer'),
    ('{project_id}', '{editor_id}', 'editor'), ('{project_id}', '{owner_id}', 'owner'),
    ('{other_project_id}', '{owner_id}', 'owner'), ('{other_project_id}', '{editor_id}', 'editor'),
    ('{other_project_id}', '{viewer_id}', 'viewer');
insert into sensors (id, project_id, name, status, token_hash) values
    ('{sensor_id}', '{project_id}', 'S{mark}', 'active', decode('{sensor_token_hash}', 'hex')),
    ('{busy_sensor_id}', '{project_id}', 'B{mark}', 'active', null);
insert into sensor_projects values ('{sensor_id}', '{project_id}'), ('{busy_sensor_id}', '{project_id}'),
    ('{sensor_id}', '{other_project_id}');
insert into conversion_profiles (id, sensor_id, version, kind, payload)
    values ('{profile_id}', '{sensor_id}', '1', 'linear', '{{"a": 1, "b": 0}}');
insert into backfill_tasks (id, sensor_id, profile_id, scope, before_id, status, created_at)
    values ('{task_id}', '{busy_sensor_id}', '{profile_id}', 'all', 1, 'running', now() + interval '1 day');
insert into agents (id, project_id, name, mqtt_username) values ('{agent_id}', '{project_id}', 'A{mark}', 'm{mark}');
insert into epochs (agent_id, epoch) values ('{agent_id}', decode('{epoch}', 'hex'));
insert into epochs (agent_id, epoch) values ('{agent_id}', decode('{last_epoch}', 'hex'));
insert into enrolment_codes (code_hash, project_id, expires_at)
    values (decode('{code_hash}', 'hex'), '{project_id}', now() + interval '1 hour');
insert into experiments (id, project_id, owner_id, name)
    values ('{experiment_id}', '{project_id}', '{owner_id}', 'E{mark}');
insert into runs (id, experiment_id, project_id, name, status, started_at)
    values ('{run_id}', '{experiment_id}', '{project_id}', 'R{mark}', 'running', now()),
           ('{other_run_id}', '{experiment_id}', '{project_id}', 'O{mark}', 'running', now());
insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at)
    values ('{session_id}', '{run_id}', '{project_id}', 1, 'running', now());
insert into session_sensors (session_id, sensor_id, time_from) values ('{session_id}', '{busy_sensor_id}', now());
insert into annotations (id, run_id, timestamp, text) values ('{annotation_id}', '{run_id}', now(), 'look');
insert into artifacts (id, run_id, project_id, type, uri)
    values ('{artifact_id}', '{run_id}', '{project_id}', 'plot', 'https://files.example/plot.png');
insert into webhook_subscriptions (id, project_id, target_url, event_types, secret)
    values ('{webhook_id}', '{project_id}', 'https://hook.example/', array['run.started'], 'secret');
insert into webhook_deliveries (id, subscription_id, project_id, event_id, event_type, target_url, request_body, status,
                                dedup_key)
    values ('{delivery_id}', '{webhook_id}', '{project_id}', 1, 'run.started', 'https://hook.example/', '{{}}',
            'dead_lettered', 'd{mark}');
insert into invitations (id, token_hash, project_id, role, created_by, expires_at)
    values ('{invitation_id}', decode('{invitation_hash}', 'hex'), '{project_id}', 'viewer', '{owner_id}',
            now() + interval '1 hour');
"""
_SET_ASIDE = """
insert into set_aside (project_id, sensor_id, sensor_name, signal, reason, readings, time_from, time_to, timestamps_us,
                       raw, physical, status)
values ($1::uuid, $2::uuid, 'S', 'value', 'future', 1, now(), now(), array[1772452800000000::bigint],
        array[1::float8], array['nan'::float8], array[0::smallint])
returning id
"""
_USER = "insert into users (id, username, email, password_hash, is_admin) values ($1::uuid, $2, $3, $4, $5)"
_REFRESH = """
insert into refresh_tokens (token_hash, family, user_id, expires_at) values ($1, $2, $3::uuid, now() + interval '1 day')
"""
_TOKEN = """
insert into personal_tokens (id, user_id, name, token_hash, token_preview, scopes)
values ($1::uuid, $2::uuid, 'n', $3, '', $4)
"""
_CREDENTIAL = """
insert into broker_credentials (id, user_id, name, mqtt_username)
values ($1::uuid, $2::uuid, 'n', 'member-' || $1::text)
"""


@dataclass(frozen=True, slots=True)
class World:
    """What was laid out.

    Attributes:
        names: what stands for each placeholder, such as `project_id`.
        bearers: the token that each caller brings.
    """

    hub: Hub
    names: Mapping[str, str]
    bearers: Mapping[str, str]

    def client(self, caller: str) -> httpx.AsyncClient:
        """How this caller comes."""
        token = self.bearers.get(caller)
        return self.hub.client(Authorization=f"Bearer {token}") if token else self.hub.client()

    def filled(self, value: Any) -> Any:
        """The value with its placeholders filled in, however deep they stand."""
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        return [self.filled(one) for one in value] if isinstance(value, list) else value


async def lay_out(hub: Hub, password_hash: str, caller: str, scope: str = "read") -> World:
    """A new world in the hub's database, beside those that are there.

    Args:
        caller: to whom a personal token and a refresh token in it belong, if it is a person's. `script` brings that.
        scope: of the personal token.
    """
    ids = {f"{thing}_id": str(uuid7()) for thing in _THINGS}
    mark, sensor_token, code, invitation = ids["project_id"][-12:], new_token(), new_code(None), new_token()
    names = ids | {
        "mark": mark,
        "epoch": uuid7().hex,
        "last_epoch": uuid7().hex,
        "code": code,
        "sensor_token_hash": token_hash(sensor_token).hex(),
        "code_hash": code_hash(code).hex(),
        "invitation_hash": token_hash(invitation).hex(),
        "invitation_token": invitation,
        "refresh_token": "",
    }
    bearers, refresh_tokens = {"sensor": sensor_token, "agent": new_token()}, {}
    async with hub.services.pool.acquire() as connection, connection.transaction():
        await lock_starts(connection)  # before the catalogue's lock, as whoever starts a session
        for person in ("stranger", "viewer", "editor", "owner", "admin"):
            user = ids[f"{person}_id"]
            name = f"{person}-{mark}"
            await connection.execute(_USER, user, name, f"{name}@lab", password_hash, person == "admin")
            family, refresh = uuid7(), new_token()
            await connection.execute(_REFRESH, token_hash(refresh), family, user)
            claims = AccessClaims(UUID(user), family, int((hub.services.now() + timedelta(hours=1)).timestamp()))
            bearers[person], refresh_tokens[person] = hub.services.signer.sign(claims), refresh
        await connection.execute(_LAY_OUT.format(**names))
        if caller in refresh_tokens:
            names["refresh_token"] = refresh_tokens[caller]
            bearers["script"] = new_personal_token()
            hashed = token_hash(bearers["script"])
            await connection.execute(_TOKEN, ids["token_id"], ids[f"{caller}_id"], hashed, [scope])
            await connection.execute(_CREDENTIAL, ids["credential_id"], ids[f"{caller}_id"])
        names["aside_id"] = str(await connection.fetchval(_SET_ASIDE, ids["project_id"], ids["sensor_id"]))
    return World(hub, names, bearers)
