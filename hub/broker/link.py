"""The hub's one connection to the MQTT broker.

Invariants
    * Nothing waits inside the MQTT library: each message goes straight into the bounded queue of its lane. A full queue
      drops the message and counts it; agents offer their batches again, and states and values follow anyway.
    * A message larger than its lane allows is refused by its size alone, unread, and counted.
    * The session is clean: subscriptions are made anew with every connection, and the broker keeps nothing for us.
    * One lane's work never delays another's: each has a worker of its own.

The protocol is MQTT 3.1.1, which every broker speaks. MQTT 5 would add nothing here: aiomqtt does not show the reason
code of a PUBACK, and acknowledgements that prove something are our own (`down/ack`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode

from hub.broker.lanes import LANE_BYTES_MAX, Handler, Lane, LaneCounts, UpMessage
from hub.metrics import Metrics
from hub.settings import HubSettings, read_secret
from shared import topics
from shared.errors import ConfigurationError, CredentialsRefused, LabrelayError, LinkError, LinkUnavailable
from shared.mqtt_line import MqttLine

log = logging.getLogger(__name__)

CONTROL_RESPONSE = "$CONTROL/dynamic-security/v1/response"

ControlHandler: TypeAlias = Callable[[bytes], None]

_RETRY_S_MIN = 0.25
_REFUSED_RETRY_S = 30.0
_AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""Else a message waits up to 40 ms for the broker to confirm the segment before it."""
_BAD_CREDENTIALS = (134, 135)
"""Reason codes for a wrong password and for no permission; paho translates those of MQTT 3.1.1 to these."""
_SUBSCRIPTION_QOS = 1
_SUBSCRIPTION_REFUSED = 128


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the connection is.

    Attributes:
        since_s: monotonic seconds at which it became so.
        error: why it is not connected, with what to do; empty when it is.
    """

    connected: bool
    since_s: float
    error: str = ""


class _Line(MqttLine):
    """A connection that passes each message on at once."""

    def __init__(self, route: Callable[[str, bytes, bool], None], *where: Any, **options: Any) -> None:
        super().__init__(*where, **options)
        self._route = route

    def came(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Pass it on."""
        self._route(topic, payload, retain)


