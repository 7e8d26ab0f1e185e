"""Laboratories that are tried each time, each made so that much goes on at its edges."""

from __future__ import annotations

from typing import Any, TypeAlias

Step: TypeAlias = tuple[Any, ...]
BOTH = ["oven", "pump"]

LATE: tuple[list[Step], list[Step]] = (
    [("policy", None), ("start", "both", 0, None)],
    [
        ("take", BOTH, [20, 30, 30]),
        ("bring", 0),
        ("take", ["oven"], [30, 30, 5]),
        ("post", "pump", [10, 61, 119, 120, 200], None),
        ("again", "posts", "pump", 0, 2, False),
        ("again", "agents", "oven", 0, 2, True),
        ("again", "posts", "pump", 6, 1, True),
        ("again", "agents", "oven", 1, 2, False),
        ("fold",),
        ("stop", 0, 120),
        ("bring", 0),
        ("start", "one", 121, None),
        ("post", "oven", [15, 70, 119, 121, 125], None),
        ("stop", 1, 60),
        ("post", "oven", [10, 130, 300], 0),
        ("post", "pump", [250], 1),
        ("again", "posts", "oven", 8, 4, False),
        ("start backfill", 0),
        ("post", "oven", [40], None),
        ("complete backfill", 0),
        ("post", "oven", [41], None),
        ("post", "oven", [42, 400], 0),
        ("post", "pump", [500], 0),
        ("fold",),
        ("post", "pump", [62, 119], None),
        ("take", ["oven"], [15]),
        ("archive", 1),
        ("post", "oven", [150, 181], None),
        ("bring", 0),
        ("release", 3),
        ("discard", 0),
        ("take", BOTH, []),
        ("bring", 0),
        ("start backfill", 0),
    ],
)
"""What comes late, is named, repeated, folded over, archived, and counted by backfills."""

CLOCKS: tuple[list[Step], list[Step]] = (
    [("policy", "hold"), ("start", "any", 0, None)],
    [
        ("clock", "measured", 3_600_000_000),
        ("take", BOTH, [20, 10, 10]),
        ("bring", 0),
        ("take", ["oven"], [10, 10]),
        ("clock", "derived", -7_000_000),
        ("take", ["pump"], [5]),
        ("lose", 0, "quota_oldest"),
        ("take", ["oven"], []),
        ("lose", 1, "quota_thin"),
        ("bring", 0),
        ("pause", "overflow", 7, ["oven"]),
        ("pause", "blocked", 5, ["pump"]),
        ("restart", "measured", -500_000),
        ("take", BOTH, [4, 4]),
        ("once more", 3),
        ("bring", 0),
        ("restart", "blind", 0),
        ("stop", 0, 150),
        ("take", BOTH, [5, 5]),
    ],
)
"""Clocks that are an hour off, are set, and are known of nothing, and what is lost meanwhile."""

UNPLACED: tuple[list[Step], list[Step]] = (
    [("policy", "attach"), ("start", "both", 5, 150)],
    [
        ("take", BOTH, [23, 2, 7]),
        ("bring", 0),
        ("restart", "blind", 0),
        ("take", ["pump"], [5, 5]),
        ("pause", "overflow", 3, ["pump"]),
        ("restart", "measured", 25_000_000),
        ("take", ["oven"], [20, 30, 30, 30, 20]),
        ("bring", 0),
        ("bring", 0),
        ("bring", 0),
        ("bring", 0),
        ("fold",),
        ("post", "oven", [20, 80], None),
    ],
)
"""Readings of a clock without a place, which are all that a certificate waits for."""

HOLES: tuple[list[Step], list[Step]] = (
    [("policy", None), ("start", "both", 0, 100)],
    [
        ("pause", "overflow", 20, ["pump"]),
        ("take", BOTH, [5, 5]),
        ("pause", "overflow", 90, ["oven"]),
        ("take", ["oven"], [35]),
        ("bring", 1),
    ],
)
"""A batch that is still to come, though one behind it says that everything was taken, and losses up to the edges."""
