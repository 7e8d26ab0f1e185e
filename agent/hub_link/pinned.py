"""HTTPS to a server that is known by its certificate alone: no authority, no host name, only the pinned bytes count.

The connection is made without verification, the certificate that it presented is compared with the pin, and only then
is anything sent, over that same connection.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl

from shared.errors import EnrolmentError

PIN_BYTES = 16


def pin_of(certificate_der: bytes) -> bytes:
    """The first 16 bytes of the certificate's SHA-256."""
    return hashlib.sha256(certificate_der).digest()[:PIN_BYTES]


class PinnedConnection(http.client.HTTPSConnection):
    """An HTTPS connection to the holder of one certificate.

    Raises: EnrolmentError from `connect` (and so from the first request) when the server presents another one.
    """

    def __init__(self, host: str, port: int, *, pin: bytes, timeout_s: float) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._pin = pin

    def connect(self) -> None:
        """Connect and compare."""
        super().connect()
        certificate = self.sock.getpeercert(binary_form=True) if isinstance(self.sock, ssl.SSLSocket) else None
        if certificate is None or not hmac.compare_digest(pin_of(certificate), self._pin):
            self.close()
            raise EnrolmentError(
                f"{self.host}:{self.port} presents another certificate than the code pins",
                hint="the hub was set up anew, or somebody is in between: ask for a new code and compare the addresses",
            )
