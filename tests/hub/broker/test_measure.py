"""The link shows itself on `/metrics`."""

from __future__ import annotations

from hub.broker.lanes import UpMessage
from hub.broker.link import BrokerLink
from hub.metrics import Metrics
from hub.settings import HubSettings


async def test_each_lane_shows_what_it_took_and_dropped() -> None:
    link, metrics = BrokerLink(HubSettings()), Metrics()

    async def ignore(message: UpMessage) -> None:
        return

    link.handle("data", ignore)
    link.measure(metrics)
    page = metrics.render()
    assert "labrelay_broker_connected 0" in page
    assert "labrelay_lane_data_dropped_messages 0" in page
    assert "labrelay_lane_data_waiting_messages 0" in page
