"""HTTP of certificates: as JSON, as a page to print, and the key to check them with."""

from __future__ import annotations

import json
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from hub.access.identity import CurrentUser
from hub.access.rules import ANYONE, VIEWER, rule
from hub.certificates import store
from hub.certificates.page import page_of
from hub.certificates.rules import State
from hub.certificates.signing import ALGORITHM
from hub.certificates.views import CertificateVersion, CertificateVersions, PublicKey, SignedCertificate
from hub.database.pool import acquire
from hub.errors import not_found
from hub.runs.access import find_run
from hub.services import AnyServices, CurrentServices

router = APIRouter(tags=["certificates"])

_PATH = "/api/v1/runs/{run_id}/capture-sessions/{session_id}/certificate"
_HTML = "text/html"
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


@router.get(
    _PATH,
    response_model=SignedCertificate,
    responses={200: {"content": {_HTML: {"schema": {"type": "string"}}}}},
    dependencies=[rule(VIEWER)],
)
async def get_certificate(
    services: CurrentServices,
    user: CurrentUser,
    run_id: UUID,
    session_id: UUID,
    format: Annotated[  # noqa: A002 - the parameter's name
        Literal["json", "html"] | None, Query(description="By default what `Accept` asks for.")
    ] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="One that was issued before.")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """What became of every reading of the session, signed; `labrelay verify` checks it.

    Of this moment, unless a version is asked for. Only final certificates are kept as versions.
    """
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        if await store.session(connection, session_id, run_id) is None:
            raise not_found("capture session")
        document = None if version is None else await store.document(connection, session_id, version)
    if version is None:
        issued = await services.certificates.issue(session_id, run_id)
        document = None if issued is None else issued.document
    if document is None:
        raise not_found("certificate" if version is not None else "capture session")
    if format == "html" or (format is None and _prefers_html(accept)):
        page = page_of(json.loads(document))
        return Response(page, media_type=_HTML, headers={**_PAGE_HEADERS, "Vary": "Accept"})
    return Response(document, media_type="application/json", headers={"Vary": "Accept"})


@router.get(f"{_PATH}/versions", dependencies=[rule(VIEWER)])
async def list_versions(
    services: CurrentServices, user: CurrentUser, run_id: UUID, session_id: UUID
) -> CertificateVersions:
    """The final certificates that were issued for a session."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        if await store.session(connection, session_id, run_id) is None:
            raise not_found("capture session")
        rows = await store.versions(connection, session_id)
    views = [
        CertificateVersion(version=row["version"], state=State(row["state"]), made_at=row["made_at"]) for row in rows
    ]
    return CertificateVersions(certificates=views)


@router.get("/api/v1/certificate-key", dependencies=[rule(ANYONE)])
async def get_key(services: AnyServices) -> PublicKey:
    """The public key that certificates of this hub are signed with."""
    key = services.certificates.key
    return PublicKey(algorithm=ALGORITHM, key_id=key.id, public_key=key.public_key, pem=key.public_pem)


def _prefers_html(accept: str) -> bool:
    """Whether a page is named before JSON, as browsers do."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    html = kinds.index(_HTML) if _HTML in kinds else len(kinds)
    json_place = kinds.index("application/json") if "application/json" in kinds else len(kinds)
    return html < json_place
