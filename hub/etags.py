"""Versions of things as ETags: who changes one may say which version he means, and is refused if it is another."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from hub.errors import Problem

IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="The ETag of the version meant; another one is refused with 412.")
]


def etag(version: int) -> str:
    """What stands for a version."""
    return f'"{version}"'


def require_match(if_match: str | None, version: int) -> None:
    """See that this version is one of those meant; all are where none is named. Raises: Problem 412."""
    if if_match is None or if_match.strip() == "*":
        return
    named = [one.strip().removeprefix("W/") for one in if_match.split(",")]
    if etag(version) not in named:
        raise Problem(
            412, "this was changed meanwhile; read it again", code="version_mismatch", headers={"ETag": etag(version)}
        )
