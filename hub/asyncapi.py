"""The AsyncAPI document: what is told without being asked. Topics, lanes, event types and message schemas come from the
code that uses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args
from uuid import UUID

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hub.events.event import PublicEvent
from hub.events.views import ToldEvent, WebhookBody
from hub.ingest import column_body, stream_messages
from hub.ingest.routes import BODY as POST_BODY
from hub.ingest.streams import SEQ_MAX
from hub.telemetry.answers import Point
from shared import messages, topics, wire

ASYNCAPI = "3.0.0"

_REF = "#/components/schemas/{name}"
_LANES: Mapping[str, type[msgspec.Struct] | None] = {
    "up/data": None,
    "up/state": messages.State,
    "up/live": messages.Live,
    "up/reply": messages.Reply,
    "up/time": messages.TimeRequest,
    "down/ack": messages.Ack,
    "down/config": messages.Config,
    "down/cmd": messages.Command,
    "down/time": messages.TimeAnswer,
}
"""What a lane carries; None for sealed batches, which are not JSON."""
_RECEIVED = ("agents.up.", "telemetry.socket.up")
_RETAINED = ("agents.up.state", "agents.down.config", "projects.live")
_UNACKNOWLEDGED = ("agents.up.live", "agents.up.time", "agents.down.time", "agents.down.ack", "projects.live")
_PARAMETERS = {
    "agent_id": "The agent's id.",
    "project_id": "The project's id.",
    "sensor_id": "The sensor's id.",
    "signal": "The signal's name; characters that a topic level cannot hold are `_`.",
}
_MODELS: Sequence[type[BaseModel]] = (Point, ToldEvent, WebhookBody)
_SOCKET_STRUCTS = (
    stream_messages.Open,
    stream_messages.Ready,
    stream_messages.Acknowledged,
    stream_messages.Refused,
    stream_messages.Error,
    column_body.ColumnBody,
)
_SOCKET_READINGS = {
    "type": "object",
    "description": "Readings; `seq` rises with each message of the stream. Either `body` or `columns`.",
    "required": ["type", "seq"],
    "oneOf": [{"required": ["body"]}, {"required": ["columns"]}],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "readings"},
        "seq": {"type": "integer", "minimum": 1, "maximum": SEQ_MAX},
        "body": POST_BODY,
        "columns": {"$ref": _REF.format(name="ColumnBody")},
    },
}
_SOCKET_ACCEPTED = {
    "type": "object",
    "description": "The answer to a bare post: how many of its readings are new.",
    "required": ["status", "accepted"],
    "properties": {"status": {"const": "accepted"}, "accepted": {"type": "integer"}},
}
_SOCKET_PROBLEM = {
    "type": "object",
    "description": "The answer to a bare post that was not stored; as an HTTP answer would have it.",
    "required": ["status", "detail", "error", "code"],
    "properties": {
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "The same as `detail`."},
        "code": {"type": "string"},
        "retry_after_s": {"type": "integer", "description": "Send it again after so long."},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_STREAM_ERROR = {
    "type": "object",
    "description": "Why the hub ends the stream.",
    "required": ["status", "detail", "error", "code"],
    "properties": {
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "The same as `detail`."},
        "code": {"type": "string"},
    },
}
_LIVE_VALUE = {
    "type": "object",
    "description": "The latest value of a signal, before it is stored.",
    "required": [
        "sensor_id",
        "signal",
        "timestamp",
        "raw_value",
        "physical_value",
        "conversion_status",
        "unit",
        "meta",
    ],
    "properties": {
        "sensor_id": {"type": "string", "format": "uuid"},
        "signal": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "raw_value": {"type": ["number", "null"]},
        "physical_value": {"type": ["number", "null"]},
        "conversion_status": {"type": "string"},
        "unit": {"type": "string"},
        "meta": {"type": "object"},
    },
}
_WEBHOOK_HEADERS = {
    "X-Webhook-Event": "The type of the event.",
    "X-Webhook-Event-Id": "The event's id; rises in the order in which things happened.",
    "X-Webhook-Delivery-Id": "The same for all attempts at one delivery.",
    "X-Webhook-Timestamp": "When this attempt was made, in Unix seconds.",
    "X-Webhook-Signature": "`sha256=` and the HMAC-SHA256 of the raw body, in hex; with a secret.",
    "X-Webhook-Signature-V2": "The same of `<timestamp>.<body>`; with a secret.",
}


def asyncapi_document(version: str) -> dict[str, Any]:
    """The document; the hub's view: it sends what others receive."""
    channels = _agent_channels() | _project_channels() | _stream_channels() | _socket_channels() | _webhook_channel()
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Labrelay",
            "version": version,
            "description": "Readings and events as they come: MQTT, Server-Sent Events, WebSocket, webhooks.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": _server("mqtt", "1883", "The MQTT broker; agents and members have credentials of their own."),
            "hub": _server("https", "443", "The hub; a bearer token or a session cookie."),
        },
        "channels": channels,
        "operations": _operations(channels),
        "components": {"schemas": _schemas()},
    }


def _server(protocol: str, port: str, description: str) -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": protocol,
        "description": description,
        "variables": {"host": {"default": "localhost"}, "port": {"default": port}},
    }


