"""The spool's write-ahead log, read without SQLite: which frames are sound, and whether bits in it have rotted.

SQLite believes a log up to the first frame whose checksum does not fit, and drops the rest without a word: it takes it
for the end that a power loss has torn. Where a commit lies sound behind that frame, it is not the end but damage.

Layout, all integers big-endian (https://www.sqlite.org/fileformat2.html#the_write_ahead_log)::

    header  32 bytes  magic, version, page size, checkpoint number, salt 1, salt 2, checksum 1, checksum 2
    frame   24 bytes  page number, pages of the file after this commit or 0 within one, salt 1, salt 2,
                      checksum 1, checksum 2; then the page

    A checksum covers 24 bytes of the header; the first 8 bytes of a frame's header, and its page. It goes on from that
    of the frame before, the first frame's from the header's. The magic's lowest bit says in which byte order the words
    are summed: 0 little-endian, 1 big-endian. Per pair of words (a, b), modulo 2^32: s0 += a + s1; s1 += b + s0.

Invariants
    * A frame is *current* when its salts are the header's. When the log is begun anew the salts change and the file
      keeps its length: frames of earlier generations follow the current ones, and are of no account.
    * Each frame is verified from the checksum *stored* in its predecessor, so that one rotten frame says nothing about
      those behind it.
    * A commit is synchronised before the next one is written. So a sound commit frame behind an unsound frame proves
      damage, unless both are of the last commit and the power failed while it was written, in any order. That is taken
      for damage too: what is kept in the end is the same.
    * A last commit whose very last frame has rotted looks like a torn one. After a crash of the process alone the
      wal-index still says that it was one (`agent.spool.wal_index`).

Only for a log that nobody is writing: the caller holds the spool's lock and has no connection open.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682
_VERSION = 3007000
_HEADER = struct.Struct(">IIII8sII")
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_PAGE_SIZE_DEFAULT = 4096
_CHUNK_BYTES = 1 << 20

_Words = NDArray[np.uint32]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Header:
    """What the log's first 32 bytes say.

    Attributes:
        order: of the bytes in the words that are summed: `<` or `>`.
        salts: of the current frames, 8 bytes.
        seed: the checksum from which the first frame's goes on.
        sound: whether the header's own checksum fits.
    """

    page_size: int
    order: str
    salts: bytes
    seed: tuple[int, int]
    sound: bool


@dataclass(frozen=True, slots=True)
class Frames:
    """Some successive frames.

    Attributes:
        first: number of the first one, from 1.
        raw: uint8 (n_frames, 24 + page size).
        sound: bool (n_frames,): current, and its checksum fits.
        commits: bool (n_frames,): the last frame of a commit.
    """

    first: int
    raw: NDArray[np.uint8]
    sound: _Flags
    commits: _Flags

    def pages(self, through: int) -> Iterator[tuple[int, bytes]]:
        """Number and content of each sound page, up to a frame."""
        numbers = self.raw[:, :4].copy().view(">u4")[:, 0]
        for at in np.flatnonzero(self.sound).tolist():
            if self.first + at <= through:
                yield int(numbers[at]), self.raw[at, FRAME_HEADER_BYTES:].tobytes()


@dataclass(frozen=True, slots=True)
class Survey:
    """What a log holds, as numbers of frames from 1; 0 for none.

    Attributes:
        believed: the last commit that SQLite will find.
        committed: the last commit that there is.
    """

    header: Header
    believed: int
    committed: int


def survey(log: Path, database: Path) -> Survey | None:
    """Walk a log. Returns: None where there is none.

    Args:
        database: its file, which knows the size of a page when the log's own header is damaged.

    Raises: OSError.
    """
    if not log.is_file() or log.stat().st_size < HEADER_BYTES:
        return None
    with log.open("rb") as file:
        header = read_header(file.read(HEADER_BYTES))
        if header.sound:
            return _walk(file, header)
        found = [_walk(file, guess) for guess in _guesses(file, header, database)]
        return max(found, key=lambda one: one.committed)


def read_header(raw: bytes) -> Header:
    """The header, sound or not, from its 32 bytes."""
    magic, version, page_size, _, salts, *stored = _HEADER.unpack(raw)
    order = ">" if magic & 1 else "<"
    sums = checksum(raw[:24], order)
    sound = (magic | 1, version, sums) == (_MAGIC | 1, _VERSION, tuple(stored)) and page_size in _PAGE_SIZES
    return Header(page_size, order, salts, (stored[0], stored[1]), sound)


def frames(file: BinaryIO, header: Header) -> Iterator[Frames]:
    """All whole frames of a log, some at a time. With no salts in `header`, those of any generation are sound."""
    size = FRAME_HEADER_BYTES + header.page_size
    at_once = max(_CHUNK_BYTES // size, 1)
    first, seed = 1, header.seed
    file.seek(HEADER_BYTES)
    while count := len(chunk := file.read(at_once * size)) // size:
        raw = np.frombuffer(chunk, np.uint8, count * size).reshape(count, size)
        stored = raw[:, 16:24].copy().view(">u4").astype(np.uint32)
        seeds = np.vstack([np.array([seed], np.uint32), stored[:-1]])
        sound: _Flags = np.logical_and.reduce(_sums(raw, header.order, seeds) == stored, axis=1)
        if header.salts:
            sound &= np.logical_and.reduce(raw[:, 8:16] == np.frombuffer(header.salts, np.uint8), axis=1)
        numbers, commits = raw[:, :4].copy().view(">u4")[:, 0], raw[:, 4:8].copy().view(">u4")[:, 0]
        yield Frames(first, raw, sound & (numbers > 0), commits > 0)
        first, seed = first + count, (int(stored[-1, 0]), int(stored[-1, 1]))


def checksum(data: bytes, order: str) -> tuple[int, int]:
    """Of a multiple of eight bytes, from nothing."""
    first = second = 0
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _walk(file: BinaryIO, header: Header) -> Survey:
    believed = committed = 0
    unbroken = header.sound
    for some in frames(file, header):
        ends = np.flatnonzero(some.sound & some.commits)
        if len(ends):
            committed = some.first + int(ends[-1])
        if unbroken:
            broken = np.flatnonzero(~some.sound)
            unbroken = not len(broken)
            ends = ends if unbroken else ends[ends < broken[0]]
            believed = some.first + int(ends[-1]) if len(ends) else believed
    return Survey(header, believed, committed)


def _guesses(file: BinaryIO, header: Header, database: Path) -> Iterator[Header]:
    """What a damaged header may have said; the salts are those of the first frame that fits the one before it."""
    for page_size in {header.page_size, page_size_of(database)} & set(_PAGE_SIZES):
        for order in "<>":
            guess = replace(header, page_size=page_size, order=order, salts=b"")
            salts = next(
                (some.raw[some.sound][0, 8:16].tobytes() for some in frames(file, guess) if some.sound.any()), b""
            )
            yield replace(guess, salts=salts)


def page_size_of(database: Path) -> int:
    """As the file's own header says (https://www.sqlite.org/fileformat2.html#page_size)."""
    if not database.is_file():
        return _PAGE_SIZE_DEFAULT
    with database.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    size = 65536 if size == 1 else size
    return size if size in _PAGE_SIZES else _PAGE_SIZE_DEFAULT


