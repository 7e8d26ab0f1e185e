"""Every route, called by everyone: the statuses are those of the table, and no route or row is without the other."""

from __future__ import annotations

import pytest
from fastapi.routing import iter_route_contexts

from hub.access.principals import TokenScope
from hub.access.rules import Caller
from hub.app import create_app
from hub.openapi import rules_of
from hub.settings import HubSettings
from tests.hub.access.calling import call
from tests.hub.access.route_table import REFUSED, REQUESTS, rows
from tests.hub.access.world import CALLERS, lay_out
from tests.hub.conftest import Hub

PARTS = 4
"""The table is walked in so many tests, so that workers share it."""
ANOTHERS = "DELETE /projects/{project_id}/members/{user_id}"
"""Leaving takes `write`, but removing another member, which is what the table does, takes `manage`."""


def routes() -> set[str]:
    """All routes but the portal's files, of which there is one for each file."""
    return {
        f"{method} {context.path}"
        for context in iter_route_contexts(create_app(HubSettings()).routes)
        if not str(context.name).startswith("portal:")
        for method in context.methods or ()
    }


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    known, met = set(rows()), routes()
    assert not met - known, (
        f"routes without a row: {sorted(met - known)}. Add a line to TABLE in tests/hub/access/route_table.py with "
        f"the statuses for {', '.join(CALLERS)}, and what to send to REQUESTS there. To see what a route answers, put "
        "0 for each: the failing test shows the statuses"
    )
    assert not known - met, f"rows without a route: {sorted(known - met)}"
    assert not set(REQUESTS) - known, f"requests without a row: {sorted(set(REQUESTS) - known)}"


def test_what_anyone_may_call_is_little() -> None:
    anyone = {
        f"{method} {path}"
        for (method, path), (rule,) in rules_of(create_app(HubSettings())).items()
        if rule.caller is Caller.ANYONE
    }
    assert {row for row, statuses in rows().items() if statuses[0] != 401} <= anyone
    assert anyone & routes() == {
        "GET /api/v1/certificate-key",
        "GET /asyncapi.yaml",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /openapi.json",
        "GET /openapi.yaml",
        "GET /sign-in",
        "POST /api/v1/agents/enrol",
        "POST /auth/login",
        "POST /auth/logout",
        "POST /auth/refresh",
        "POST /auth/register",
    }


@pytest.mark.parametrize("part", range(PARTS))
async def test_everyone_gets_what_the_table_says(table_hub: Hub, password_hash: str, part: int) -> None:
    wrong = []
    for row, expected in sorted(rows().items())[part::PARTS]:
        found = dict.fromkeys(CALLERS, 0)
        world = None
        for caller in sorted(CALLERS, key=lambda one: expected[CALLERS.index(one)] not in REFUSED):
            if world is None or any(word in f"{row} {REQUESTS.get(row)}" for word in ("token", "credential")):
                world = await lay_out(table_hub, password_hash, caller)
            found[caller] = (await call(world, row, caller)).status_code
            if found[caller] not in REFUSED and not row.startswith("GET "):
                world = None
        if tuple(found.values()) != expected:
            wrong.append(f"{row:<85} {' '.join(map(str, found.values()))}")
    assert not wrong, f"what was answered, for {', '.join(CALLERS)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("scope", TokenScope)
async def test_a_token_reaches_as_far_as_its_scope_on_every_route(
    table_hub: Hub, password_hash: str, scope: TokenScope
) -> None:
    rules = {f"{method} {path}": rule for (method, path), (rule,) in rules_of(table_hub.app).items()}
    world = await lay_out(table_hub, password_hash, "owner", scope)
    wrong = []
    for row in sorted(rows()):
        rule = rules[row]
        if rule.caller not in (Caller.USER, Caller.SENSOR_OR_USER):
            continue
        needed = TokenScope.MANAGE if row == ANOTHERS else rule.scope(row.split()[0])
        reaches = needed.is_granted_by({scope}) and not rule.in_person
        answer = await call(world, row, "script")
        if (reaches and needed is not TokenScope.READ) or (row in REQUESTS and REQUESTS[row].before):
            world = await lay_out(table_hub, password_hash, "owner", scope)
        refused = answer.status_code == 403 and answer.json()["code"] == "insufficient_scope"
        if refused == reaches:
            wrong.append(f"{row}: {answer.status_code} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


def test_what_a_token_may_never_do() -> None:
    rules = rules_of(create_app(HubSettings()))
    assert {f"{method} {path}" for (method, path), (rule,) in rules.items() if rule.in_person} == {
        "POST /auth/change-password",
        "POST /auth/sign-in-links",
        "POST /auth/tokens",
        "DELETE /auth/tokens/{token_id}",
        "POST /auth/broker-credentials",
        "DELETE /auth/broker-credentials/{credential_id}",
    }


def test_which_posts_change_nothing() -> None:
    rules = rules_of(create_app(HubSettings()))
    assert {f"{method} {path}" for (method, path), (rule,) in rules.items() if rule.only_reads} == {
        "POST /api/v1/experiments/{experiment_id}/compare",
        "POST /api/v1/sensors/{sensor_id}/conversion-profiles/{profile_id}/preview",
    }
