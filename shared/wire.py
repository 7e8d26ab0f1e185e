"""The wire format: batches, the same bytes in the spool and in MQTT messages.

Invariants
    * A batch is identified by (agent_id, epoch, seq) and never changes under its identity; the checksum stands for its
      content, in the frame and in the hub's ledger.
    * Any truncated or flipped byte is detected. Decoding executes nothing, trusts no length, and allocates at most
      `BODY_BYTES_MAX` for a body, whatever it claims.
    * A reader speaks `VERSIONS`; a writer writes the last of them.

Layout of a batch (little endian), `HEADER` = 80 bytes::

    offset size
       0    3   magic "LRB"
       3    1   version
       4    4   length of the whole batch, checksum included
       8    1   kind (`Kind`)
       9    1   flags: bit 0 body compressed with zstd
      10    2   zero
      12   16   agent_id
      28   16   epoch
      44    8   seq, from 1
      52    8   created, int64 µs
      60    8   taken_through, int64 µs: all samples up to then are in a seq up to this one
      68    4   clock segment
      72    4   configuration generation
      76    4   length of the body once decompressed
      80    …   body (`shared.columns` for DATA, `shared.records` for the others)
    last    8   BLAKE2b-64 of everything before it

A message is one or more batches, one behind the other, at most `MESSAGE_BYTES_MAX` in all.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import zstandard

from shared.columns import DecodedColumns, decode_columns, encode_columns
from shared.errors import CorruptBatch, LimitExceeded, UnsupportedVersion
from shared.readings import Columns, reason_of, status_of
from shared.records import ClockRecord, Dictionary, Gap, Opening, Record, decode_record, encode_record

MAGIC = b"LRB"
VERSIONS = (1,)
HEADER = struct.Struct("<3sBIBBH16s16sQqqIII")
CHECKSUM_BYTES = 8
BATCH_BYTES_MAX = 128 * 1024
MESSAGE_BYTES_MAX = 128 * 1024
BODY_BYTES_MAX = 256 * 1024
BATCHES_PER_MESSAGE_MAX = 1024

_COMPRESSED = 0x01
_COMPRESS_FROM_BYTES = 96
_ZSTD_LEVEL = 1
_FRAME_BYTES = HEADER.size + CHECKSUM_BYTES


class Kind(IntEnum):
    """What a batch holds."""

    OPENING = 1
    DICTIONARY = 2
    DATA = 3
    GAP = 4
    CLOCK = 5


_RECORD_OF: dict[Kind, type[Record]] = {
    Kind.OPENING: Opening,
    Kind.DICTIONARY: Dictionary,
    Kind.GAP: Gap,
    Kind.CLOCK: ClockRecord,
}
_KIND_OF: dict[type[Any], Kind] = {structure: kind for kind, structure in _RECORD_OF.items()}


@dataclass(frozen=True, slots=True)
class Body:
    """An encoded body, before it gets an identity.

    Attributes:
        content: as it will stand in the batch, compressed where that pays.
        size: bytes once decompressed.
        readings: how many readings it holds.
    """

    kind: Kind
    content: bytes
    size: int
    compressed: bool
    readings: int


@dataclass(frozen=True, slots=True)
class Header:
    """Who sent what, when. `checksum` stands for the whole batch."""

    version: int
    kind: Kind
    agent_id: UUID
    epoch: bytes
    seq: int
    created_us: int
    taken_through_us: int
    clock_segment: int
    generation: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded batch: `content` is `DecodedColumns` for DATA and a record for every other kind."""

    header: Header
    content: DecodedColumns | Record


