"""What a sensor and the hub say to each other over WebSocket; JSON, each message with its `type`.

::

    sensor                                         hub
    open {stream, access_token?}          ────►
                                          ◄────    ready {last_seq, window}
    readings {seq: 1, body | columns}     ────►
    readings {seq: 2, …}                  ────►
                                          ◄────    ack {seq: 2, stored, repeated, set_aside}
    readings {seq: 3, …}                  ────►
                                          ◄────    refused {seq: 3, problem}
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeAlias

import msgspec

from hub.errors import Problem, invalid
from hub.ingest import nonfinite
from hub.ingest.body import naming_mistakes, require_distinct
from hub.ingest.streams import SEQ_MAX

Seq = Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX)]
StreamName = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:-]+$")]


class Open(msgspec.Struct, tag_field="type", tag="open", forbid_unknown_fields=True):
    """The first message: which stream of the sensor this connection goes on with."""

    stream: StreamName
    access_token: str | None = None


class Readings(msgspec.Struct, tag_field="type", tag="readings", forbid_unknown_fields=True):
    """Readings; `seq` rises with each message of the stream. Either `body`, as in a post, or `columns`."""

    seq: Seq
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    columns: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Window(msgspec.Struct):
    """What may be on its way without an answer; the hub reads nothing beyond it."""

    messages: int
    readings: int


class Ready(msgspec.Struct, tag_field="type", tag="ready"):
    """The stream is open. All messages up to `last_seq` are dealt with; send those behind it."""

    sensor_id: str
    stream: str
    last_seq: int
    window: Window
    readings_max: int
    message_bytes_max: int


class Acknowledged(msgspec.Struct, tag_field="type", tag="ack"):
    """All messages up to `seq` are dealt with and committed. The counts are those since the last ack."""

    seq: int
    stored: int
    repeated: int
    set_aside: int


class Refused(msgspec.Struct, tag_field="type", tag="refused"):
    """A message is wrong in itself and was not stored; so are all before it dealt with. The stream goes on."""

    seq: int
    problem: dict[str, Any]


class Error(msgspec.Struct, tag_field="type", tag="error"):
    """Why the hub closes the connection right after. What has no ack is to be sent again, on another one."""

    problem: dict[str, Any]
    seq: int | None = None


Said: TypeAlias = Ready | Acknowledged | Refused | Error

_decoder: msgspec.json.Decoder[Open | Readings] = msgspec.json.Decoder(Open | Readings)
_encoder = msgspec.json.Encoder()


def decode(content: bytes) -> Open | Readings:
    """What a sensor says. Raises: Problem 400, 422."""
    with naming_mistakes():
        try:
            message = _decoder.decode(content)
        except msgspec.DecodeError as error:
            if not nonfinite.may_be_why(error, content):
                raise
            message = _with_nonfinite(content)
        else:
            _require_distinct(message, content)
    if isinstance(message, Readings) and (message.body is msgspec.UNSET) == (message.columns is msgspec.UNSET):
        raise invalid("body", "give either `body` or `columns`")
    return message


def encode(message: Said) -> str:
    """What the hub says."""
    return _encoder.encode(message).decode()


def problem_object(problem: Problem) -> dict[str, Any]:
    """An error as it is told within a message."""
    told: dict[str, Any] = {
        "status": problem.status,
        "detail": problem.detail,
        "error": problem.detail,
        "code": problem.code,
    }
    if (retry_after := problem.headers.get("Retry-After")) is not None:
        told["retry_after_s"] = int(retry_after)
    if problem.fields:
        told["errors"] = [{"field": field.field, "message": field.message} for field in problem.fields]
    return told


def _with_nonfinite(content: bytes) -> Open | Readings:
    """A message in which numbers stand that JSON does not have; its body is looked at as it is decoded."""
    found = nonfinite.loads(content)
    if isinstance(found, dict):
        for name in found.keys() & {"body", "columns"}:
            found[name] = msgspec.Raw(json.dumps(found[name]).encode())
    message: Open | Readings = msgspec.convert(found, Open | Readings)
    return message


def _require_distinct(message: Open | Readings, content: bytes) -> None:
    """See that no key of the message stands twice; its body is looked at as it is decoded. Raises: Problem 422."""
    if isinstance(message, Open):
        require_distinct(content, 2 + (message.access_token is not None))
        return
    for part in (message.body, message.columns):
        if part is not msgspec.UNSET:
            content = content.replace(bytes(part), b"0", 1)
    require_distinct(content, 3)
