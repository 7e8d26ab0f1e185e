"""Artifacts as the API takes and shows them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from hub.errors import FieldError, Problem
from hub.experiments.fields import JsonObject
from hub.fields import Body, QueryText, storable
from hub.runs.artifacts.store import ArtifactFields
from hub.runs.store import Row

MEDIA_TYPE_PATTERN = r"[0-9A-Za-z.+_-]+/[0-9A-Za-z.+_-]+(; ?[0-9A-Za-z.+_-]+=[0-9A-Za-z.+_-]+)*"
"""A media type, fit for a header."""
MEDIA_TYPE_LENGTH_MAX = 200
SIZE_MAX = (1 << 53) - 1
_OF_CONTENT = ("uri", "checksum", "size")
_SHA256 = re.compile(r"(?:sha-?256:)?([0-9a-f]{64})")
_UNSAFE_SCHEME = re.compile(r"\s*(javascript|data|vbscript)\s*:", re.IGNORECASE)


def _harmless(uri: str) -> str:
    """The URI, if a page may make a link of it. Raises: ValueError."""
    if _UNSAFE_SCHEME.match(uri) or not uri.isprintable():
        raise ValueError("must be printable and no javascript:, data: or vbscript: URI")
    return uri


def sha256_of(text: str) -> str:
    """The 64 lower-case digits of a checksum as clients write it. Raises: ValueError."""
    found = _SHA256.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("must be a SHA-256 of 64 hexadecimal digits")
    return found.group(1)


Uri = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(storable),
    AfterValidator(_harmless),
]  # fmt: skip
MediaType = Annotated[str, StringConstraints(pattern=rf"^({MEDIA_TYPE_PATTERN})?$", max_length=MEDIA_TYPE_LENGTH_MAX)]
Checksum = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_:=+/-]{1,200}$")]
Size = Annotated[int, Field(strict=True, ge=0, le=SIZE_MAX)]


class NewArtifact(Body):
    """An artifact to be: with `uri`, something that is kept elsewhere; without, something that the hub is to keep."""

    name: QueryText = Field("", description="The file's name, for downloads.")
    type: QueryText = ""
    uri: Uri | None = Field(None, description="Where the content is. Left out: upload it to the hub.")
    checksum: Checksum | None = Field(None, description="Of the content; SHA-256 where the hub is to keep it.")
    size: Size | None = Field(None, description="Of the content in bytes.")
    content_type: MediaType = ""
    metadata: JsonObject = Field(default_factory=dict)
    run_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")

    @model_validator(mode="after")
    def _checkable(self) -> NewArtifact:
        if self.uri is None and self.checksum is not None:
            try:
                self.checksum = sha256_of(self.checksum)
            except ValueError as error:
                raise ValueError(f"checksum: {error}") from None
        return self

    def fields(self, content_uri: str) -> ArtifactFields:
        """For the database."""
        return ArtifactFields(
            uri=self.uri or content_uri,
            name=self.name,
            type=self.type,
            checksum=self.checksum or "",
            size=self.size,
            content_type=self.content_type,
            metadata=self.metadata,
        )


class ArtifactChange(Body):
    """What is to change; what is left out stays. What the hub keeps sets its own uri, checksum and size."""

    name: QueryText | None = None
    type: QueryText | None = None
    uri: Uri | None = None
    checksum: Checksum | None = None
    size: Size | None = None
    content_type: MediaType | None = None
    metadata: JsonObject | None = None
    run_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The run's, if given.")

    @model_validator(mode="after")
    def _says_something(self) -> ArtifactChange:
        if all(getattr(self, name) is None for name in ArtifactFields.__slots__):
            raise ValueError("name something to change")
        return self

    def fields(self, row: Row) -> ArtifactFields:
        """For the database. Raises: Problem 422 for what is set by the content."""
        said = {name: getattr(self, name) for name in ArtifactFields.__slots__ if getattr(self, name) is not None}
        if is_kept_here(row):
            wrong = [
                FieldError(name, "is set by the content that the hub keeps") for name in _OF_CONTENT if name in said
            ]
            if wrong:
                raise Problem(422, f"{wrong[0].field}: {wrong[0].message}", code="invalid_field", fields=wrong)
        return ArtifactFields(**{name: row[name] for name in ArtifactFields.__slots__} | said)


class ArtifactView(BaseModel):
    """An artifact. `stored` says whether the hub has the content, which is at `uri` then."""

    id: UUID
    run_id: UUID
    project_id: UUID
    name: str
    type: str
    uri: str
    stored: bool
    checksum: str
    size: int | None
    content_type: str
    metadata: dict[str, Any]
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    approved_by: UUID | None
    approved_at: datetime | None
    version: int

    @classmethod
    def of(cls, row: Row) -> ArtifactView:
        """Of a row of the table."""
        return cls.model_validate({name: row[name] for name in cls.model_fields})


class Artifacts(BaseModel):
    """A page of artifacts, newest first."""

    artifacts: list[ArtifactView]
    total: int
    page: int
    page_size: int


def content_uri(run_id: UUID, artifact_id: UUID) -> str:
    """Where the content is, if the hub keeps it."""
    return f"/api/v1/runs/{run_id}/artifacts/{artifact_id}/content"


def is_kept_here(row: Row) -> bool:
    """Whether the hub keeps the content, or is to keep it."""
    return bool(row["uri"] == content_uri(row["run_id"], row["id"]))
