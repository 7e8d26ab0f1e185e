"""Enrolment codes that can be shown again to a repeat of the request that drew one, although only a hash is kept.

Without an `Idempotency-Key` a code is random. With one its secret is derived from the hub's secret key, the project,
the moment at which it expires, and that key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from hub.access.tokens import TokenSigner
from hub.agents.enrol import SECRET_BYTES, code_hash, new_code
from hub.agents.views import Code
from hub.errors import conflict

_CHECK_BYTES = 3


class KeptCode(BaseModel):
    """What is kept of an answer that shows a code: nothing that the code could be made of without the secret key."""

    project_id: UUID
    expires_at: datetime
    check: str

    @staticmethod
    def of(view: BaseModel) -> KeptCode:
        """The answer without its code."""
        assert isinstance(view, Code)
        return KeptCode(project_id=view.project_id, expires_at=view.expires_at, check=_check(view.code))


@dataclass(frozen=True, slots=True)
class Drawing:
    """How codes are drawn for a request.

    Attributes:
        certificate: whose pin stands in the code.
        key_text: the request's `Idempotency-Key`, if it has one.
    """

    signer: TokenSigner
    certificate: Path | None
    key_text: str | None

    def code(self, project_id: UUID, expires_at: datetime) -> str:
        """A code. Raises: ConfigurationError when the certificate cannot be read."""
        if self.key_text is None:
            return new_code(self.certificate)
        content = f"{project_id} {expires_at.timestamp():.6f} {self.key_text}"
        token = self.signer.derive("enrolment code", content.encode())
        return new_code(self.certificate, hashlib.sha256(token.encode()).digest()[:SECRET_BYTES])

    def restore(self, kept: bytes) -> bytes:
        """The answer that was given. Raises: Problem 409 when the hub's secret key is another one by now."""
        known = KeptCode.model_validate_json(kept)
        code = self.code(known.project_id, known.expires_at)
        if _check(code) != known.check:
            raise conflict("this code cannot be shown again; ask for another one", code="code_lost")
        return Code(code=code, project_id=known.project_id, expires_at=known.expires_at).model_dump_json().encode()


def _check(code: str) -> str:
    return code_hash(code)[:_CHECK_BYTES].hex()
