"""The hub's key for certificates, and the signature.

A document is `{"certificate": {…}, "signature": {…}}`. Ed25519 over the canonical JSON (`shared.canonical`) of the
certificate alone; the signature names its key by the first 16 hex digits of the SHA-256 of the public key's 32 bytes,
and carries these too.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.canonical import canonical_json
from shared.errors import ConfigurationError

ALGORITHM = "Ed25519"
DEFAULT_NAME = "certificate-key.pem"
_KEY_ID_LENGTH = 16


class CertificateKey:
    """Signs certificates.

    Args:
        key: None draws one that ends with the process.
    """

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self._key = key or Ed25519PrivateKey.generate()
        public = self._key.public_key()
        self._public = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = base64.b64encode(self._public).decode()
        """Its 32 bytes as base64."""
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        """The same as PEM."""
        self.id = hashlib.sha256(self._public).hexdigest()[:_KEY_ID_LENGTH]
        """How signatures name it."""

    def document(self, certificate: dict[str, Any]) -> dict[str, Any]:
        """The certificate with its signature. Raises: ValueError for what has no canonical form."""
        value = self._key.sign(canonical_json(certificate))
        signature = {
            "algorithm": ALGORITHM,
            "key_id": self.id,
            "public_key": self.public_key,
            "value": base64.b64encode(value).decode(),
        }
        return {"certificate": certificate, "signature": signature}


def key_of(configured: Path | None, secret_key_file: Path | None) -> CertificateKey:
    """The hub's: where the settings say, else beside the secret key, else one that ends with the process.

    Raises: ConfigurationError.
    """
    if configured is None and secret_key_file is not None:
        configured = secret_key_file.parent / DEFAULT_NAME
    return CertificateKey() if configured is None else load_or_make(configured)


def load_or_make(path: Path) -> CertificateKey:
    """The key in this file, made (readable by the owner only) if there is none. Raises: ConfigurationError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise ConfigurationError(f"cannot make the key file for certificates {path}: {error}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    return _load(path)


def _load(path: Path) -> CertificateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(f"cannot read the key file for certificates {path}: {error}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{path} holds no private key as PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} holds another key than one of Ed25519")
    return CertificateKey(key)
