"""Enrolment against a real HTTP server, plain and with a certificate that only the code vouches for."""

from __future__ import annotations

import base64
import json
import ssl
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.hub_link import credentials as stored
from agent.hub_link.enrol import enrol, parse_code
from agent.hub_link.pinned import pin_of
from agent.identity import load_agent_id
from shared.errors import CredentialsRefused, EnrolmentError

SECRET = base64.b32encode(b"0123456789").decode().rstrip("=")
CODE = f"LR1-{SECRET}"


class Hub:
    """Answers enrolments with `status` and remembers what it was asked."""

    def __init__(self, certificate: tuple[Path, bytes] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = 201
        self.answer: dict[str, Any] | bytes | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hub.asked.append({"path": self.path, **asked})
                answer = hub.answer if hub.answer is not None else hub.good(asked["agent_id"])
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(hub.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate[0])
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def good(self, agent_id: str) -> dict[str, Any]:
        mqtt = {"host": "127.0.0.1", "port": 1883, "tls": False, "ca_pem": None, "username": "a", "password": "secret"}
        return {"agent_id": agent_id, "project_id": str(UUID(int=9)), "name": "bench", "mqtt": mqtt, "extra": 1}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def new_hub() -> Iterator[Callable[..., Hub]]:
    hubs: list[Hub] = []

    def make(*arguments: Any) -> Hub:
        hubs.append(Hub(*arguments))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.close()


def self_signed(folder: Path) -> tuple[Path, bytes]:
    """A certificate that nobody vouches for: PEM file with its key, and DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somewhere else")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{certificate.serial_number}.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path, certificate.public_bytes(serialization.Encoding.DER)


def pinned(der: bytes) -> str:
    return f"{CODE}-{base64.b32encode(pin_of(der)).decode().rstrip('=')}"


def test_a_code_is_exchanged_for_credentials_that_only_the_owner_can_read(
    tmp_path: Path, new_hub: Callable[..., Hub]
) -> None:
    hub = new_hub()
    got = enrol(hub.url, CODE, tmp_path, "bench", version="1.2")
    assert got.agent_id == load_agent_id(tmp_path)
    assert stored.load(tmp_path) == got
    [asked] = hub.asked
    assert asked["path"] == "/api/v1/agents/enrol"
    assert (asked["code"], asked["agent_id"], asked["name"]) == (CODE, str(got.agent_id), "bench")
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert "secret" not in repr(got)


def test_a_pinned_certificate_needs_no_authority(tmp_path: Path, new_hub: Callable[..., Hub]) -> None:
    certificate = self_signed(tmp_path)
    hub = new_hub(certificate)
    assert enrol(hub.url, pinned(certificate[1]).lower(), tmp_path, "bench").name == "bench"


def test_another_certificate_than_the_pinned_one_learns_nothing(tmp_path: Path, new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(self_signed(tmp_path))
    other = self_signed(tmp_path)
    with pytest.raises(EnrolmentError, match="another certificate"):
        enrol(hub.url, pinned(other[1]), tmp_path, "bench")
    assert hub.asked == []
    assert stored.load(tmp_path) is None


def test_without_a_pin_an_unknown_certificate_is_refused(tmp_path: Path, new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(self_signed(tmp_path))
    with pytest.raises(EnrolmentError, match="cannot be verified"):
        enrol(hub.url, CODE, tmp_path, "bench")
    assert hub.asked == []


@pytest.mark.parametrize("url", ["http://192.0.2.1:8000", "http://hub.example"])
def test_plain_http_is_for_loopback_only(tmp_path: Path, url: str) -> None:
    with pytest.raises(EnrolmentError, match="whoever listens"):
        enrol(url, CODE, tmp_path, "bench")


def test_a_pin_and_plain_http_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="plain http"):
        enrol("http://127.0.0.1:1", pinned(b"x"), tmp_path, "bench")


@pytest.mark.parametrize(
    ("status", "said"), [(410, "expired"), (409, "has been used"), (404, "does not know"), (500, "status 500")]
)
def test_the_hubs_refusal_is_told_in_words(tmp_path: Path, new_hub: Callable[..., Hub], status: int, said: str) -> None:
    hub = new_hub()
    hub.status, hub.answer = status, {"title": "No", "detail": "because"}
    with pytest.raises(EnrolmentError, match=f"{said}.*because"):
        enrol(hub.url, CODE, tmp_path, "bench")


def test_an_answer_that_is_none_is_refused(tmp_path: Path, new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    for answer in (b"<html>", b"\xff\xfe", {"agent_id": "1"}, hub.good(str(UUID(int=3)))):
        hub.answer = answer
        with pytest.raises(EnrolmentError):
            enrol(hub.url, CODE, tmp_path, "bench")
    assert stored.load(tmp_path) is None


def test_an_unreachable_hub_is_told_in_words(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(EnrolmentError, match="cannot be reached"):
        enrol(f"http://127.0.0.1:{free_port}", CODE, tmp_path, "bench")


@pytest.mark.parametrize("code", ["", "hello", "LR1-", "LR1-ABC", f"{CODE}-AAAA", "LR2-" + SECRET, f"LR1-{SECRET}1"])
def test_what_is_not_a_code_is_refused_before_anything_is_sent(code: str) -> None:
    with pytest.raises(EnrolmentError):
        parse_code(code)


def test_damaged_credentials_are_reported(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{}")
    with pytest.raises(CredentialsRefused, match="cannot be used"):
        stored.load(tmp_path)
