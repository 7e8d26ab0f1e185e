"""Workers: one device's trouble is its own, a lost bus comes back, a crash is survived."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from agent.acquisition.condition import Condition
from agent.acquisition.intake import Intake
from agent.acquisition.roster import Roster
from agent.acquisition.worker import DEVICE_BACKOFF_S, BusWorker, Outlet
from drivers import registry
from drivers.api import Device, Exchange, Point, Sink
from drivers.simulators.modbus import Fault, ModbusSimulator, SimulatedRegister
from shared.clock import AnchoredClock, Clock, ManualClock
from shared.errors import (
    ConfigurationError,
    InstrumentTimeout,
    InstrumentUnavailable,
    InvalidAnswer,
    RequestRefused,
    SpoolFull,
)
from shared.readings import Samples
from tests.agent.acquisition.fakes import FakeDriver, FakeListeningBus, FakePolledBus, Lapse, Meter, samples


class Bench:
    """A worker with its surroundings."""

    def __init__(self, driver: FakeDriver, devices: Sequence[Device], clock: Clock, pause: Lapse | None = None) -> None:
        self.intake = Intake(100_000, clock)
        self.roster = Roster(devices)
        self.conditions = [Condition(device, driver.name) for device in devices]
        outlet = Outlet(self.intake, self.roster, clock)
        self.worker = BusWorker(driver, self.conditions, [0.2] * len(devices), outlet, pause=pause)

    def status(self, place: int = 0) -> str:
        return self.conditions[place].state(1).status


def on_time(seconds: float, driver: FakeDriver, devices: Sequence[Device], clock: ManualClock) -> Bench:
    """Let a worker run for so long on a clock that a test owns."""
    bench = Bench(driver, devices, clock, Lapse(clock, clock.monotonic_s() + seconds))
    bench.worker.run()
    return bench


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.01)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_points_are_polled_at_their_interval_and_handed_over(clock: ManualClock) -> None:
    driver = FakeDriver(clock)
    bench = on_time(10.0, driver, [Meter()], clock)
    assert len(driver.polls) == pytest.approx(100, abs=1)
    assert bench.intake.readings == len(driver.polls)
    state = bench.conditions[0].state(1)
    assert (state.status, state.readings, state.failures) == ("ok", len(driver.polls), 0)
    assert (driver.opened, driver.closed) == (1, 1)


@dataclass
class Stamping(FakeDriver):
    """Stamps with the clock it was given, as drivers do."""

    def open(self, devices: Sequence[Device], clock: Clock) -> FakePolledBus | FakeListeningBus:
        self.clock = clock
        return super().open(devices, clock)


def test_a_poll_during_a_clock_step_is_in_the_time_of_the_segment_it_began_in(clock: ManualClock) -> None:
    asked: list[int] = []

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        first_us = driver.clock.now_us()
        asked.append(clock.now_us())
        clock.advance_s(0.01)
        if len(asked) == 3:
            clock.step_s(3600.0)
        return Exchange(samples([0, 0], [first_us, driver.clock.now_us()], [1.0, 2.0]))

    driver = Stamping(clock, answer)
    bench = on_time(0.45, driver, [Meter()], clock)
    arrivals = bench.intake.take(0.0).arrivals
    assert [one.segment for one in arrivals[:4]] == [1, 1, 1, 2]
    assert [one.samples.timestamp_us.tolist() for one in arrivals] == [[us, us + 10_000] for us in asked]
    assert asked[3] - asked[2] > 3600_000_000, "the step itself shows from the next poll on"


def test_what_was_heard_before_a_clock_step_keeps_its_segment(clock: ManualClock) -> None:
    def hear(sink: Sink, ended: threading.Event) -> None:
        for _ in range(3):
            heard_us = driver.clock.now_us()
            clock.step_s(60.0)
            sink.deliver(meter, samples([0], heard_us, [1.0]))
        ended.wait(5.0)

    meter = Meter()
    driver = Stamping(clock, hear=hear)
    bench = Bench(driver, [meter], clock)
    bench.worker.thread.start()
    eventually(lambda: bench.intake.readings == 3)
    bench.worker.stop()
    assert bench.worker.join()
    arrivals = bench.intake.take(0.0).arrivals
    assert [one.segment for one in arrivals] == [1, 2, 3]
    times_us = [int(one.samples.timestamp_us[0]) for one in arrivals]
    assert [later - earlier for earlier, later in itertools.pairwise(times_us)] == [60_000_000] * 2


def test_a_dead_unit_costs_the_others_one_timeout_per_back_off(clock: ManualClock) -> None:
    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if device.name == "dead":
            clock.advance_s(device.timeout_s)
            return Exchange(Samples.empty(), (InstrumentTimeout("no answer"),))
        return Exchange(samples(points, clock.now_us(), [1.0]))

    driver = FakeDriver(clock, answer)
    bench = on_time(60.0, driver, [Meter("dead"), Meter("alive")], clock)
    tried = [when for name, when in driver.polls if name == "dead"]
    alive = [when for name, when in driver.polls if name == "alive"]
    assert 6 <= len(tried) <= 8  # after about 1, 2, 4, 8, 16 s, each less up to a quarter
    assert max(later - earlier for earlier, later in itertools.pairwise(alive)) < 0.2 + 0.2
    assert len(alive) > 580
    assert (bench.status(0), bench.status(1)) == ("waiting", "ok")
    assert driver.opened == 1


def test_the_back_off_grows_to_its_limit_and_ends_with_the_first_answer(clock: ManualClock) -> None:
    dead = True

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if dead:
            return Exchange(Samples.empty(), (InvalidAnswer("garbage"),))
        return Exchange(samples(points, clock.now_us(), [1.0]))

    driver = FakeDriver(clock, answer)
    bench = Bench(driver, [Meter()], clock, Lapse(clock, clock.monotonic_s() + 300))
    bench.worker.run()
    pauses = [later - earlier for (_, earlier), (_, later) in zip(driver.polls, driver.polls[1:], strict=False)]
    assert max(pauses) <= DEVICE_BACKOFF_S[1] + 0.2
    assert max(pauses) > DEVICE_BACKOFF_S[1] / 2
    dead = False
    driver.polls.clear()
    bench.worker._pause = Lapse(clock, clock.monotonic_s() + 60)
    bench.worker.run()
    assert bench.status() == "ok"
    assert len(driver.polls) > 250


def test_after_an_answer_the_back_off_begins_anew(clock: ManualClock) -> None:
    answers = iter([False] * 5 + [True, False])

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if next(answers, True):
            return Exchange(samples(points, clock.now_us(), [1.0]))
        return Exchange(Samples.empty(), (InstrumentTimeout("no answer"),))

    driver = FakeDriver(clock, answer)
    on_time(60.0, driver, [Meter()], clock)
    polls = [when for _, when in driver.polls]
    assert polls[5] - polls[4] > 10
    assert polls[7] - polls[6] < 1.3


def test_a_device_that_refuses_a_request_keeps_its_schedule(clock: ManualClock) -> None:
    refused = Exchange(Samples.empty(), (RequestRefused("illegal address"),))
    driver = FakeDriver(clock, lambda device, points: refused)
    bench = on_time(10.0, driver, [Meter()], clock)
    assert len(driver.polls) == pytest.approx(100, abs=1)
    assert bench.status() == "failing"


def test_what_could_be_read_is_kept_when_the_rest_fails(clock: ManualClock) -> None:
    def answer(device: Device, points: Sequence[int]) -> Exchange:
        error = RequestRefused("illegal address", hint="check the register")
        return Exchange(samples([0], clock.now_us(), [1.0]), (error,), {"serial": "A7"})

    bench = on_time(1.0, FakeDriver(clock, answer), [Meter()], clock)
    state = bench.conditions[0].state(1)
    assert state.status == "failing"
    assert state.readings == state.failures == bench.intake.readings > 5
    assert state.error == "illegal address (check the register)"
    assert state.texts == {"serial": "A7"}


def test_a_bus_that_cannot_be_opened_is_tried_with_growing_pauses(clock: ManualClock) -> None:
    driver = FakeDriver(clock, refusal=InstrumentUnavailable("no such port", hint="is it plugged in?"))
    bench = on_time(60.0, driver, [Meter("a"), Meter("b")], clock)
    assert bench.status(0) == bench.status(1) == "waiting"
    assert 5 <= bench.conditions[0].state(1).failures <= 12
    assert "is it plugged in?" in bench.conditions[0].state(1).error


def test_devices_that_cannot_share_a_port_are_shown_and_do_not_crash(clock: ManualClock) -> None:
    driver = FakeDriver(clock, refusal=ConfigurationError("share it but set it differently"))
    assert "set it differently" in on_time(5.0, driver, [Meter()], clock).conditions[0].state(1).error


def test_a_bus_lost_in_a_poll_is_opened_again(clock: ManualClock) -> None:
    lost = iter([True])

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if next(lost, False):
            raise InstrumentUnavailable("unplugged")
        return Exchange(samples(points, clock.now_us(), [1.0]))

    driver = FakeDriver(clock, answer)
    bench = on_time(10.0, driver, [Meter()], clock)
    assert (driver.opened, driver.closed) == (2, 2)
    assert bench.status() == "ok"


def test_a_driver_that_crashes_is_reported_and_starts_over(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bug = iter([True])

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if next(bug, False):
            raise KeyError("a bug")
        return Exchange(samples(points, clock.now_us(), [1.0]))

    driver = FakeDriver(clock, answer)
    bench = on_time(10.0, driver, [Meter()], clock)
    assert bench.status() == "ok"
    assert driver.closed == driver.opened == 2
    assert "worker_crashed" in caplog.messages


def test_a_failure_is_logged_once_and_the_recovery_once(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outcomes = iter([True, False, False, False, True, True])

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if next(outcomes, True):
            return Exchange(samples(points, clock.now_us(), [1.0]))
        return Exchange(Samples.empty(), (RequestRefused("busy"),))

    on_time(2.0, FakeDriver(clock, answer), [Meter()], clock)
    assert [m for m in caplog.messages if m.startswith("device_")] == [
        "device_answers",
        "device_failing",
        "device_recovered",
    ]


def test_a_device_that_fails_and_recovers_by_turns_does_not_fill_the_log(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    turn = itertools.cycle([True, False])

    def answer(device: Device, points: Sequence[int]) -> Exchange:
        if next(turn):
            return Exchange(samples(points, clock.now_us(), [1.0]))
        return Exchange(Samples.empty(), (RequestRefused("busy"),))

    on_time(20.0, FakeDriver(clock, answer), [Meter()], clock)
    assert [m for m in caplog.messages if m.startswith("device_")] == [
        "device_answers",
        "device_failing",
        "device_recovered",
    ]


def test_samples_of_points_that_the_device_does_not_have_are_refused(clock: ManualClock) -> None:
    driver = FakeDriver(clock, lambda device, points: Exchange(samples([7], clock.now_us(), [1.0])))
    bench = on_time(5.0, driver, [Meter()], clock)
    assert bench.intake.readings == 0
    assert "a point that the device does not have" in bench.conditions[0].state(1).error


def test_a_full_queue_holds_polling_up_and_the_missed_polls_are_counted() -> None:
    clock = AnchoredClock()
    driver = FakeDriver(clock)
    meter = Meter(points=(Point("flow", "s", interval_s=0.01),))
    bench = Bench(driver, [meter], clock)
    bench.intake._capacity = 5
    bench.worker.thread.start()
    eventually(lambda: bench.intake.full)
    time.sleep(0.2)
    assert len(driver.polls) == 6  # the sixth waits in the worker's hands
    assert bench.intake.take(0).arrivals
    eventually(lambda: bench.conditions[0].state(1).overruns > 5)
    missed = bench.intake.take_missed()
    assert missed is not None
    assert missed.readings > 5
    assert missed.from_us < missed.to_us - 50_000
    bench.worker.stop()
    assert bench.worker.join()


def test_a_listening_bus_delivers_adds_points_and_ends_when_stopped() -> None:
    clock = AnchoredClock()

    def hear(sink: Sink, ended: threading.Event) -> None:
        new = sink.add_point(meter, Point("temp", "meter.temp"))
        assert sink.add_point(meter, Point("temp", "meter.temp")) == new == 1
        sink.deliver(meter, samples([0, new], clock.now_us(), [1.0, 2.0]))
        assert sink.deliver(meter, Samples.empty()).done()
        ended.wait(20)

    meter = Meter()
    driver = FakeDriver(clock, hear=hear)
    bench = Bench(driver, [meter], clock)
    bench.worker.thread.start()
    eventually(lambda: bench.intake.readings == 2)
    assert bench.status() == "ok"
    bench.worker.stop()
    assert bench.worker.join()


def test_a_listening_bus_that_loses_its_port_is_opened_again(clock: ManualClock) -> None:
    def hear(sink: Sink, ended: threading.Event) -> None:
        sink.deliver(meter, samples([0], clock.now_us(), [1.0]))
        sink.failed(meter, InvalidAnswer("half a line"))
        raise InstrumentUnavailable("unplugged")

    meter = Meter()
    driver = FakeDriver(clock, hear=hear)
    bench = on_time(10.0, driver, [meter], clock)
    assert driver.opened == driver.closed > 10  # what was heard resets the back-off
    assert bench.intake.readings == driver.opened
    assert bench.status() == "waiting"


def test_a_listening_bus_is_told_when_the_queue_is_full() -> None:
    clock = AnchoredClock()
    told = threading.Event()

    def hear(sink: Sink, ended: threading.Event) -> None:
        for _ in range(3):
            sink.deliver(meter, samples([0], clock.now_us(), [1.0]))

    def hear_until_full(sink: Sink, ended: threading.Event) -> None:
        with pytest.raises(SpoolFull):
            hear(sink, ended)
        told.set()
        ended.wait(20)

    meter = Meter()
    bench = Bench(FakeDriver(clock, hear=hear_until_full), [meter], clock)
    bench.intake._capacity = 2
    bench.worker.thread.start()
    assert told.wait(10)
    bench.worker.stop()
    assert bench.worker.join()


def test_a_real_unit_that_dies_and_returns_does_not_stop_its_neighbour() -> None:
    registers = [SimulatedRegister("holding", 0, "float32", 3.5, unit=unit) for unit in (1, 2)]
    driver = registry.driver("modbus-tcp")
    clock = AnchoredClock()
    with ModbusSimulator(registers) as simulator:
        devices = [
            driver.device(
                f"unit{unit}",
                {
                    "driver": "modbus-tcp",
                    "host": "127.0.0.1",
                    "port": simulator.port,
                    "unit": unit,
                    "timeout_s": 0.3,
                    "interval_s": 0.05,
                    "points": {"flow": {"register": "holding:0", "type": "float32"}},
                },
            )
            for unit in (1, 2)
        ]
        assert devices[0].bus == devices[1].bus
        bench = Bench(driver, devices, clock)  # type: ignore[arg-type]
        bench.worker.thread.start()
        eventually(lambda: bench.status(0) == bench.status(1) == "ok")
        simulator.set_fault(1, Fault(dead=True))
        eventually(lambda: bench.status(0) == "waiting")
        before = bench.conditions[1].state(1).readings
        eventually(lambda: bench.conditions[1].state(1).readings > before + 5)
        simulator.set_fault(1, None)
        eventually(lambda: bench.status(0) == "ok")
        simulator.stop()
        eventually(lambda: bench.status(0) == bench.status(1) == "waiting")
        simulator.start()
        eventually(lambda: bench.status(0) == bench.status(1) == "ok")
        bench.worker.stop()
        assert bench.worker.join()
    raw = [value for arrival in bench.intake.take(0).arrivals for value in arrival.samples.raw.tolist()]
    assert set(raw) == {3.5}
