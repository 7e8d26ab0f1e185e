"""Versions of things as ETags: who changes one may say which version he means, and is refused if it is another."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from hub.errors import Problem, invalid

IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="The ETag of the version meant; another one is refused with 412.")
]

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,(?:[ \t]*{_TAG})?)*[ \t]*")
_TAG_WITHIN = re.compile(_TAG)


def etag(version: int) -> str:
    """What stands for a version."""
    return f'"{version}"'


def require_match(if_match: str | None, version: int, *others: str) -> None:
    """See that this version is one of those meant; all are where none is named.

    A weak tag means the version as well: proxies that compress make tags weak.

    Args:
        others: further ETags of this version, under which it is fetched elsewhere.
    Raises: Problem 412; 422 for what names no version.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if _TAGS.fullmatch(if_match) is None:
        raise invalid("If-Match", 'must be * or ETags as they were sent, such as "3", with commas in between')
    named = {tag.removeprefix("W/") for tag in _TAG_WITHIN.findall(if_match)}
    if named.isdisjoint((etag(version), *others)):
        raise Problem(
            412, "this was changed meanwhile; read it again", code="version_mismatch", headers={"ETag": etag(version)}
        )
