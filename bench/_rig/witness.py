"""Who watches from outside: when acknowledgements pass the broker, when live values reach a client, how the disk is."""

from __future__ import annotations

import itertools
import os
import threading
import time
from datetime import datetime
from pathlib import Path
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

SYNC_BYTES, SYNC_PLACES, SYNC_EVERY_S = 8192, 1024, 0.005

_BATCHES = """
select e.epoch, l.seq, l.first_id, l.stored from ledger l join epochs e on e.id = l.epoch_id
where l.stored > 0 order by l.first_id
"""
_READINGS = """
select id, (extract(epoch from time) * 1000000)::bigint as at_us from readings
where time >= $1 and series_id = any(select id from series where sensor_id = any($2))
"""


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

    async def latencies_ms(self, connection: Any, sensor_ids: list[str], since: datetime) -> Float64:
        """From each reading of some sensors to its acknowledgement, which follows its commit."""
        heard_us: dict[tuple[bytes, int], int] = {}
        for at_us, payload in self.heard:
            for some in decode(payload, Ack).acked:
                for seq in range(some.first, some.last + 1):
                    heard_us.setdefault((bytes.fromhex(some.epoch), seq), at_us)
        batches = await connection.fetch(_BATCHES)
        first = np.array([row["first_id"] for row in batches])
        answered_us = np.array([heard_us.get((row["epoch"], row["seq"]), -1) for row in batches])
        readings = await connection.fetch(_READINGS, since, sensor_ids)
        ids, times_us = np.array([tuple(row) for row in readings]).T
        answers_us = answered_us[np.searchsorted(first, ids, side="right") - 1]
        return np.asarray((answers_us - times_us)[answers_us >= 0] / 1000)


class DiskWitness:
    """Writes and syncs 8 KiB every few milliseconds beside everything else, in a thread, from now until `close`.

    What it takes is the least that a commit on the same disk can take at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.latencies_ms: list[float] = []
        """Of each sync."""
        self._path = folder / "witness.sync"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sync, name="disk witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and remove its file."""
        self._closed.set()
        self._thread.join(30)
        self._path.unlink(missing_ok=True)

    def _sync(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            file.write(bytes(SYNC_BYTES * SYNC_PLACES))
            os.fsync(file.fileno())
            for place in itertools.count():
                os.pwrite(file.fileno(), os.urandom(SYNC_BYTES), place % SYNC_PLACES * SYNC_BYTES)
                began_s = time.perf_counter()
                os.fdatasync(file.fileno())
                self.latencies_ms.append((time.perf_counter() - began_s) * 1000)
                if self._closed.wait(SYNC_EVERY_S):
                    return


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
