"""Field types of request bodies: bounded, and nothing in them that the database cannot hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


class Body(BaseModel):
    """A request body. Unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def storable(text: str) -> str:
    """The text, if PostgreSQL and UTF-8 can hold it. Raises: ValueError."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode, without lone surrogates") from None
    return text


Text = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(storable)]
"""Free text."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(storable)]
"""What people call a thing."""
QueryText = Annotated[str, StringConstraints(max_length=200), AfterValidator(storable)]
"""A word in a query string."""
Flag = Annotated[bool, Field(strict=True)]
"""True or false, and no number or text that might mean one."""
