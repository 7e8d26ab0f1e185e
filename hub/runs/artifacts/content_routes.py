"""HTTP of the contents that the hub keeps: sent and fetched as they are, in one body of any length that is allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from hub.access.identity import CurrentUser, Role
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.pool import acquire
from hub.errors import Problem, conflict, invalid
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.runs.artifacts import store
from hub.runs.artifacts.access import find_artifact, lock_artifact, record_artifact, require_unapproved
from hub.runs.artifacts.byte_range import part_of
from hub.runs.artifacts.content_response import MEDIA_TYPE, ContentResponse, content_etag
from hub.runs.artifacts.contents import Contents
from hub.runs.artifacts.transfer import (
    Expected,
    Received,
    checksum_of_digest,
    discard,
    receive,
)
from hub.runs.artifacts.views import MEDIA_TYPE_LENGTH_MAX, MEDIA_TYPE_PATTERN, ArtifactView, is_kept_here, sha256_of
from hub.runs.store import Row
from hub.services import CurrentServices, Services

router = APIRouter(prefix="/api/v1/runs/{run_id}/artifacts/{artifact_id}/content", tags=["runs"])

UPLOAD_PATH = re.compile(r"/api/v1/runs/[^/]+/artifacts/[^/]+/content")
"""Where larger bodies are taken."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"content": {"*/*": _BINARY}, "required": True}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: _BINARY}, "description": "The content as it was uploaded."},
    206: {"content": {MEDIA_TYPE: _BINARY}, "description": "The part of it that `Range` asks for."},
}
Range = Annotated[str | None, Header(description="One range of bytes, such as `bytes=1000-`.")]
IfRange = Annotated[str | None, Header(description="The ETag of the content meant; of another one the whole is sent.")]


@router.put("", dependencies=[rule(EDITOR)], openapi_extra=_BODY)
async def upload(
    request: Request,
    response: Response,
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    run_id: UUID,
    artifact_id: UUID,
    if_match: IfMatch = None,
    checksum: Annotated[str | None, Query(max_length=100, description="SHA-256 of the content, 64 digits.")] = None,
    content_digest: Annotated[str | None, Header(description="The same, as RFC 9530 writes it.")] = None,
) -> ArtifactView:
    """Send the content of an artifact, which replaces an earlier one once all of it is there and right."""
    contents = _contents(services)
    async with acquire(services.pool) as connection:
        row = await find_artifact(connection, user, run_id, artifact_id, Role.EDITOR)
    _require_changeable(row, if_match)
    received = await receive(contents, request.stream(), _expected(row, checksum, content_digest))
    try:
        async with changes.begin() as change:
            row = await lock_artifact(change.connection, user, run_id, artifact_id)
            _require_changeable(row, if_match)
            view = ArtifactView.of(await _keep(change, row, received, _media_type(request, row)))
            record_artifact(change, "artifact.uploaded", view)
    except Problem:  # not committed for certain; after any other error upkeep finds out
        await discard(contents, received.key)
        raise
    await discard(contents, row["content_key"])
    response.headers["ETag"] = etag(view.version)
    return view


@router.get("", dependencies=[rule(VIEWER)], response_class=Response, responses=_ANSWERS)
@router.head("", dependencies=[rule(VIEWER)], response_class=Response, include_in_schema=False)
async def download(
    services: CurrentServices,
    user: CurrentUser,
    run_id: UUID,
    artifact_id: UUID,
    range: Range = None,  # noqa: A002 - the header's name
    if_range: IfRange = None,
) -> Response:
    """Fetch the content of an artifact, or a part of it. A damaged one ends short of its `Content-Length`."""
    contents = _contents(services)
    async with acquire(services.pool) as connection:
        row = await find_artifact(connection, user, run_id, artifact_id)
    if not row["stored"]:
        detail = "the content was not uploaded yet" if is_kept_here(row) else "the content is kept elsewhere, see uri"
        raise Problem(404, detail, code="no_content")
    return ContentResponse(contents, row, part_of(range, if_range, content_etag(row), row["size"]))


async def _keep(change: Change, row: Row, received: Received, content_type: str) -> Row:
    return await store.set_content(
        change.connection, row["id"], received.key, received.checksum, received.size, content_type, change.now
    )


def _contents(services: Services) -> Contents:
    """Raises: Problem 409 where the hub keeps none."""
    if services.contents is None:
        raise conflict("this hub keeps no contents: set artifacts_dir or artifacts_bucket", code="no_store")
    return services.contents


def _require_changeable(row: Row, if_match: str | None) -> None:
    """See that a content may be sent. Whoever has fetched the one before may name that. Raises: Problem 409, 412."""
    require_match(if_match, row["version"], *([content_etag(row)] if row["stored"] else []))
    require_unapproved(row)
    if not is_kept_here(row):
        raise conflict("the content is kept elsewhere: see uri", code="kept_elsewhere")


def _expected(row: Row, checksum: str | None, content_digest: str | None) -> Expected:
    """What the client has said of the content, now and when it made the artifact. Raises: Problem 422."""
    checksums: dict[str, str] = {}
    if checksum is not None:
        try:
            checksums["checksum"] = sha256_of(checksum)
        except ValueError as error:
            raise invalid("checksum", str(error)) from None
    digest = checksum_of_digest(content_digest) if content_digest is not None else None
    if digest is not None:
        checksums["Content-Digest"] = digest
    if row["stored"]:  # what is known of the content that is there says nothing of the next one
        return Expected(checksums, None)
    if row["checksum"]:
        checksums.setdefault("checksum", row["checksum"])
    return Expected(checksums, row["size"])


def _media_type(request: Request, row: Row) -> str:
    """What was said when the artifact was made counts more than what an upload says by the way."""
    given = request.headers.get("content-type", "")[:MEDIA_TYPE_LENGTH_MAX]
    said: str = row["content_type"]
    return said or (given if re.fullmatch(MEDIA_TYPE_PATTERN, given) else "")
