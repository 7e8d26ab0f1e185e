"""One attempt at a webhook: signed, sent to an address that was checked, judged by its status alone.

Headers
    * `X-Webhook-Event`, `X-Webhook-Event-Id`: what happened; ids rise in the order in which it did.
    * `X-Webhook-Delivery-Id`: the same for all attempts at one delivery.
    * `X-Webhook-Timestamp`: when this attempt was made, in Unix seconds.
    * `X-Webhook-Signature`: `sha256=` and the HMAC-SHA256 of the raw body.
    * `X-Webhook-Signature-V2`: the same of `<timestamp>.<body>`, so that an old request cannot be sent again as new.

A redirect is a failure, a proxy of the environment is not used, and nothing of an answer's body is read.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import httpx

from hub.events.target import Address, Guard, Target, TargetRefused, parse
from shared.clock import Clock

REASON_LENGTH_MAX = 300
USER_AGENT = "labrelay-webhook/1"
CONNECT_PART = 0.9
"""Of the time for an attempt: connecting gives up by itself before, for a TLS handshake that is cancelled leaves its
socket to the garbage collector."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be sent.

    Attributes:
        secret: signs it; nothing is signed where it is empty.
    """

    delivery_id: UUID
    event_id: int
    event_type: str
    target_url: str
    body: bytes
    secret: str


class Sender:
    """Makes attempts. To be closed.

    Args:
        timeout_s: for one attempt, looking the name up included.
    """

    def __init__(self, guard: Guard, clock: Clock, *, timeout_s: float) -> None:
        self._guard = guard
        self._clock = clock
        self._timeout_s = timeout_s
        # No connection is kept: the next delivery may not share one that was verified for another name.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_PART * timeout_s),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def attempt(self, message: Message) -> str:
        """Send it once. Returns: why it failed, empty where it did not."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(message)
        except (TimeoutError, httpx.ConnectTimeout):
            return f"no answer within {self._timeout_s:g} s"
        except TargetRefused as error:
            return f"refused: {error.message}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return _reason(error)

    async def close(self) -> None:
        """End what is open."""
        await self._client.aclose()

    async def _send(self, message: Message) -> str:
        target = parse(message.target_url)
        addresses = await self._guard.addresses(target)
        headers = signed(message, round(self._clock.now_us() / 1e6)) | {"Host": target.authority}
        for place, address in enumerate(addresses, start=1):
            try:
                status = await self._post(target, address, message.body, headers)
            except httpx.ConnectError:
                if place == len(addresses):
                    raise
            else:
                return "" if 200 <= status < 300 else _refusal(status)
        raise AssertionError("a target has addresses")

    async def _post(self, target: Target, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
        extensions = {"sni_hostname": target.host} if target.scheme == "https" else {}
        url = target.url_at(address)
        async with self._client.stream(
            "POST", url, content=body, headers=dict(headers), extensions=extensions
        ) as answer:
            return answer.status_code


def signed(message: Message, timestamp_s: int) -> dict[str, str]:
    """The headers of an attempt at this time."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-Webhook-Event": message.event_type,
        "X-Webhook-Event-Id": str(message.event_id),
        "X-Webhook-Delivery-Id": str(message.delivery_id),
        "X-Webhook-Timestamp": str(timestamp_s),
    }
    if message.secret:
        headers["X-Webhook-Signature"] = _signature(message.secret, message.body)
        headers["X-Webhook-Signature-V2"] = _signature(message.secret, b"%d.%b" % (timestamp_s, message.body))
    return headers


def _signature(secret: str, content: bytes) -> str:
    return f"sha256={hmac.digest(secret.encode(), content, 'sha256').hex()}"


def _refusal(status: int) -> str:
    return f"HTTP {status}; redirects are not followed" if 300 <= status < 400 else f"HTTP {status}"


def _reason(error: Exception) -> str:
    text = str(error).replace("\0", "") or type(error).__name__
    return text.encode("utf-8", "replace").decode()[:REASON_LENGTH_MAX]
