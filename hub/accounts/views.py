"""What is asked and answered about accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, StringConstraints, model_validator

from hub.access.passwords import LENGTH_MAX, weakness
from hub.access.principals import User
from hub.fields import Body, QueryText, storable


def _strong(password: str) -> str:
    if lacking := weakness(password):
        raise ValueError(lacking)
    return storable(password)


Username = Annotated[
    str, StringConstraints(min_length=3, max_length=50, pattern=r"^[\w.-]+$"), AfterValidator(storable)
]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), AfterValidator(storable)]
NewPassword = Annotated[str, AfterValidator(_strong), Field(repr=False)]
GivenPassword = Annotated[
    str, StringConstraints(max_length=LENGTH_MAX * 4), AfterValidator(storable), Field(repr=False)
]


class Registration(Body):
    """A new account."""

    username: Username
    email: Email
    password: NewPassword
    invitation_token: QueryText = Field(default="", repr=False, description="Where registration is by invitation.")


class Credentials(Body):
    """Who signs in: by user name (or e-mail address in the same field) or by `email`."""

    username: QueryText = ""
    email: QueryText = ""
    password: GivenPassword

    @model_validator(mode="after")
    def _one_login(self) -> Credentials:
        if bool(self.username) == bool(self.email):
            raise ValueError("give username or email")
        return self


class RefreshRequest(Body):
    """A refresh token, where it does not come as a cookie."""

    refresh_token: QueryText = Field(default="", repr=False)


class PasswordChange(Body):
    """The password that was, and the one that is to be."""

    current_password: GivenPassword = Field(validation_alias=AliasChoices("current_password", "old_password"))
    new_password: NewPassword


class LinkRequest(Body):
    """Whom the link is for; oneself if left out."""

    username: QueryText = ""


class UserView(BaseModel):
    """A user, as the API shows one."""

    id: UUID
    username: str
    email: str
    is_active: bool
    is_admin: bool
    password_change_required: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> UserView:
        """What is shown of a user."""
        return cls.model_validate(user, from_attributes=True)


class SessionView(BaseModel):
    """A sign-in. The tokens are in the body only where the caller is no browser (sends no Origin)."""

    user: UserView
    expires_in: int = Field(description="Seconds that the access token is good for.")
    refresh_expires_in: int = Field(description="Seconds that the refresh token is good for.")
    token_type: str = "bearer"
    access_token: str | None = None
    refresh_token: str | None = None


class LinkView(BaseModel):
    """A one-time sign-in link. It is shown once: a repeat of the request has none."""

    url: str | None
    expires_at: datetime
