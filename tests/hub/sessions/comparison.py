"""What a hub shows of a laboratory, beside what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.hub.sessions.model import UNPLACED, Reading, buckets_of
from tests.hub.sessions.shown import Row, certified_sensors
from tests.hub.sessions.trial import SECOND_US, Trial

INTERVALS = {"10s": 10, "1m": 60, "2m": 120}


async def require_agreement(trial: Trial) -> None:
    """All that the hub says of readings, sessions and runs is what the model says."""
    await _require_same(trial, trial.model.readings, project_id=trial.lab.project)
    for number, row in enumerate(trial.rows):
        for with_held in (False, True):
            expected = trial.model.members(number, with_held=with_held)
            await _require_same(trial, expected, capture_session_id=row["id"], include_late=with_held)
        await _require_certificate(trial, number)
    for run in {session.run for session in trial.model.sessions}:
        own = [place for place, session in enumerate(trial.model.sessions) if session.run == run]
        expected = [one for place in own for one in trial.model.members(place, with_held=False)]
        await _require_same(trial, expected, run_id=trial.ids[run])


async def require_final(trial: Trial) -> None:
    """Nothing can come any more, so every certificate is final and explains everything."""
    for row in trial.rows:
        said = await trial.shown.certificate(row)
        assert (said["state"], said["waits"]) == ("final", [])
        assert (said["totals"]["unexplained_readings"], said["totals"]["unexplained_batches"]) == (0, 0)
        assert all(epoch["present"] == epoch["stored"] for agent in said["agents"] for epoch in agent["epochs"])


def _row(trial: Trial, reading: Reading) -> Row:
    number = trial.model.session_of(reading)
    counts = number is not None and trial.model.sessions[number].counts(reading)
    session_id = trial.rows[number]["id"] if number is not None and counts else None
    return reading.sensor, reading.at_us, reading.value, session_id


async def _require_same(trial: Trial, expected: Sequence[Reading], **asked: Any) -> None:
    rows = sorted(_row(trial, one) for one in expected)
    assert await trial.shown.queried(**asked) == rows
    for kind in trial.turn(("csv", "json")):
        assert await trial.shown.exported(kind, **asked) == rows
    for interval in trial.turn(("10s", "1m", "2m")):
        buckets = await trial.shown.summed(interval, **asked)
        assert buckets == buckets_of(expected, INTERVALS[interval] * SECOND_US), interval


async def _require_certificate(trial: Trial, number: int) -> None:
    model, session = trial.model, trial.model.sessions[number]
    said = await trial.shown.certificate(trial.rows[number])
    assert certified_sensors(said) == model.certificate(number)
    assert said["totals"]["unexplained_readings"] == 0
    assert (said["state"] == "open") == (session.stopped is None)
    unplaced = any(one.reason == UNPLACED and one.parcel.sensor in session.sensors for one in model.asides)
    if session.is_backfilling or unplaced or _may_come(trial, number):
        assert said["state"] != "final"
    held = [one for one in model.members(number) if not session.counts(one)]
    marked = await trial.shown.held(trial.rows[number]["id"])
    assert marked == sorted((one.sensor, one.at_us) for one in held)


def _may_come(trial: Trial, number: int) -> bool:
    """Whether the agent keeps a sample of the session."""
    session = trial.model.sessions[number]
    for batch in trial.courier.kept:
        add_us = batch.stretch.correction_us
        add_us = batch.stretch.offset_us if add_us is None else add_us
        for sensor, samples in batch.samples.items():
            if any(session.covers(sensor, at_us + add_us) for at_us, _ in samples):
                return True
    return False
