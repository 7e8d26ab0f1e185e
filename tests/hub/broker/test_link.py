"""The hub's link to a real broker: lanes, bounds, reconnection, refusals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiomqtt
import pytest

from hub.broker.lanes import UpMessage
from hub.broker.link import BrokerLink
from hub.database.ids import uuid7
from hub.settings import HubSettings
from shared import topics
from shared.errors import LinkUnavailable
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.servers import Mosquitto
from tests.hub.broker.conftest import running

NewProxy = Callable[[str, int], Awaitable[FaultProxy]]


class Inbox:
    """Collects messages of a lane."""

    def __init__(self) -> None:
        self.messages: list[UpMessage] = []
        self.arrived = asyncio.Event()

    async def take(self, message: UpMessage) -> None:
        self.messages.append(message)
        self.arrived.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.messages) < count:
                self.arrived.clear()
                await self.arrived.wait()


def _client(broker: Mosquitto) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, username=broker.username, password=broker.password)


async def test_messages_of_agents_reach_the_handler_of_their_lane(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    link, state, live, agent_id = BrokerLink(broker_settings), Inbox(), Inbox(), uuid7()
    link.handle("state", state.take)
    link.handle("live", live.take)
    async with running(link), _client(mosquitto) as client:
        await client.publish(topics.up(agent_id, "state"), b"a", qos=1)
        await client.publish(topics.up(agent_id, "live"), b"b", qos=0)
        await client.publish(topics.up(agent_id, "reply"), b"c", qos=1)
        await state.until(1)
        await live.until(1)
    assert (state.messages[0].agent_id, state.messages[0].payload) == (agent_id, b"a")
    assert live.messages[0].payload == b"b"


async def test_an_oversized_message_is_counted_and_not_handled(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    link, inbox, agent_id = BrokerLink(broker_settings), Inbox(), uuid7()
    link.handle("time", inbox.take)
    async with running(link), _client(mosquitto) as client:
        await client.publish(topics.up(agent_id, "time"), bytes(100_000), qos=1)
        await client.publish(topics.up(agent_id, "time"), b"ok", qos=1)
        await inbox.until(1)
    assert [message.payload for message in inbox.messages] == [b"ok"]
    assert link.counts["time"].oversized == 1


async def test_a_full_lane_drops_and_counts_and_holds_up_no_other(
    mosquitto: Mosquitto, broker_settings: HubSettings
) -> None:
    settings = broker_settings.model_copy(update={"broker_lane_messages_max": 10})
    link, time, agent_id, gate = BrokerLink(settings), Inbox(), uuid7(), asyncio.Event()

    async def stuck(message: UpMessage) -> None:
        await gate.wait()

    link.handle("data", stuck)
    link.handle("time", time.take)
    async with running(link), _client(mosquitto) as client:
        for _ in range(30):
            await client.publish(topics.up(agent_id, "data"), b"x", qos=1)
        await client.publish(topics.up(agent_id, "time"), b"y", qos=1)
        await time.until(1)
        counts = link.counts["data"]
        assert (counts.received, counts.dropped) == (30, 19)
        gate.set()


async def test_a_handler_that_fails_does_not_end_its_lane(mosquitto: Mosquitto, broker_settings: HubSettings) -> None:
    link, inbox, agent_id = BrokerLink(broker_settings), Inbox(), uuid7()

    async def picky(message: UpMessage) -> None:
        if message.payload == b"bad":
            raise ValueError("no")
        await inbox.take(message)

    link.handle("state", picky)
    async with running(link), _client(mosquitto) as client:
        await client.publish(topics.up(agent_id, "state"), b"bad", qos=1)
        await client.publish(topics.up(agent_id, "state"), b"good", qos=1)
        await inbox.until(1)
    assert link.counts["state"].failed == 1


async def test_a_cut_line_is_connected_again_with_its_subscriptions(
    mosquitto: Mosquitto, broker_settings: HubSettings, fault_proxy: NewProxy
) -> None:
    proxy = await fault_proxy(mosquitto.host, mosquitto.port)
    link, inbox, agent_id = BrokerLink(broker_settings.model_copy(update={"mqtt_port": proxy.port})), Inbox(), uuid7()
    connections: list[None] = []
    link.handle("state", inbox.take)
    link.on_connected(lambda: connections.append(None))
    async with running(link), _client(mosquitto) as client:
        await proxy.cut()
        async with asyncio.timeout(20):
            while link.connected:
                await asyncio.sleep(0.01)
        with pytest.raises(LinkUnavailable):
            await link.publish("labrelay/v1/x", b"")
        assert link.state.error
        proxy.forward()
        await asyncio.wait_for(link.wait_connected(), 20)
        await client.publish(topics.up(agent_id, "state"), b"back", qos=1)
        await inbox.until(1)
    assert len(connections) == 2


async def test_wrong_credentials_are_told_apart_from_a_broker_that_is_away(
    mosquitto: Mosquitto, broker_settings: HubSettings, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    link = BrokerLink(broker_settings.model_copy(update={"mqtt_password_file": wrong}))
    link.handle("state", Inbox().take)
    async with running(link, connected=False):
        async with asyncio.timeout(20):
            while "refuses the user" not in link.state.error:
                await asyncio.sleep(0.01)
    assert "mqtt_password_file" in link.state.error


async def test_a_broker_that_is_not_there_is_named(free_port: int, broker_settings: HubSettings) -> None:
    link = BrokerLink(broker_settings.model_copy(update={"mqtt_port": free_port}))
    link.handle("state", Inbox().take)
    async with running(link, connected=False):
        async with asyncio.timeout(20):
            while "could not reach" not in link.state.error:
                await asyncio.sleep(0.01)


async def test_a_proxy_that_slams_the_door_while_the_broker_is_away_costs_no_time(
    mosquitto: Mosquitto, broker_settings: HubSettings, fault_proxy: NewProxy
) -> None:
    proxy = await fault_proxy(mosquitto.host, mosquitto.port)
    settings = broker_settings.model_copy(update={"mqtt_port": proxy.port, "broker_timeout_s": 60.0})
    await proxy.cut()
    link = BrokerLink(settings)
    async with running(link, connected=False):
        async with asyncio.timeout(20):
            while proxy.connections_total < 3:
                await asyncio.sleep(0.02)
        proxy.forward()
        await asyncio.wait_for(link.wait_connected(), 20)


async def test_a_message_does_not_wait_for_the_broker_to_confirm_the_one_before(broker_settings: HubSettings) -> None:
    link = BrokerLink(broker_settings)
    async with running(link):
        assert link._client is not None
        line = link._client._client.socket()
        assert isinstance(line, socket.socket)
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_broker_that_is_away_for_long_is_one_line_a_reason_in_the_log(
    broker_settings: HubSettings, caplog: pytest.LogCaptureFixture, fault_proxy: NewProxy
) -> None:
    caplog.set_level("DEBUG")
    proxy = await fault_proxy("127.0.0.1", 1)  # nobody is behind it
    fast = {"mqtt_port": proxy.port, "broker_retry_s_max": 0.01}
    link = BrokerLink(broker_settings.model_copy(update=fast))
    link.handle("state", Inbox().take)
    tries = 0
    connect = link._new_client

    def count() -> aiomqtt.Client:
        nonlocal tries
        tries += 1
        return connect()

    link._new_client = count  # type: ignore[method-assign]
    async with running(link, connected=False), asyncio.timeout(30):
        while tries < 12:
            await asyncio.sleep(0.01)
    lines = [record.getMessage() for record in caplog.records if record.levelno > 10]
    assert lines
    assert all(line.startswith("event=broker_away") for line in lines)
    assert len(lines) == len(set(lines))
