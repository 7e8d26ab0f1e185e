"""Tokens: signed ones for access, random ones for everything that is looked up.

An access token is ``<payload>.<HMAC-SHA256>``, both base64url without padding; the payload is 16 bytes user id, 16
bytes family (the sign-in it came from) and 8 bytes expiry (seconds since 1970, big-endian). It is signed rather than
stored so that a refresh writes one row and a forged token costs no query; each request still looks up user and family,
in one query, so that signing out and deactivating take effect at once.

Refresh tokens, sign-in links, invitations, sensor tokens and enrolment codes are 32 random bytes as base64url; the
database keeps their SHA-256 (a random token needs no slow hash). Personal tokens begin with `lrp_`, so that scanners
for leaked secrets find them, and so that a sensor's token costs no query among them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from shared.errors import ConfigurationError

KEY_BYTES_MIN = 32
TOKEN_LENGTH_MAX = 200
"""Longer ones are no token of ours and are not even hashed."""

PERSONAL_PREFIX = "lrp_"

_PAYLOAD = struct.Struct(">16s16sQ")


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a valid access token says."""

    user_id: UUID
    family: UUID
    expires_s: int


class TokenSigner:
    """Signs and reads access tokens.

    Args:
        key: 32 bytes or more; None draws one that ends with the process.
    """

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and len(key) < KEY_BYTES_MIN:
            raise ConfigurationError(f"the secret key has {len(key)} bytes, at least {KEY_BYTES_MIN} are needed")
        self._key = key or secrets.token_bytes(KEY_BYTES_MIN)

    def sign(self, claims: AccessClaims) -> str:
        """The token."""
        payload = _PAYLOAD.pack(claims.user_id.bytes, claims.family.bytes, claims.expires_s)
        return f"{_encode(payload)}.{_encode(self._signature(payload))}"

    def read(self, token: str, now_s: float) -> AccessClaims | None:
        """What the token says, None if it is not ours or has expired."""
        payload_text, _, signature_text = token.partition(".")
        payload, signature = _decode(payload_text), _decode(signature_text)
        if len(payload) != _PAYLOAD.size or not hmac.compare_digest(signature, self._signature(payload)):
            return None
        user_id, family, expires_s = _PAYLOAD.unpack(payload)
        return AccessClaims(UUID(bytes=user_id), UUID(bytes=family), expires_s) if now_s < expires_s else None

    def derive(self, purpose: str, content: bytes) -> str:
        """A token of 256 bits that can be made again: by whoever has the key, out of what is no secret."""
        return _encode(hmac.digest(self._key, f"labrelay {purpose}\0".encode() + content, "sha256"))

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, b"labrelay access\0" + payload, "sha256")


def new_token() -> str:
    """A random token of 256 bits (43 characters)."""
    return secrets.token_urlsafe(32)


def new_personal_token() -> str:
    """A random personal token (47 characters)."""
    return PERSONAL_PREFIX + new_token()


def token_hash(token: str) -> bytes:
    """What the database keeps of a random token: its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def load_or_make_key(path: Path) -> bytes:
    """The key in this file, made (readable by the owner only) if there is none. Raises: ConfigurationError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    except OSError as error:
        raise ConfigurationError(f"cannot make the secret key file {path}: {error}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_urlsafe(KEY_BYTES_MIN).encode())
        file.flush()
        os.fsync(file.fileno())
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read the secret key file {path}: {error}") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    if len(text) > TOKEN_LENGTH_MAX or not text.isascii():
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
