"""Sums of values that any sensor may send.

PostgreSQL's own `sum` fails where the sum is beyond float64, and with it the whole statement: two readings of one
sensor would keep the minutes of all sensors from being summed up. So values that are too large to be added up count as
infinite: a sum with one is infinite, or no number where there are such of both signs, and the average that comes of it
is shown as null. Counts and extremes are exact all the same. Averages are not PostgreSQL's either, which fails where a
quotient is too small.
"""

from __future__ import annotations

SUMMABLE_MAX = 1e290
"""More readings than there will ever be, each as large as this, add up to less than float64 holds."""


def sum_of(column: str) -> str:
    """SQL that sums a column of float64 up over a group."""
    return (
        f"sum(case when {column} > {SUMMABLE_MAX} then 'Infinity' when {column} < -{SUMMABLE_MAX} then '-Infinity' "
        f"else {column} end)"
    )


def average(total: float | None, count: int) -> float | None:
    """None where there is nothing to divide."""
    return None if total is None or not count else total / int(count)
