"""The agent's status and values in words, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.status import LocalStatus
from shared.messages import DeviceState, LiveValue, SpoolState
from shared.readings import reason_of, status_of

_MARKS = {"ok": "ok", "starting": "starting", "failing": "FAILING", "waiting": "WAITING"}


def local_time(timestamp_us: int) -> str:
    """Hours to milliseconds in this computer's time zone."""
    moment = datetime.fromtimestamp(timestamp_us / 1e6, UTC).astimezone()
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}"


def describe_value(value: LiveValue) -> str:
    """One line: time, sensor, signal, raw and physical value."""
    raw = "–" if value.raw is None else f"{value.raw:g} {value.unit}".rstrip()
    physical = "" if value.physical is None else f" → {value.physical:g}"
    reason = reason_of(value.status)
    why = f"  {status_of(value.status).label}: {reason.label}".replace("_", " ") if reason else ""
    return f"{local_time(value.timestamp_us)}  {value.sensor} {value.signal}  {raw}{physical}{why}"


def describe_status(status: LocalStatus) -> Iterator[str]:
    """Lines: the agent, its link, its spool, its devices."""
    age_s = time.time() - status.written_us / 1e6
    running = f"runs (pid {status.pid})" if status.running else f"does not run; last seen {_duration(age_s)} ago"
    yield f"agent {status.name} ({status.agent_id}) {running}"
    if status.running:
        yield f"  link    {status.link or 'unknown'}"
        yield f"  spool   {_spool(status.state.spool)}"
        if status.waiting_readings:
            yield f"  memory  {status.waiting_readings} readings on their way to the disk"
    for trouble in filter(None, (status.state.error, status.blocked)):
        yield f"  ERROR   {trouble}"
    if status.lost_readings:
        yield f"  LOST    {status.lost_readings} readings that could not be written before the stop"
    for sensor, why in status.refused.items():
        yield f"  sensor {sensor} is not taken by the hub: {why}"
    if status.unwanted_readings:
        yield f"  {status.unwanted_readings} readings of sensors out of service were not taken since the start"
    width = max((len(device.name) for device in status.state.devices), default=0)
    for device in status.state.devices:
        yield from _device(device, width)


def _spool(spool: SpoolState) -> str:
    parts = [f"{spool.pending_readings} readings in {spool.pending_batches} batches wait for the hub"]
    if spool.oldest_us:
        parts.append(f"the oldest {_duration(time.time() - spool.oldest_us / 1e6)}")
    parts.append(f"{spool.bytes / 1e6:.1f} of {spool.quota_bytes / 1e6:.0f} MB")
    if spool.quarantined_batches:
        parts.append(f"{spool.quarantined_batches} batches in quarantine")
    if spool.dropped_readings:
        parts.append(f"{spool.dropped_readings} readings dropped")
    return ", ".join(parts)


def _device(device: DeviceState, width: int) -> Iterator[str]:
    ago = ""
    if device.last_reading_us:
        ago = f", last {_duration(time.time() - device.last_reading_us / 1e6)} ago"
    counts = f"{_counted(device.points, 'point')}, {_counted(device.readings, 'reading')}{ago}"
    if device.failures:
        counts += f", {device.failures} failures"
    if device.overruns:
        counts += f", {device.overruns} polls skipped"
    yield f"  {device.name:{width}}  {_MARKS[device.status]:8}  {device.driver}: {counts}"
    if device.error:
        yield f"  {'':{width}}  {device.error}"
    for name, text in device.texts.items():
        yield f"  {'':{width}}  {name}: {text}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"
