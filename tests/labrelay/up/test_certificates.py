"""The local authority: what it issues is accepted by TLS clients that trust it, and it stays the same."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from labrelay.up import certificates
from labrelay.up.certificates import ServerCertificate

NAMES = ["lab.example", "192.0.2.7", "localhost", "127.0.0.1"]


async def handshake(certificate: ServerCertificate, name: str) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate.chain, certificate.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    client_side = ssl.create_default_context(cafile=str(certificate.authority))
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname=name)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", NAMES)
async def test_a_client_that_trusts_the_authority_accepts_each_name(tmp_path: Path, name: str) -> None:
    await handshake(certificates.ensure(tmp_path, NAMES), name)


async def test_a_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(certificates.ensure(tmp_path, NAMES), "evil.example")


def test_nothing_is_issued_anew_while_it_is_good(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path, NAMES).chain.read_bytes()
    assert certificates.ensure(tmp_path, NAMES).chain.read_bytes() == first


def test_new_names_get_a_new_certificate_from_the_same_authority(tmp_path: Path) -> None:
    before = certificates.ensure(tmp_path, NAMES)
    authority, chain = before.authority.read_bytes(), before.chain.read_bytes()
    after = certificates.ensure(tmp_path, [*NAMES, "192.0.2.8"])
    assert after.authority.read_bytes() == authority
    assert after.chain.read_bytes() != chain


@pytest.mark.parametrize("broken", ["server.crt", "server.key"])
async def test_a_lost_or_broken_file_is_made_anew(tmp_path: Path, broken: str) -> None:
    certificates.ensure(tmp_path, NAMES)
    (tmp_path / broken).write_text("garbage")
    await handshake(certificates.ensure(tmp_path, NAMES), "localhost")


def test_keys_are_for_their_owner_only_and_nothing_is_valid_for_ever(tmp_path: Path) -> None:
    made = certificates.ensure(tmp_path, NAMES)
    for key in ("ca.key", "server.key"):
        assert (tmp_path / key).stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(made.chain.read_bytes())
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < datetime.timedelta(days=400)


def test_the_lan_address_is_an_address() -> None:
    assert certificates.lan_address().count(".") == 3
