"""docs/events.md names every event that the hub records."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from uuid import UUID

import hub
from hub.events.event import PublicEvent, SubjectType
from hub.events.send import Message, signed

PAGE = Path(__file__).parents[3] / "docs" / "events.md"
PUBLIC, AUDIT = PAGE.read_text().split("## The audit")
_EVENT = re.compile(rf"(?:{'|'.join(SubjectType)})\.[a-z_]+")


def recorded() -> set[str]:
    """Event types that stand in the hub's code; names of fields that are refused are none."""
    nodes = [node for file in Path(hub.__path__[0]).rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    refusals = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "invalid"]
    fields = {id(call.args[0]) for call in refusals if call.args}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in fields]
    return {text for text in texts if isinstance(text, str) and _EVENT.fullmatch(text)}


def test_the_table_of_public_events_is_complete() -> None:
    assert re.findall(r"^\| `([a-z_.]+)` \|", PUBLIC, re.MULTILINE)[: len(PublicEvent)] == list(PublicEvent)


def test_every_event_of_the_audit_is_listed() -> None:
    assert recorded() - set(PublicEvent) <= set(_EVENT.findall(AUDIT))


def test_every_header_of_a_webhook_is_described() -> None:
    sent = signed(Message(UUID(int=1), 1, "run.started", "", b"{}", "secret"), 1)
    headers = {name for name in sent if name.startswith("X-Webhook-")}
    assert set(re.findall(r"^\| `(X-Webhook-[\w-]+)`", PUBLIC, re.MULTILINE)) == headers