class BrokerLink:
    """The connection, kept up by `run`.

    Args:
        settings: where the broker is and who we are.
        client_id: ours at the broker; drawn if empty.
    """

    def __init__(self, settings: HubSettings, *, client_id: str = "") -> None:
        self._settings = settings
        self._client_id = client_id or f"labrelay-hub-{random.getrandbits(48):012x}"
        self._lanes: dict[str, Lane] = {}
        self._control: ControlHandler | None = None
        self._on_connected: list[Callable[[], None]] = []
        self._client: _Line | None = None
        self._up = asyncio.Event()
        self._state = LinkState(False, 0.0, "not yet connected")
        self._told: set[str] = set()
        self.stray = 0
        """Messages on topics that no lane is for."""

    @property
    def connected(self) -> bool:
        """Whether messages pass now."""
        return self._state.connected

    @property
    def state(self) -> LinkState:
        """How the connection is, and why."""
        return self._state

    @property
    def counts(self) -> Mapping[str, LaneCounts]:
        """What happened to messages, by lane."""
        return {name: lane.counts for name, lane in self._lanes.items()}

    def measure(self, metrics: Metrics) -> None:
        """Show the link on `/metrics`. After the lanes are handled."""
        metrics.gauge("labrelay_broker_connected", "1 while messages pass", lambda: float(self.connected))
        metrics.gauge("labrelay_broker_stray_messages", "Messages that no lane is for", lambda: float(self.stray))
        for name, lane in self._lanes.items():
            prefix = f"labrelay_lane_{name}"
            metrics.gauge(f"{prefix}_waiting_messages", "Messages that wait", _asking(lane.queue, "qsize"))
            for count in ("received", "dropped", "oversized", "failed"):
                metrics.gauge(f"{prefix}_{count}_messages", f"Messages {count} so far", _asking(lane.counts, count))

    def waiting(self, lane: str) -> int:
        """Messages of a lane that wait for their handler."""
        return self._lanes[lane].queue.qsize()

    def handle(self, lane: topics.Up, handler: Handler) -> None:
        """Give the lane's messages to `handler`, one after the other. Before `run`."""
        queue: asyncio.Queue[UpMessage] = asyncio.Queue(self._settings.broker_lane_messages_max)
        self._lanes[lane] = Lane(lane, handler, queue, LANE_BYTES_MAX[lane])

    def handle_control(self, handler: ControlHandler) -> None:
        """Give answers of the broker's dynamic security to `handler`, which must not block. Before `run`."""
        self._control = handler

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call `callback`, which must not block, after each (re)connection."""
        self._on_connected.append(callback)

    async def wait_connected(self) -> None:
        """Return as soon as messages pass."""
        await self._up.wait()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Hand a message to the broker; with QoS 1, return once the broker has it (which proves no delivery).

        Raises: LinkUnavailable.
        """
        client = self._client
        if client is None:
            raise LinkUnavailable(f"no connection to the broker: {self._state.error}")
        try:
            await client.send(topic, payload, qos=qos, retain=retain)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise LinkUnavailable(f"the broker did not take a message for {topic}: {error}") from error

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes.values():
                group.create_task(lane.work(), name=f"lane {lane.name}")
            group.create_task(self._stay_connected(), name="broker connection")

    async def _stay_connected(self) -> None:
        pause_s = _RETRY_S_MIN
        while True:
            error = await self._connect_once()
            if self._state.connected:
                pause_s = _RETRY_S_MIN
            self._note_down(error)
            slow = not error.retryable
            await asyncio.sleep((_REFUSED_RETRY_S if slow else pause_s) * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, self._settings.broker_retry_s_max)

    async def _connect_once(self) -> LabrelayError:
        """One connection, from beginning to end; why it ended."""
        try:
            async with self._new_client() as client:
                await self._subscribe(client)
                self._note_up(client)
                try:
                    async for _ in client.messages:  # none is left there: ends with an error when the connection does
                        pass
                finally:
                    self._client = None
                    self._up.clear()
        except MqttConnectError as error:
            return self._refusal(error)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            return LinkUnavailable(f"lost or could not reach the broker: {error.__cause__ or error}")
        except (CredentialsRefused, ConfigurationError) as error:
            return error
        return LinkUnavailable("the broker closed the connection")

    def _new_client(self) -> _Line:
        settings = self._settings
        password = read_secret(settings.mqtt_password_file).get_secret_value() if settings.mqtt_password_file else None
        return _Line(
            self._route,
            settings.mqtt_host,
            settings.mqtt_port,
            identifier=self._client_id,
            username=settings.mqtt_username or None,
            password=password,
            clean_session=True,
            timeout=settings.broker_timeout_s,
            keepalive=20,
            tls_context=self._tls(),
            socket_options=[_AT_ONCE],
        )

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.mqtt_ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=str(self._settings.mqtt_ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"cannot use mqtt_ca_file: {error}", key=("mqtt_ca_file",)) from error

    def _route(self, topic: str, payload: bytes, retain: bool) -> None:
        found = topics.parse_up(topic)
        if found is not None and found.lane in self._lanes:
            self._lanes[found.lane].offer(UpMessage(found.agent_id, found.lane, payload, retain))
        elif topic == CONTROL_RESPONSE and self._control is not None:
            self._control(payload)
        else:
            self.stray += 1

    async def _subscribe(self, client: _Line) -> None:
        wanted = [(topics.ALL_UP, _SUBSCRIPTION_QOS)] if self._lanes else []
        if self._control is not None:
            wanted.append((CONTROL_RESPONSE, _SUBSCRIPTION_QOS))
        if not wanted:
            return
        granted = [_code(code) for code in await client.subscribe(wanted)]
        for (topic, _), code in zip(wanted, granted, strict=False):
            if code >= _SUBSCRIPTION_REFUSED:
                raise CredentialsRefused(
                    f"the broker does not let {self._settings.mqtt_username!r} read {topic}",
                    hint="give the hub's user the rights that docs/deployment lists",
                )

    def _refusal(self, error: MqttConnectError) -> LinkError:
        if isinstance(error.rc, ReasonCode) and error.rc.value in _BAD_CREDENTIALS:
            return CredentialsRefused(
                f"the broker at {self._settings.mqtt_host}:{self._settings.mqtt_port} refuses the user "
                f"{self._settings.mqtt_username!r}",
                hint="check mqtt_username and mqtt_password_file",
            )
        return LinkUnavailable(f"the broker refused the connection: {error}")

    def _note_up(self, client: _Line) -> None:
        self._client = client
        self._state = LinkState(True, asyncio.get_running_loop().time())
        self._up.set()
        self._told.clear()
        log.info("event=broker_connected host=%s port=%d", self._settings.mqtt_host, self._settings.mqtt_port)
        for callback in self._on_connected:
            callback()

    def _note_down(self, error: LabrelayError) -> None:
        if str(error) not in self._told:  # since the last connection
            log.warning("event=broker_away error=%r", str(error))
            self._told.add(str(error))
        since_s = asyncio.get_running_loop().time() if self._state.connected else self._state.since_s
        self._state = LinkState(False, since_s, str(error))


def _asking(of: object, name: str) -> Callable[[], float]:
    def ask() -> float:
        found: Any = getattr(of, name)
        return float(found() if callable(found) else found)

    return ask


def _code(code: int | ReasonCode) -> int:
    return code if isinstance(code, int) else code.value
