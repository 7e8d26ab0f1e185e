"""The life of an experiment, and of a run, apart from any database.

::

    draft ──► running ──► succeeded ──► archived
      │          └──────► failed ─────────▲
      └───────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from hub.errors import Problem


class Status(StrEnum):
    """Where an experiment or a run is in its life."""

    DRAFT = "draft"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ARCHIVED = "archived"

    @property
    def is_terminal(self) -> bool:
        """Whether it says how something ended."""
        return self in (Status.SUCCEEDED, Status.FAILED)


NEXT: Mapping[Status, frozenset[Status]] = {
    Status.DRAFT: frozenset({Status.RUNNING, Status.ARCHIVED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED}),
    Status.SUCCEEDED: frozenset({Status.ARCHIVED}),
    Status.FAILED: frozenset({Status.ARCHIVED}),
    Status.ARCHIVED: frozenset(),
}
"""What may follow each status."""


def require_transition(what: str, current: Status, wanted: Status) -> bool:
    """See that a thing may go from one status to another.

    Args:
        what: the kind of thing, for people.

    Returns: whether anything changes; the same status again does nothing.
    Raises: Problem 409 that names both.
    """
    if wanted is current:
        return False
    if wanted not in NEXT[current]:
        raise Problem(
            409,
            f"a{'n' if what[0] in 'aeiou' else ''} {what} that is {current} cannot become {wanted}",
            code="invalid_transition",
            extensions={"from_status": current, "to_status": wanted},
        )
    return True
