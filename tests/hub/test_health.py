"""Health and metrics, whatever state the database is in."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from hub.metrics import Metrics
from hub.settings import HubSettings
from tests.fixtures.proxy import FaultProxy
from tests.hub.conftest import Hub, running_hub


async def test_the_hub_says_that_it_is_there(hub: Hub) -> None:
    for path in ("/health", "/health/live"):
        answer = await hub.client().get(path)
        assert answer.json() == {"status": "ok", "service": "labrelay-hub", "env": "production"}


async def test_without_a_broker_the_hub_is_degraded_but_serves(hub: Hub) -> None:
    answer = await hub.client().get("/health/ready")
    body = answer.json()
    assert answer.status_code == 503
    assert (body["status"], body["database"], body["broker"]) == ("degraded", "ok", "unavailable")
    assert body["storage_tier"] in ("plain", "apache", "community")
    assert body["incarnation"] == str(hub.services.incarnation)
    assert body["broker_error"]
    assert body["agents_online"] == 0
    await hub.signed_in()


async def test_the_hub_starts_without_its_database_and_comes_up_by_itself(
    hub_settings: dict[str, Any], database_url: str
) -> None:
    url = urlsplit(database_url)
    async with FaultProxy(url.hostname or "", url.port or 0) as proxy:
        await proxy.cut()
        through = urlunsplit(url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{proxy.port}"))
        settings = hub_settings | {"database_url": SecretStr(through), "database_retry_s_max": 0.3}
        async with running_hub(HubSettings(**settings), wait=False) as hub:
            client = hub.client()
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
            assert (ready.json()["storage_tier"], ready.json()["incarnation"]) == (None, None)
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            refused = await client.post("/auth/login", json={"username": "admin", "password": "x"})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "database" in refused.json()["detail"]

            proxy.forward()
            async with asyncio.timeout(20):
                await hub.services.storage.ready()
            await hub.signed_in()

            await proxy.cut()
            assert (await client.post("/auth/login", json={"username": "admin", "password": "x"})).status_code == 503


async def test_metrics_are_prometheus_text(hub: Hub) -> None:
    client = hub.client()
    await client.get("/nowhere")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'labrelay_http_requests_total{status="4xx"} 1' in answer.text
    assert 'labrelay_http_request_seconds_bucket{le="+Inf"} 1' in answer.text


def test_metrics_are_made_once_and_render() -> None:
    metrics = Metrics()
    counter = metrics.counter("a_total", "A.")
    assert metrics.counter("a_total", "A.") is counter
    counter.add(2, kind='x"\n')
    metrics.gauge("b_seconds", "B.", lambda: 1.5)
    metrics.histogram("c_seconds", "C.", (1.0, 2.0)).observe(1.5)
    assert metrics.render().splitlines() == [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        'a_total{kind="x\\"\\n"} 2',
        "# HELP b_seconds B.",
        "# TYPE b_seconds gauge",
        "b_seconds 1.5",
        "# HELP c_seconds C.",
        "# TYPE c_seconds histogram",
        'c_seconds_bucket{le="1"} 0',
        'c_seconds_bucket{le="2"} 1',
        'c_seconds_bucket{le="+Inf"} 1',
        "c_seconds_sum 1.5",
        "c_seconds_count 1",
    ]
