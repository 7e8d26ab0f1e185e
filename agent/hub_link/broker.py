"""One connection to the broker, and its errors in our words.

MQTT 3.1.1: what version 5 would add, the reason in a PUBACK, aiomqtt does not pass on, and brokers that do not speak it
are served too. The client id names the instance, so that a cloned agent shows up as a second one instead of the two
throwing each other out; sessions are clean, because the spool is the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode

from agent.hub_link.connection import Connection
from agent.hub_link.credentials import Credentials
from agent.hub_link.settings import HubSettings
from shared import topics
from shared.errors import CredentialsRefused, LinkUnavailable

FAREWELL_S = 1.0
_AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""Else a message waits up to 40 ms for the broker to confirm the segment before it."""
_NOT_AUTHORISED = (4, 5, 134, 135)


@contextlib.asynccontextmanager
async def connected(
    access: Credentials, *, instance: str, farewell: bytes, settings: HubSettings
) -> AsyncIterator[Connection]:
    """A connection to the broker, subscribed to nothing.

    Args:
        instance: names this run of the agent.
        farewell: the retained state that the broker publishes when the connection is lost, and that we publish
            ourselves when the body is cancelled.

    Raises: CredentialsRefused, LinkUnavailable, also for what happens to the connection inside the body.
    """
    client = _client(access, instance, farewell, settings)
    with _translated(access):
        await client.__aenter__()
        try:
            yield client
        except asyncio.CancelledError:
            with contextlib.suppress(aiomqtt.MqttError):
                state = topics.up(access.agent_id, "state")
                await client.publish(state, farewell, qos=1, retain=True, timeout=FAREWELL_S)
            raise
        finally:
            await client.__aexit__(None, None, None)


async def publish(connection: Connection, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
    """Returns when the broker has confirmed (QoS 1) or the line has taken it (QoS 0). Raises: aiomqtt.MqttError."""
    await connection.send(topic, payload, qos=qos, retain=retain)


async def subscribe(connection: Connection, topics_with_qos: list[tuple[str, int]]) -> None:
    """Returns when the broker has confirmed. Raises: aiomqtt.MqttError."""
    await connection.subscribe(topics_with_qos)


def _client(access: Credentials, instance: str, farewell: bytes, settings: HubSettings) -> Connection:
    mqtt = access.mqtt
    return Connection(
        mqtt.host,
        mqtt.port,
        username=mqtt.username,
        password=mqtt.password,
        identifier=f"labrelay-{access.agent_id}-{instance[:8]}",
        will=aiomqtt.Will(topics.up(access.agent_id, "state"), farewell, qos=1, retain=True),
        clean_session=True,
        timeout=settings.connect_timeout_s,
        keepalive=settings.keepalive_s,
        tls_context=_tls(mqtt.ca_pem) if mqtt.tls else None,
        socket_options=[_AT_ONCE],
    )


def _tls(ca_pem: str | None) -> ssl.SSLContext:
    """Trusts the authority that enrolment brought, else the system's."""
    try:
        return ssl.create_default_context(cadata=ca_pem or None)
    except ssl.SSLError as error:
        raise CredentialsRefused(
            f"the broker's certificate authority cannot be read: {error}", hint="enrol again"
        ) from None


@contextlib.contextmanager
def _translated(access: Credentials) -> Iterator[None]:
    """MQTT's errors in our words; several at once are those of tasks that lost the same connection."""
    try:
        yield
    except (aiomqtt.MqttError, OSError) as error:
        raise _in_our_words(error, access) from error
    except ExceptionGroup as group:
        lost, others = group.split((aiomqtt.MqttError, OSError))
        if others is not None or lost is None:
            raise
        raise _in_our_words(_first(lost), access) from None


def _in_our_words(error: BaseException, access: Credentials) -> CredentialsRefused | LinkUnavailable:
    where = f"{access.mqtt.host}:{access.mqtt.port}"
    reason = error.rc if isinstance(error, MqttConnectError) else None
    if (reason.value if isinstance(reason, ReasonCode) else reason) in _NOT_AUTHORISED:
        return CredentialsRefused(
            f"{where} does not accept the credentials of agent {access.name}",
            hint="the agent was revoked or the broker set up anew: enrol it again",
        )
    return LinkUnavailable(f"{where}: {error or type(error).__name__}")


def _first(group: BaseException) -> BaseException:
    """One error of a group, for people."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
