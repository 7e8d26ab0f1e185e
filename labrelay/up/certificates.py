"""A certificate authority of this machine's own, for HTTPS and MQTT in the local network (`labrelay up --lan`).

::

    <folder>/ca.crt       give this to browsers and agents
    <folder>/ca.key       0600, never leaves the machine
    <folder>/server.crt   the server's certificate, followed by the authority's
    <folder>/server.key   0600

The server's certificate is made anew when the machine's names or addresses change, or 30 days before it ends. The
authority stays, because agents pin it.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labrelay.up import secret_files

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397
"""More is refused by some browsers."""
_RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a TLS server needs.

    Attributes:
        chain: the certificate and its authority's, PEM.
        key: the private key, PEM, readable by us only.
        authority: what clients need to trust, PEM.
    """

    chain: Path
    key: Path
    authority: Path


def ensure(folder: Path, names: Sequence[str]) -> ServerCertificate:
    """A valid certificate for `names` (host names and IP addresses), made where there is none. Raises: OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = ServerCertificate(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    authority_key, authority = _authority(folder)
    if not _still_good(files, authority, names):
        _issue(files, names, authority_key, authority)
    return files


def lan_address() -> str:
    """The address by which this machine is seen in its network; loopback if it has none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: selects the default route
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if key_file.exists() and certificate_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OSError(f"{key_file} is not a key of ours")
        return key, x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Labrelay on {socket.gethostname()}"[:64])])
    certificate = (
        _template(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret_files.write(key_file, _private_pem(key))
    secret_files.write(certificate_file, _pem(certificate), mode=0o644)
    return key, certificate


def _issue(
    files: ServerCertificate,
    names: Sequence[str],
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        _template(subject, authority.subject, key.public_key(), _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    secret_files.write(files.key, _private_pem(key))
    secret_files.write(files.chain, _pem(certificate) + _pem(authority), mode=0o644)


def _template(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks in laboratories differ
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _still_good(files: ServerCertificate, authority: x509.Certificate, names: Sequence[str]) -> bool:
    try:
        held = x509.load_pem_x509_certificate(files.chain.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        held.verify_directly_issued_by(authority)
        alternatives = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    left = held.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return (
        key.public_key() == held.public_key()
        and left > datetime.timedelta(days=_RENEW_DAYS)
        and set(alternatives) == {_general_name(name) for name in names}
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
