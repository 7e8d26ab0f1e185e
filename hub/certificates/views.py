"""A certificate as it is signed and shown. Moments are text (RFC 3339, UTC), lengths of time whole microseconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from uuid import UUID

from pydantic import BaseModel, Field

from hub.agents.epochs import Range
from hub.certificates.rules import State, WaitReason

SEQ_RANGES_MAX = 1000
"""Listed for one epoch."""


class SeqRange(BaseModel):
    """Batches, first and last."""

    first: int
    last: int


class Wait(BaseModel):
    """What is still to come before the certificate is final, and from whom."""

    reason: WaitReason
    agent_id: UUID | None = None
    agent_name: str = ""
    epoch: str = ""
    sensor_id: UUID | None = None
    seqs: list[SeqRange] = []
    through: datetime | None = None
    detail: str


class TallyView(BaseModel):
    """What became of readings that came one way. `taken` is `stored`, `repeated` and all of `set_aside`."""

    taken: int
    stored: int
    held: int = Field(description="Of the stored ones: late, and not counted to the session.")
    repeated: int
    set_aside: dict[str, int]


class Missing(BaseModel):
    """Readings that will never come, by cause.

    `readings` are those that the records count; `uncounted` records cannot say how many. Where `reaches_beyond` holds,
    some of them may lie outside the window.
    """

    cause: str
    gaps: int
    readings: int
    uncounted: int
    time_from: datetime
    time_to: datetime
    reaches_beyond: bool


class ProfileUse(BaseModel):
    """How many readings were converted with a profile; without one, the id is null."""

    profile_id: UUID | None
    version: str
    kind: str
    readings: int


class SensorCertificate(BaseModel):
    """One sensor that took part."""

    sensor_id: UUID
    name: str
    time_from: datetime | None
    time_to: datetime | None
    agents: TallyView
    posts: TallyView
    missing: list[Missing]
    unexplained_batches: int = Field(description="Of its agents: batches that might hold readings of it.")
    waiting_for_clock: int = Field(description="Set aside since the start, of a time that nobody knows.")
    dropped_by_retention: int
    first_at: datetime | None
    last_at: datetime | None
    profiles: list[ProfileUse]


class ClockSegment(BaseModel):
    """What the hub decided about a stretch of an agent's clock."""

    segment: int
    basis: str
    correction_us: int
    uncertainty_us: int | None
    opened_at: datetime | None
    step_us: int | None


class EpochCertificate(BaseModel):
    """One run of an agent that may have readings of the session.

    The counts are those of its batches `seqs` whose ledger entries are not folded; `present` of `stored` are there.
    """

    epoch: str
    version: str
    started_at: datetime | None
    taken_through: datetime | None
    seqs: SeqRange
    folded_through: int
    batches: int
    readings: int
    stored: int
    repeated: int
    set_aside: int
    present: int
    unexplained: list[SeqRange]
    closed_reason: str | None
    waits_for: WaitReason | None
    clock: list[ClockSegment]


class AgentCertificate(BaseModel):
    """An agent that delivers, or delivered, for sensors of the session."""

    agent_id: UUID
    name: str
    sensor_ids: list[UUID]
    epochs: list[EpochCertificate]


class SessionFacts(BaseModel):
    """What is fixed about the session."""

    id: UUID
    run_id: UUID
    run_name: str
    experiment_id: UUID
    experiment_name: str
    project_id: UUID
    project_name: str
    ordinal_number: int
    status: str
    started_at: datetime | None
    stopped_at: datetime | None
    late_agents: str
    late_posts: str


class DroppedRange(BaseModel):
    """Time whose raw readings retention has dropped."""

    time_from: datetime
    time_to: datetime
    dropped_at: datetime


class Totals(BaseModel):
    """All sensors together."""

    agents: TallyView
    posts: TallyView
    missing: int
    missing_uncounted: int = Field(description="Gap records without a count, once for each sensor concerned.")
    dropped_by_retention: int
    unexplained_readings: int = Field(description="The ledger says that they were stored, and they are not there.")
    unexplained_batches: int


class Certificate(BaseModel):
    """What became of every reading of a session."""

    format: str
    hub: str
    version: int = Field(description="0 unless it is final: only final ones are kept.")
    made_at: datetime
    state: State
    waits: list[Wait]
    session: SessionFacts
    sensors: list[SensorCertificate]
    agents: list[AgentCertificate]
    retention: list[DroppedRange]
    totals: Totals


class Signature(BaseModel):
    """Over the canonical JSON of the certificate."""

    algorithm: str
    key_id: str
    public_key: str
    value: str


class SignedCertificate(BaseModel):
    """A certificate with the hub's signature; `labrelay verify` checks it."""

    certificate: Certificate
    signature: Signature


class CertificateVersion(BaseModel):
    """A version that was issued."""

    version: int
    state: State
    made_at: datetime


class CertificateVersions(BaseModel):
    """All versions of a session's certificate, the latest first."""

    certificates: list[CertificateVersion]


class PublicKey(BaseModel):
    """What certificates of this hub are signed with."""

    algorithm: str
    key_id: str
    public_key: str = Field(description="32 bytes as base64.")
    pem: str


def seq_ranges(ranges: Iterable[Range]) -> list[SeqRange]:
    """The first `SEQ_RANGES_MAX` of them."""
    return [SeqRange(first=one.first, last=one.last) for one in islice(ranges, SEQ_RANGES_MAX)]
