"""The AsyncAPI document says what the code does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import uuid4

import jsonschema
import msgspec
import pytest
import yaml
from starlette.routing import WebSocketRoute

from hub.app import create_app
from hub.asyncapi import asyncapi_document
from hub.events.event import PublicEvent
from hub.events.send import Message, signed
from hub.events.store import body_of
from hub.ingest import stream_messages
from hub.settings import HubSettings
from shared import messages, topics
from tests.hub.conftest import Hub

DOCUMENT = yaml.safe_load(yaml.safe_dump(asyncapi_document("1")))


def references(node: Any) -> Iterator[str]:
    """All `$ref` below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


async def test_anyone_may_read_it(hub: Hub) -> None:
    answer = await hub.client().get("/asyncapi.yaml")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/yaml")
    document = yaml.safe_load(answer.text)
    assert document["channels"] == DOCUMENT["channels"]


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_topic_stream_and_event_is_there() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert {f"{topics.PREFIX}/agents/{{agent_id}}/up/{lane}" for lane in get_args(topics.Up)} <= addresses
    assert {f"{topics.PREFIX}/agents/{{agent_id}}/down/{lane}" for lane in get_args(topics.Down)} <= addresses
    assert f"{topics.PREFIX}/projects/{{project_id}}/events" in addresses
    assert f"{topics.PREFIX}/projects/{{project_id}}/live/{{sensor_id}}/{{signal}}" in addresses
    assert set(PublicEvent) <= set(DOCUMENT["channels"]["events.stream"]["messages"])
    app = create_app(HubSettings())
    streams = {
        path
        for path, operations in app.openapi()["paths"].items()
        for operation in operations.values()
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    }
    assert streams <= addresses
    assert {route.path for route in app.routes if isinstance(route, WebSocketRoute)} <= addresses


def validate(schema: str, value: Any) -> None:
    """Raises: jsonschema.ValidationError."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    jsonschema.validate(value, whole)


def test_what_is_sent_fits_its_schema() -> None:
    project_id, now = uuid4(), datetime.now(UTC)
    validate("WebhookBody", msgspec.json.decode(body_of("run.started", project_id, now, {})))
    told = body_of("run.started", project_id, now, {"a": 1}, event_id=7)
    validate("ToldEvent", msgspec.json.decode(told))
    with pytest.raises(jsonschema.ValidationError):
        validate("ToldEvent", msgspec.json.decode(body_of("run.started", project_id, now, {})))
    ack = messages.Ack("abc", acked=[messages.EpochRange("00" * 16, 1, 2)])
    validate("Ack", msgspec.json.decode(messages.encode(ack)))
    validate("State", msgspec.json.decode(messages.encode(messages.State("online", "a"))))


def test_what_is_said_over_websocket_fits_its_schema() -> None:
    said = {"type": "readings", "seq": 1, "columns": {"timestamp_us": [1], "raw_value": [2.0]}}
    stream_messages.decode(msgspec.json.encode(said))
    validate("SocketReadings", said)
    with pytest.raises(jsonschema.ValidationError):
        validate("SocketReadings", said | {"body": {}})
    for message in (stream_messages.Acknowledged(1, 2, 3, 4), stream_messages.Error({"status": 401})):
        validate(type(message).__name__, msgspec.json.decode(stream_messages.encode(message)))


def test_all_headers_of_a_webhook_are_described() -> None:
    headers = DOCUMENT["channels"]["webhooks"]["messages"]["event"]["headers"]["properties"]
    sent = signed(Message(uuid4(), 1, "run.started", "", b"{}", "secret"), 1)
    assert set(headers) == {name for name in sent if name.startswith("X-Webhook-")}
