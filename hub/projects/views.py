"""What is asked and answered about projects and their members."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from hub.access.principals import Role
from hub.fields import Body, Name, QueryText, Text


class NewProject(Body):
    """A project to be."""

    name: Name
    description: Text = ""


class ProjectChange(Body):
    """What is to change; what is left out stays."""

    name: Name | None = None
    description: Text | None = None
    project_id: UUID | None = Field(None, description="That of the path, if given.")


class ProjectView(BaseModel):
    """A project; `role` is the caller's."""

    id: UUID
    name: str
    description: str
    owner_id: UUID
    role: Role
    created_at: datetime
    updated_at: datetime
    version: int


class Projects(BaseModel):
    """All projects of the caller."""

    projects: list[ProjectView]


class NewMember(Body):
    """Someone to join, by id or by name."""

    user_id: UUID | None = None
    username: QueryText = ""
    role: Role = Role.VIEWER
    project_id: UUID | None = Field(None, description="That of the path, if given.")

    @model_validator(mode="after")
    def _one_user(self) -> NewMember:
        if (self.user_id is None) == (not self.username):
            raise ValueError("give user_id or username")
        return self


class RoleChange(Body):
    """The role to be."""

    role: Role
    project_id: UUID | None = Field(None, description="That of the path, if given.")


class MemberView(BaseModel):
    """A member."""

    user_id: UUID
    username: str
    role: Role
    created_at: datetime


class Members(BaseModel):
    """All members of a project."""

    members: list[MemberView]
