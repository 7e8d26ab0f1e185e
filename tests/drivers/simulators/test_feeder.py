import threading
import time
from concurrent.futures import Future
from typing import Any

from drivers.api import Device, Point
from drivers.push.bus import PushBus
from drivers.push.device import Endpoints, PushDevice
from drivers.simulators.feeder import Feed, PushFeeder
from drivers.simulators.scenarios import Chain, scenario
from shared.clock import AnchoredClock
from shared.errors import InstrumentError
from shared.readings import Samples


class Sink:
    def __init__(self) -> None:
        self.values: list[float] = []
        self.times: list[int] = []

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        self.values += samples.raw.tolist()
        self.times += samples.timestamp_us.tolist()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def add_point(self, device: Device, point: Point) -> int:
        return 0

    def failed(self, device: Device, error: InstrumentError) -> None:
        raise error


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_fed_while_the_listener_is_away_arrives_once_when_it_returns() -> None:
    sink = Sink()
    device = PushDevice("script", Endpoints(tcp_port=0))
    bus = PushBus(device, AnchoredClock())
    port = bus.port("tcp")
    feed = Feed(
        "127.0.0.1",
        port,
        "n",
        lambda t_s: round(t_s / 0.02),
        0.02,
        scenario=Chain([scenario({"kind": "late", "every_s": 0.2, "delay_s": 0.1})]),
    )
    feeder = PushFeeder(feed)
    listener = threading.Thread(target=bus.listen, args=(sink,))
    listener.start()
    feeder.start()
    wait_for(lambda: len(sink.values) >= 20)
    bus.close()
    listener.join(timeout=5)
    time.sleep(0.3)
    bus = PushBus(PushDevice("script", Endpoints(tcp_port=port)), AnchoredClock())
    listener = threading.Thread(target=bus.listen, args=(sink,))
    listener.start()
    heard = len(sink.values)
    wait_for(lambda: len(sink.values) >= heard + 60)
    feeder.stop()
    bus.close()
    listener.join(timeout=5)
    assert len(set(sink.values)) == len(sink.values)
    assert sink.values != sorted(sink.values)
    numbers = sorted(sink.values)
    assert len(numbers) >= (numbers[-10] - numbers[0]) * 0.9
    assert feeder.acknowledged >= len(sink.values) - 1
    assert feeder.dropped == 0
