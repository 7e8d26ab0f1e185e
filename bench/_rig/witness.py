"""Who watches from outside: when acknowledgements pass the broker, and when live values reach a client."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

import httpx
import msgspec
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from labrelay.up.mosquitto import Broker
from shared import topics
from shared.messages import Ack, decode
from shared.readings import Float64

_BATCHES = """
select e.epoch, l.seq, l.first_id, l.stored from ledger l join epochs e on e.id = l.epoch_id where l.stored > 0
"""
_TIMES = "select (extract(epoch from time) * 1000000)::bigint as at_us from readings where id >= $1 and id < $2"


class AckWitness:
    """Hears the hub's acknowledgements of all agents, from now until `close`."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[tuple[int, bytes]] = []
        """When (UTC, microseconds), and what."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(broker.username, broker.password)
        self._client.on_message = lambda client, data, message: self.heard.append(
            (time.time_ns() // 1000, bytes(message.payload))
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe(f"{topics.PREFIX}/agents/+/down/ack", qos=0)
        self._client.loop_start()

    def close(self) -> None:
        """Stop listening."""
        self._client.disconnect()
        self._client.loop_stop()

    async def latencies_ms(self, connection: Any) -> Float64:
        """From each reading to its acknowledgement, which follows its commit; of the batches that were heard of."""
        at_us: dict[tuple[bytes, int], int] = {}
        for heard_us, payload in self.heard:
            for some in decode(payload, Ack).acked:
                for seq in range(some.first, some.last + 1):
                    at_us.setdefault((bytes.fromhex(some.epoch), seq), heard_us)
        found: list[float] = []
        for row in await connection.fetch(_BATCHES):
            heard = at_us.get((row["epoch"], row["seq"]))
            if heard is not None:
                times = await connection.fetch(_TIMES, row["first_id"], row["first_id"] + row["stored"])
                found += [(heard - one["at_us"]) / 1000 for one in times]
        return np.array(found)


class LiveWitness:
    """Reads `live` events of one sensor over SSE, in a thread, from now until `close`."""

    def __init__(self, http: httpx.Client, sensor_id: str) -> None:
        self.latencies_ms: list[float] = []
        """From the sample to the event."""
        self._http = httpx.Client(base_url=http.base_url, headers=http.headers, timeout=httpx.Timeout(10, read=60))
        self._sensor_id = sensor_id
        self._closed = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._read, name="live witness", daemon=True)
        self._thread.start()
        self._connected.wait(10)

    def clear(self) -> None:
        """Forget what was seen so far."""
        self.latencies_ms.clear()

    def close(self) -> None:
        """Stop at the next event."""
        self._closed.set()
        self._thread.join(30)
        self._http.close()

    def _read(self) -> None:
        parameters = {"sensor_id": self._sensor_id, "live": "true"}
        with self._http.stream("GET", "/api/v1/telemetry/stream", params=parameters) as answer:
            answer.raise_for_status()
            self._connected.set()
            event = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: ") and event == "live":
                    at_us = datetime.fromisoformat(msgspec.json.decode(line[6:])["timestamp"]).timestamp() * 1e6
                    self.latencies_ms.append((time.time_ns() // 1000 - at_us) / 1000)
                if self._closed.is_set():
                    return
