"""Field types of request bodies: bounded, and nothing in them that the database cannot hold."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator


def _describe_null(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Say in a body's schema which fields may be null although they never are."""
    for name in _left_out_by_null(model):
        value = schema["properties"][name]
        said = {key: value.pop(key) for key in ("title", "description", "default") if key in value}
        schema["properties"][name] = {"anyOf": [value, {"type": "null"}], **said}


class Body(BaseModel):
    """A request body. Unknown fields are refused by name.

    Null leaves a field out that may be left out: many clients write down all the fields they know. Where null means
    something of its own, the field's type says so.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra=_describe_null)

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        if not isinstance(given, dict) or None not in given.values():
            return given
        names = _left_out_by_null(cls)
        return {name: value for name, value in given.items() if value is not None or name not in names}


@cache
def _left_out_by_null(model: type[BaseModel]) -> frozenset[str]:
    """The fields that have a default, and a type that null is none of."""
    fields = model.model_fields.items()
    return frozenset(
        name
        for name, field in fields
        if not field.is_required() and field.annotation is not Any and type(None) not in get_args(field.annotation)
    )


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
