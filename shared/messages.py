"""What travels beside the data, as JSON: acknowledgements, configuration, state, live values, time, commands.

Every message is validated when it is read (`decode`): unknown fields are ignored, so that an older side understands a
newer one, but wrong types and oversized messages are refused with a `CorruptBatch` or `LimitExceeded`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec

from shared.errors import CorruptBatch, LimitExceeded

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""A configuration with thousands of profiles fits; anything larger is refused unread."""

T = TypeVar("T")


class EpochRange(msgspec.Struct, array_like=True, frozen=True):
    """Batches `first` to `last` (inclusive) of an epoch (32 hex digits)."""

    epoch: str
    first: int
    last: int


class Refusal(msgspec.Struct, frozen=True):
    """One batch that the hub will never take as it is: `corrupt`, `not_yours`, `conflict`, `unsupported_version`."""

    epoch: str
    seq: int
    reason: str


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """down/ack: what the hub has committed, and what it wants.

    Attributes:
        incarnation: of the database; when it changes, agents offer again all that they hold.
        acked: committed ranges.
        refused: batches for the agent's quarantine (or, for `conflict`, to be relabelled).
        later: batches to leave where they are and offer again after a while (registration under way).
        dictionary: epochs whose dictionary the hub lacks.
        physical: batches whose physical column the hub could not derive bit for bit; send them with the column.
        window_batches: how many unacknowledged batches the agent may have in flight.
    """

    incarnation: str
    acked: list[EpochRange] = []
    refused: list[Refusal] = []
    later: list[EpochRange] = []
    dictionary: list[str] = []
    physical: list[EpochRange] = []
    window_batches: int = 64


class Profile(msgspec.Struct, frozen=True):
    """A published conversion profile. `payload` is the contract's; validated by `shared.conversion.compile_profile`.

    Attributes:
        valid_from_us: from when it is in force, None for since ever.
        valid_to_us: until when (exclusive), None for open.
    """

    id: UUID
    version: str
    kind: Literal["linear", "polynomial", "lookup_table", "formula"]
    payload: dict[str, Any]
    valid_from_us: int | None = None
    valid_to_us: int | None = None


class Binding(msgspec.Struct, frozen=True):
    """What the hub knows about one sensor name of an agent.

    Attributes:
        sensor: the name the agent uses.
        sensor_id: None where `state` is `deleted` or `refused`.
        state: `bound`; `decommissioned`, out of service; `deleted` (stays deleted); or `refused` (one too many).
        profiles: those that hold in windows of sessions only, then those that were ever in force, oldest first.
    """

    sensor: str
    sensor_id: UUID | None = None
    state: Literal["bound", "decommissioned", "deleted", "refused"] = "bound"
    profiles: list[Profile] = []


class CaptureWindow(msgspec.Struct, frozen=True):
    """A capture session that runs, or of which the agent has not said yet that all up to its end was taken.

    Attributes:
        sensors: names of those of the agent's that take part.
        stopped_us: None while it runs.
    """

    capture_session_id: UUID
    sensors: list[str]
    started_us: int
    stopped_us: int | None = None


class Config(msgspec.Struct, frozen=True):
    """down/config (retained): all that the hub tells an agent to work with; a higher generation replaces a lower."""

    generation: int
    hub_time_us: int
    bindings: list[Binding] = []
    windows: list[CaptureWindow] = []


class DeviceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one device is doing.

    Attributes:
        status: `ok`, `failing` (last poll failed), `waiting` (in back-off) or `starting`.
        readings: taken since the agent started.
        failures: failed exchanges since the agent started.
        error: the latest one, with what to do next.
    """

    name: str
    driver: str
    status: Literal["starting", "ok", "failing", "waiting"]
    points: int = 0
    readings: int = 0
    failures: int = 0
    overruns: int = 0
    last_reading_us: int = 0
    error: str = ""
    texts: dict[str, str] = {}


class SpoolState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How full the disk queue is."""

    pending_batches: int = 0
    pending_readings: int = 0
    oldest_us: int = 0
    bytes: int = 0
    quota_bytes: int = 0
    quarantined_batches: int = 0
    dropped_readings: int = 0
    adjusted_timestamps: int = 0


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """up/state (retained, also the last will): how the agent is.

    Attributes:
        instance: the epoch of the running process; two at once mean a cloned agent.
        generation: of the configuration in force.
        incarnation: of the hub's database, as last heard.
        acknowledged: what that database is said to hold, the latest ranges: a hub whose ledger lacks one of these
            batches knows by it that its database went back in time.
    """

    status: Literal["online", "offline"]
    instance: str
    at_us: int = 0
    version: str = ""
    host: str = ""
    started_us: int = 0
    generation: int = 0
    clock_offset_us: int = 0
    clock_uncertainty_us: int = -1
    spool: SpoolState = SpoolState()
    devices: list[DeviceState] = []
    error: str = ""
    incarnation: str = ""
    acknowledged: list[EpochRange] = []


class LiveValue(msgspec.Struct, array_like=True, frozen=True):
    """Latest value of one series; raw and physical are None where there is none."""

    sensor: str
    signal: str
    timestamp_us: int
    raw: float | None
    physical: float | None
    status: int
    unit: str = ""


class Live(msgspec.Struct, frozen=True):
    """up/live: the signals that changed since the last tick; never spooled, QoS 0."""

    values: list[LiveValue]


class TimeRequest(msgspec.Struct, frozen=True):
    """up/time: the agent's clock as it asks."""

    segment: int
    sent_us: int


class TimeAnswer(msgspec.Struct, frozen=True):
    """down/time: the question's fields, and the hub's clock as it came and as it answers."""

    segment: int
    sent_us: int
    received_us: int
    answered_us: int


class Command(msgspec.Struct, frozen=True):
    """down/cmd: something the hub asks the agent to do; answered on up/reply."""

    id: str
    name: str
    arguments: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """up/reply: the outcome of a command."""

    id: str
    ok: bool
    result: dict[str, Any] = {}
    error: str = ""


class ProjectLive(msgspec.Struct, frozen=True):
    """projects/{id}/live/{sensor}/{signal} (retained, conflated): for dashboards; `t` is RFC 3339."""

    t: str
    sensor: str
    signal: str
    raw: float | None
    physical: float | None
    unit: str
    status: str


_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode(payload: bytes | bytearray | memoryview, kind: type[T]) -> T:
    """A message of this kind. Raises: LimitExceeded, CorruptBatch."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise LimitExceeded(f"{kind.__name__} message of {len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are read")
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptBatch(f"not a {kind.__name__} message: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise CorruptBatch(f"not a {kind.__name__} message: {error}") from None