def _sums(raw: NDArray[np.uint8], order: str, seeds: _Words) -> _Words:
    """The checksum that each frame should have, uint32 (n_frames, 2).

    The recurrence is linear modulo 2^32: a checksum is the sum of all words, each with the weight of its place.
    """
    words = raw.view(f"{order}u4").astype(np.uint32, copy=False)
    by_word, by_seed = _weights(raw.shape[1] - FRAME_HEADER_BYTES)
    return words @ by_word + seeds @ by_seed


@cache
def _weights(page_size: int) -> tuple[_Words, _Words]:
    """How much each word of a frame counts, uint32 (words of a frame, 2), and each of the two of the seed, (2, 2)."""
    pairs = 1 + page_size // 8
    weights = np.zeros((pairs * 2, 2), np.uint32)
    power = (1, 0, 0, 1)  # of the matrix [[1, 1], [1, 2]] that a pair applies to (s0, s1)
    for pair in reversed(range(pairs)):
        first, second, third, fourth = power
        weights[pair * 2] = (first + second) & 0xFFFFFFFF, (third + fourth) & 0xFFFFFFFF
        weights[pair * 2 + 1] = second, fourth
        power = _times_step(power)
    first, second, third, fourth = power
    apart = np.zeros((4, 2), np.uint32)  # salts and checksum do not count
    by_seed = np.array([(first, third), (second, fourth)], np.uint32)
    return np.vstack([weights[:2], apart, weights[2:]]), by_seed


def _times_step(power: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    first, second, third, fourth = power
    return (
        (first + second) & 0xFFFFFFFF,
        (first + 2 * second) & 0xFFFFFFFF,
        (third + fourth) & 0xFFFFFFFF,
        (third + 2 * fourth) & 0xFFFFFFFF,
    )
