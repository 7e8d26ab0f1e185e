"""Enrolment: a code from the hub is exchanged for credentials.

A code reads ``LR1-<secret>[-<pin>]``, both in base32 without padding; case, spaces and line breaks do not matter. The
pin is the beginning of the SHA-256 of the hub's certificate: with it the hub needs no certificate that the world knows,
and nobody in between learns the secret. Without it an https hub is verified as browsers do, and plain http is for
loopback only.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from agent.hub_link import credentials as stored
from agent.hub_link.credentials import Credentials, MqttAccess
from agent.hub_link.pinned import PIN_BYTES, PinnedConnection
from agent.identity import load_agent_id
from shared.errors import EnrolmentError

PATH = "/api/v1/agents/enrol"
TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 256 * 1024
SECRET_BYTES_MIN = 8

_CODE = re.compile(r"LR1-([A-Z2-7]+)(?:-([A-Z2-7]+))?")


@dataclass(frozen=True, slots=True)
class Code:
    """A code taken apart; `text` is what the hub is sent, `pin` is None where none is pinned."""

    text: str
    pin: bytes | None


class _Answer(msgspec.Struct, frozen=True):
    agent_id: UUID
    project_id: UUID
    name: str
    mqtt: MqttAccess


class _Problem(msgspec.Struct, frozen=True):
    title: str = ""
    detail: str = ""


def parse_code(code: str) -> Code:
    """Take a code apart. Raises: EnrolmentError."""
    text = re.sub(r"\s", "", code).upper()
    found = _CODE.fullmatch(text)
    if found is None:
        raise EnrolmentError("this is not an enrolment code", hint="it begins with LR1-; copy it whole from the hub")
    secret = _base32(found.group(1))
    pin = _base32(found.group(2)) if found.group(2) else None
    if len(secret) < SECRET_BYTES_MIN or (pin is not None and len(pin) != PIN_BYTES):
        raise EnrolmentError("the enrolment code is not complete", hint="copy it whole from the hub")
    return Code(text, pin)


def enrol(
    hub_url: str, code: str, data_dir: Path, name: str, *, version: str = "", insecure: bool = False
) -> Credentials:
    """Exchange a code for credentials and store them in `data_dir`. Blocks for up to `TIMEOUT_S` a step.

    Args:
        name: how the agent wants to be called at the hub.
        insecure: allow plain http beyond loopback, which shows the secret to whoever listens.

    Raises: EnrolmentError, ConfigurationError when the data directory cannot be used.
    """
    parsed = parse_code(code)
    agent_id = load_agent_id(data_dir)
    question = {
        "code": parsed.text,
        "agent_id": str(agent_id),
        "name": name,
        "host": socket.gethostname(),
        "version": version,
    }
    answer = _ask(hub_url, parsed, msgspec.json.encode(question), insecure=insecure)
    credentials = Credentials(answer.agent_id, answer.project_id, answer.name, answer.mqtt, hub_url.rstrip("/"))
    if answer.agent_id != agent_id:
        raise EnrolmentError("the hub answered for another agent", hint="ask for a new code")
    try:
        stored.store(data_dir, credentials)
    except OSError as error:
        raise EnrolmentError(
            f"the credentials cannot be stored in {data_dir}: {error.strerror}", hint="ask for a new code once they can"
        ) from error
    return credentials


def _ask(hub_url: str, code: Code, question: bytes, *, insecure: bool) -> _Answer:
    connection, path = _connection(hub_url, code, insecure=insecure)
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", path, body=question, headers=headers)
        response = connection.getresponse()
        content = response.read(ANSWER_BYTES_MAX + 1)
    except ssl.SSLCertVerificationError as error:
        raise EnrolmentError(
            f"{hub_url} presents a certificate that cannot be verified: {error.verify_message}",
            hint="use a code with a pin (the hub's `agents` page shows it)",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnrolmentError(
            f"{hub_url} cannot be reached: {error or type(error).__name__}",
            hint="check the address, and that the hub runs",
        ) from error
    finally:
        connection.close()
    if response.status not in (200, 201):
        raise _refusal(response.status, content)
    try:
        if len(content) > ANSWER_BYTES_MAX:
            raise EnrolmentError(f"{hub_url} answers with more than {ANSWER_BYTES_MAX} bytes")
        return msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EnrolmentError(f"{hub_url} does not answer like a hub: {error}", hint="check the address") from error


def _connection(hub_url: str, code: Code, *, insecure: bool) -> tuple[http.client.HTTPConnection, str]:
    try:
        url = urlsplit(hub_url if "//" in hub_url else f"https://{hub_url}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise EnrolmentError(f"{hub_url} is not an address: {error}", hint="https://hub.example:8000") from error
    if not host or url.scheme not in ("http", "https"):
        raise EnrolmentError(f"{hub_url} is not the address of a hub", hint="https://hub.example:8000")
    path = url.path.rstrip("/") + PATH
    if url.scheme == "http":
        if code.pin is not None:
            raise EnrolmentError("the code pins a certificate, but the address is plain http", hint="use https://")
        if not insecure and not _is_loopback(host):
            raise EnrolmentError(
                "plain http would show the code to whoever listens",
                hint="use https://, or --insecure on a network you trust",
            )
        return http.client.HTTPConnection(host, port or 80, timeout=TIMEOUT_S), path
    if code.pin is not None:
        return PinnedConnection(host, port or 443, pin=code.pin, timeout_s=TIMEOUT_S), path
    return http.client.HTTPSConnection(host, port or 443, timeout=TIMEOUT_S), path


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(status: int, content: bytes) -> EnrolmentError:
    """What the hub says, with what to do about it."""
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    said = problem.detail or problem.title
    reasons = {
        401: ("the hub does not know this code", "check it, or ask for a new one"),
        403: ("the hub does not accept this code", "ask for a new one"),
        404: ("the hub does not know this code, or the address is not a hub's", "check both"),
        409: ("the code has been used", "ask for a new one"),
        410: ("the code has expired", "ask for a new one"),
        422: ("the hub does not understand the request", "update the older of hub and agent"),
        429: ("too many attempts", "wait a minute"),
        503: ("the hub is not ready", "try again in a moment"),
    }
    reason, hint = reasons.get(status, (f"the hub answered with status {status}", "see the hub's log"))
    return EnrolmentError(f"{reason}: {said}" if said else reason, hint=hint)


def _base32(text: str) -> bytes:
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise EnrolmentError("the enrolment code is damaged", hint="copy it whole from the hub") from None