class _Zstd(threading.local):
    """Compressor and decompressor of this thread; neither may be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False, write_content_size=False)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 20)


_zstd = _Zstd()


def data_body(columns: Columns, *, derivable: bool) -> Body:
    """The body of a data batch; see `encode_columns`. Raises: LimitExceeded."""
    return _body(Kind.DATA, encode_columns(columns, derivable=derivable), len(columns))


def record_body(record: Record) -> Body:
    """The body of any other batch. Raises: LimitExceeded."""
    return _body(_KIND_OF[type(record)], encode_record(record), 0)


def _body(kind: Kind, plain: bytes, readings: int) -> Body:
    if len(plain) > BODY_BYTES_MAX:
        raise LimitExceeded(f"{kind.name} body of {len(plain)} bytes, at most {BODY_BYTES_MAX}")
    if len(plain) >= _COMPRESS_FROM_BYTES:
        packed = _zstd.compressor.compress(plain)
        if len(packed) < len(plain):
            return Body(kind, packed, len(plain), True, readings)
    return Body(kind, plain, len(plain), False, readings)


def seal(
    body: Body,
    *,
    agent_id: UUID,
    epoch: bytes,
    seq: int,
    created_us: int,
    taken_through_us: int,
    clock_segment: int,
    generation: int,
) -> bytes:
    """The batch: identity, body and checksum. Raises: LimitExceeded when it would not fit a message."""
    length = _FRAME_BYTES + len(body.content)
    if length > BATCH_BYTES_MAX:
        raise LimitExceeded(f"a batch of {length} bytes, at most {BATCH_BYTES_MAX}")
    header = HEADER.pack(
        MAGIC,
        VERSIONS[-1],
        length,
        body.kind,
        _COMPRESSED if body.compressed else 0,
        0,
        agent_id.bytes,
        epoch,
        seq,
        created_us,
        taken_through_us,
        clock_segment,
        generation,
        body.size,
    )
    digest = hashlib.blake2b(header, digest_size=CHECKSUM_BYTES)
    digest.update(body.content)
    return b"".join((header, body.content, digest.digest()))


def split(payload: bytes | memoryview) -> list[memoryview]:
    """The batches of a message, by their lengths; their content is not looked at.

    Raises: LimitExceeded, CorruptBatch.
    """
    rest = memoryview(payload)
    if len(rest) > MESSAGE_BYTES_MAX:
        raise LimitExceeded(f"a message of {len(rest)} bytes, at most {MESSAGE_BYTES_MAX}")
    if len(rest) == 0:
        raise CorruptBatch("an empty message")
    batches = []
    while len(rest):
        length = _length(rest)
        batches.append(rest[:length])
        rest = rest[length:]
        if len(batches) > BATCHES_PER_MESSAGE_MAX:
            raise LimitExceeded(f"more than {BATCHES_PER_MESSAGE_MAX} batches in a message")
    return batches


def _length(rest: memoryview) -> int:
    if len(rest) < _FRAME_BYTES:
        raise CorruptBatch(f"{len(rest)} bytes are too few for a batch")
    if rest[:3] != MAGIC:
        raise CorruptBatch("does not begin like a batch")
    if rest[3] not in VERSIONS:
        raise UnsupportedVersion(
            f"wire version {rest[3]}", hint=f"this side speaks {', '.join(map(str, VERSIONS))}; update the older side"
        )
    length = int.from_bytes(rest[4:8], "little")
    if length > BATCH_BYTES_MAX:
        raise LimitExceeded(f"a batch of {length} bytes, at most {BATCH_BYTES_MAX}")
    if not _FRAME_BYTES <= length <= len(rest):
        raise CorruptBatch(f"a batch of {length} bytes in {len(rest)}")
    return length


def read_header(batch: bytes | memoryview) -> Header:
    """The header of one batch, after the checksum has been verified over all of it.

    Raises: CorruptBatch, UnsupportedVersion, LimitExceeded.
    """
    view = memoryview(batch)
    if _length(view) != len(view):
        raise CorruptBatch("bytes behind the end of the batch")
    digest = hashlib.blake2b(view[:-CHECKSUM_BYTES], digest_size=CHECKSUM_BYTES).digest()
    if digest != view[-CHECKSUM_BYTES:]:
        raise CorruptBatch("checksum does not match")
    fields = HEADER.unpack_from(view)
    _, version, _, kind, flags, zero, agent_id, epoch, seq, created_us, through_us, segment, generation, size = fields
    if kind not in Kind._value2member_map_ or flags & ~_COMPRESSED or zero or seq < 1 or size > BODY_BYTES_MAX:
        raise CorruptBatch("a header field is out of range")
    return Header(
        version,
        Kind(kind),
        UUID(bytes=agent_id),
        epoch,
        seq,
        created_us,
        through_us,
        segment,
        generation,
        int.from_bytes(digest, "little", signed=True),
    )


def decode(batch: bytes | memoryview) -> Batch:
    """One batch, whole. Raises: CorruptBatch, UnsupportedVersion, LimitExceeded."""
    header = read_header(batch)
    body = _plain_body(memoryview(batch))
    if header.kind is Kind.DATA:
        return Batch(header, decode_columns(body))
    return Batch(header, decode_record(body, _RECORD_OF[header.kind]))


def _plain_body(view: memoryview) -> bytes | memoryview:
    size = int.from_bytes(view[76:80], "little")
    content = view[HEADER.size : -CHECKSUM_BYTES]
    if not view[9] & _COMPRESSED:
        if len(content) != size:
            raise CorruptBatch(f"a body of {len(content)} bytes where {size} were announced")
        return content
    try:
        plain = _zstd.decompressor.decompress(content, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptBatch(f"the body does not decompress: {error}") from None
    if len(plain) != size:
        raise CorruptBatch(f"a body of {len(plain)} bytes where {size} were announced")
    return plain


def describe(payload: bytes) -> list[dict[str, Any]]:
    """A message as plain data for people, one object a batch. Raises: any WireError."""
    return [_describe(decode(batch), len(batch)) for batch in split(payload)]


def _describe(batch: Batch, size: int) -> dict[str, Any]:
    header = batch.header
    described: dict[str, Any] = {
        "version": header.version,
        "kind": header.kind.name.lower(),
        "agent_id": str(header.agent_id),
        "epoch": header.epoch.hex(),
        "seq": header.seq,
        "created_us": header.created_us,
        "taken_through_us": header.taken_through_us,
        "clock_segment": header.clock_segment,
        "generation": header.generation,
        "checksum": f"{header.checksum & 0xFFFFFFFFFFFFFFFF:016x}",
        "bytes": size,
    }
    if isinstance(batch.content, DecodedColumns):
        described["physical"] = "derived by the hub" if batch.content.physical_digest else "as sent"
        described["readings"] = _describe_columns(batch.content.columns)
    else:
        described["record"] = msgspec.to_builtins(batch.content)
    return described


def _describe_columns(columns: Columns) -> list[dict[str, Any]]:
    return [
        {
            "series": series,
            "timestamp_us": timestamp_us,
            "raw": None if np.isnan(raw) else raw,
            "physical": None if np.isnan(physical) else physical,
            "status": status_of(status).label,
            "reason": reason_of(status).label,
            "profile": profile,
        }
        for series, timestamp_us, raw, physical, status, profile in zip(
            columns.series.tolist(),
            columns.timestamp_us.tolist(),
            columns.raw.tolist(),
            columns.physical.tolist(),
            columns.status.tolist(),
            columns.profile.tolist(),
            strict=True,
        )
    ]