def _agent_channels() -> dict[str, Any]:
    """One for each lane of an agent."""
    agent = cast(UUID, "{agent_id}")
    addresses = {f"up/{lane}": topics.up(agent, lane) for lane in get_args(topics.Up)}
    addresses |= {f"down/{lane}": topics.down(agent, lane) for lane in get_args(topics.Down)}
    found = {}
    for name, address in addresses.items():
        struct, lane = _LANES[name], name.rpartition("/")[2]
        message = _batch() if struct is None else _message(struct.__name__, _title(struct.__doc__))
        found["agents." + name.replace("/", ".")] = _mqtt(address, {lane: message})
    return found


def _project_channels() -> dict[str, Any]:
    project, sensor = cast(UUID, "{project_id}"), cast(UUID, "{sensor_id}")
    live, events = topics.live(project, sensor, "{signal}"), topics.events(project)
    return {
        "projects.live": _mqtt(live, {"live": _message("ProjectLive", "The latest value of a signal.")}),
        "projects.events": _mqtt(events, {"event": _message("ToldEvent", "A public event, at least once.")}),
    }


def _stream_channels() -> dict[str, Any]:
    error = _message("StreamError", "Why the hub ends the stream.")
    telemetry = {
        "telemetry": _message("Point", "A committed reading, once; `id:` is its id."),
        "live": _message("LiveEvent", "The latest value of a signal, with `live=true`; without id."),
        "error": error,
    }
    told = {event.value: _message("ToldEvent", f"`event: {event}`; `id:` is the event's.") for event in PublicEvent}
    return {
        "telemetry.stream": _http("/api/v1/telemetry/stream", "Readings as Server-Sent Events.", telemetry),
        "events.stream": _http("/api/v1/events/stream", "Events as Server-Sent Events.", told | {"error": error}),
    }


def _socket_channels() -> dict[str, Any]:
    """The WebSocket of sensors, one channel each way."""
    address = "/api/v1/telemetry/ws"
    said = {
        "open": _message("Open", "First: which stream this connection goes on with."),
        "readings": _message("SocketReadings", "Readings of the token's sensor, as in a post or as columns."),
        "post": _message("SocketPost", "A post as it is; from the first message on, where no stream is opened."),
    }
    told = {
        str(struct.__struct_config__.tag): _message(struct.__name__, _title(struct.__doc__))
        for struct in _SOCKET_STRUCTS[1:5]
    }
    told["accepted"] = _message("SocketAccepted", "How many readings of a bare post are new.")
    told["problem"] = _message("SocketProblem", "Why a bare post was not stored.")
    return {
        "telemetry.socket.up": _http(address, "A sensor's readings over WebSocket.", said),
        "telemetry.socket.down": _http(address, "What the hub answers.", told),
    }


def _webhook_channel() -> dict[str, Any]:
    headers = {name: {"type": "string", "description": text} for name, text in _WEBHOOK_HEADERS.items()}
    message = _message("WebhookBody", "A public event, posted to a subscription's `target_url` until it answers 2xx.")
    message["headers"] = {"type": "object", "properties": headers}
    return {"webhooks": {"address": None, "title": "Webhooks", "messages": {"event": message}}}


def _mqtt(address: str, messages_of: dict[str, Any]) -> dict[str, Any]:
    parameters = {one: {"description": text} for one, text in _PARAMETERS.items() if f"{{{one}}}" in address}
    return {
        "address": address,
        "servers": [{"$ref": "#/servers/broker"}],
        "parameters": parameters,
        "messages": messages_of,
    }


def _http(address: str, title: str, messages_of: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "title": title,
        "servers": [{"$ref": "#/servers/hub"}],
        "messages": messages_of,
    }


def _message(schema: str, title: str) -> dict[str, Any]:
    return {"title": title, "payload": {"$ref": _REF.format(name=schema)}}


def _batch() -> dict[str, Any]:
    return {
        "title": "Sealed batches, one after the other; see docs/wire-format.md.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary", "maxLength": wire.MESSAGE_BYTES_MAX},
    }


def _title(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _operations(channels: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _operation(name, channel) for name, channel in channels.items()}


def _operation(name: str, channel: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": "receive" if name.startswith(_RECEIVED) else "send",
        "channel": {"$ref": f"#/channels/{name}"},
    }
    if {"$ref": "#/servers/broker"} in channel.get("servers", []):
        qos = 0 if name in _UNACKNOWLEDGED else 1
        operation["bindings"] = {"mqtt": {"qos": qos, "retain": name in _RETAINED}}
    return operation


def _schemas() -> dict[str, Any]:
    structs = [struct for struct in _LANES.values() if struct is not None]
    _, of_structs = msgspec.json.schema_components(
        [*structs, messages.ProjectLive, *_SOCKET_STRUCTS], ref_template=_REF
    )
    _, of_models = models_json_schema(
        [(model, "serialization") for model in _MODELS], ref_template=_REF.replace("name", "model")
    )
    return {
        **of_structs,
        **of_models["$defs"],
        "LiveEvent": _LIVE_VALUE,
        "StreamError": _STREAM_ERROR,
        "SocketReadings": _SOCKET_READINGS,
        "SocketPost": POST_BODY,
        "SocketAccepted": _SOCKET_ACCEPTED,
        "SocketProblem": _SOCKET_PROBLEM,
    }
