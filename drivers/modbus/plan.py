"""Coalesces values into the fewest legal requests. Pure.

A request reads consecutive addresses of one table. It is legal if

* it reads at most `registers_max` registers (or `coils_max` coils),
* every run of addresses in it that no value uses is at most `gap_fill` long, and
* each value that it is read for lies in it whole: the registers of a value are never taken from two exchanges, which
  could tear it.

Greedy from the lowest address is optimal: some request must hold the first uncovered value, and whichever legal request
does, its part from that value on is legal too and is contained in the longest legal one that starts there; the values
before are covered already. `tests/drivers/modbus/test_plan.py` compares with a search through all covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from drivers.modbus.registers import Table


@dataclass(frozen=True, slots=True)
class Limits:
    """What one device bears.

    Attributes:
        gap_fill: how many unused addresses in a row may be read to merge two requests.
        registers_max: per request; the protocol allows 125.
        coils_max: per request; the protocol allows 2,000.
    """

    gap_fill: int = 8
    registers_max: int = 125
    coils_max: int = 2000

    def addresses_max(self, table: Table) -> int:
        """How many addresses of a table one request may read."""
        return self.coils_max if table.of_bits else self.registers_max


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The addresses `address` to `end` (exclusive) that one value takes; `value` is the caller's own number for it."""

    address: int
    end: int
    value: int


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` addresses of `table` from `address` on, and the values that it brings, by address.

    Attributes:
        whole: not to be split, because the device has refused every part of it.
    """

    table: Table
    address: int
    count: int
    spans: tuple[Span, ...]
    whole: bool = False

    @property
    def divisible(self) -> bool:
        """Whether it may be worth asking for in parts."""
        return len(self.spans) > 1 and not self.whole


def plan(values: Iterable[tuple[Table, int, int]], limits: Limits) -> tuple[Block, ...]:
    """The fewest blocks that bring all values, each value in exactly one.

    Args:
        values: (table, address, width) of each; its position becomes `Span.value`. No width above the limit.
    """
    spans = [(table, Span(address, address + width, i)) for i, (table, address, width) in enumerate(values)]
    spans.sort(key=lambda entry: (entry[0].value, entry[1]))
    blocks: list[Block] = []
    for table, group in groupby(spans, key=lambda entry: entry[0]):
        blocks += _cover(table, [span for _, span in group], limits)
    return tuple(blocks)


def _cover(table: Table, spans: Sequence[Span], limits: Limits) -> list[Block]:
    """Greedy cover of one table's spans, which are sorted by address."""
    blocks = []
    addresses_max = limits.addresses_max(table)
    pending = list(spans)
    used = _runs(spans)
    while pending:
        reach = min(pending[0].address + addresses_max, _unbroken_until(used, pending[0].address, limits.gap_fill))
        taken = [span for span in pending if span.end <= reach]
        pending = [span for span in pending if span.end > reach]
        blocks.append(block_of(table, taken))
    return blocks


def block_of(table: Table, spans: Sequence[Span], *, whole: bool = False) -> Block:
    """The block that just holds `spans`, which are sorted by address."""
    address = spans[0].address
    return Block(table, address, max(span.end for span in spans) - address, tuple(spans), whole)


def _runs(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The used addresses as disjoint [start, end), ascending."""
    runs: list[tuple[int, int]] = []
    for span in spans:
        if runs and span.address <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], span.end))
        else:
            runs.append((span.address, span.end))
    return runs


def _unbroken_until(runs: Sequence[tuple[int, int]], address: int, gap_fill: int) -> int:
    """The end of the last run that can be reached from `address` without a gap longer than `gap_fill`."""
    end = address
    for start, stop in runs:
        if stop <= address:
            continue
        if start - end > gap_fill:
            break
        end = stop
    return end


def split(block: Block) -> tuple[Block, Block]:
    """Two blocks in place of one that the device refused, cut at its widest gap, or in the middle if it has none."""
    ends = _running_ends(block.spans)
    gaps = [block.spans[i + 1].address - ends[i] for i in range(len(ends) - 1)]
    middle = len(gaps) // 2
    cut = max(range(len(gaps)), key=lambda i: (max(gaps[i], 0), -abs(i - middle)))
    return block_of(block.table, block.spans[: cut + 1]), block_of(block.table, block.spans[cut + 1 :])


def _running_ends(spans: Sequence[Span]) -> list[int]:
    ends: list[int] = []
    for span in spans:
        ends.append(max(ends[-1], span.end) if ends else span.end)
    return ends


def settle(parts: Sequence[tuple[Block, bool]], limits: Limits) -> list[Block]:
    """What to ask for from now on, after a refused block was read in parts.

    Neighbouring parts that were refused become one block that is not split again, so that registers which a device does
    not have cost one request a poll rather than one each.

    Args:
        parts: the parts, by address, and whether each was read.
    """
    settled: list[Block] = []
    for good, group in groupby(parts, key=lambda part: part[1]):
        blocks = [block for block, _ in group]
        if good:
            settled += blocks
            continue
        spans = sorted(span for block in blocks for span in block.spans)
        whole = block_of(blocks[0].table, spans, whole=True)
        settled += [whole] if whole.count <= limits.addresses_max(whole.table) else blocks
    return settled
