"""The C library's allocator, set up for a process that takes and frees columns of readings all the time.

A group's columns are 128 KiB each and more. Left alone, glibc gets such pieces from the kernel and gives them back as
soon as they are free, and every page of them is a fault the next time: half of what the verdicts of a group cost.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES_MAX = 32 * 1024 * 1024
"""Freed memory that is kept; glibc allows no higher threshold for single pieces."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed() -> bool:
    """Have freed memory kept for the next group. Returns: whether the C library knows how (glibc does)."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(set_option(option, KEPT_BYTES_MAX) == 1 for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
