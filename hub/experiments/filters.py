"""Which experiments, or runs, a list or an export holds; the same parameters everywhere."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query

from hub.errors import invalid
from hub.experiments.fields import TAG_LENGTH_MAX, TAGS_MAX, normal_tags
from hub.experiments.rules import Status
from hub.telemetry.moments import Moment

_TAGS_LENGTH_MAX = TAGS_MAX * (TAG_LENGTH_MAX + 1)

TagsQuery = Annotated[
    str | None,
    Query(max_length=_TAGS_LENGTH_MAX, description="Separated by commas; what has all of them."),
]


class Filters:
    """Query parameters of lists and exports; a dependency. Raises: Problem 422."""

    def __init__(
        self,
        project_id: Annotated[UUID | None, Query(description="Only of this project.")] = None,
        status: Status | None = None,
        tags: TagsQuery = None,
        created_after: Annotated[Moment | None, Query(description="At this time (RFC 3339) or later.")] = None,
        created_before: Annotated[Moment | None, Query(description="At this time (RFC 3339) or earlier.")] = None,
    ) -> None:
        self.project_id = project_id
        self.status = status
        self.tags = _tags(tags)
        self.created_after = created_after
        self.created_before = created_before

    def arguments(self) -> tuple[UUID | None, str | None, list[str] | None, datetime | None, datetime | None]:
        """In the order of the statements' parameters, which is that of the query's."""
        return self.project_id, self.status, self.tags, self.created_after, self.created_before


def _tags(text: str | None) -> list[str] | None:
    """The tags of a comma list; None if it names none."""
    if text is None:
        return None
    try:
        return normal_tags([part for part in text.split(",") if part.strip()]) or None
    except ValueError as error:
        raise invalid("tags", str(error)) from None
