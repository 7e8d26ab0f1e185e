"""Tables of a configuration file, turned into typed structures with messages that help.

A table is described by a `msgspec.Struct`; `parse_table` refuses unknown keys (naming the nearest known one), wrong
types and missing keys with a `ConfigurationError` that carries the path of keys, from which the reader of the
file finds the line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from shared.errors import ConfigurationError

T = TypeVar("T", bound=msgspec.Struct)

_FIELD_IN_PATH = re.compile(r" - at `\$\.([A-Za-z0-9_]+)")


def parse_table(table: Mapping[str, Any], structure: type[T], *, key: Sequence[str] = ()) -> T:
    """A `structure` from a table of the configuration.

    Args:
        key: path of keys to the table itself, for the message.

    Raises: ConfigurationError for an unknown, missing or wrongly typed key.
    """
    where = ".".join(key) or "the top level"
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where} must be a table", key=key)
    check_keys(table, known_keys(structure), key=key)
    try:
        return msgspec.convert(table, structure, strict=True)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _FIELD_IN_PATH.search(message)
        path = (*key, found.group(1)) if found else tuple(key)
        plain = message.split(" - at `$")[0]
        raise ConfigurationError(f"{'.'.join(path) or where}: {plain[0].lower()}{plain[1:]}", key=path) from None


def known_keys(structure: type[msgspec.Struct]) -> list[str]:
    """The keys that a table of this structure may have."""
    return [field.encode_name for field in msgspec.structs.fields(structure)]


def check_keys(table: Mapping[str, Any], known: Sequence[str], *, key: Sequence[str] = ()) -> None:
    """Refuse keys that are not known, naming the nearest one. Raises: ConfigurationError."""
    for name in table:
        if name in known:
            continue
        where = f" in [{'.'.join(key)}]" if key else ""
        raise ConfigurationError(f"unknown key `{name}`{where}", key=(*key, name), hint=nearest_hint(name, known))


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """`did you mean …?` where something is near, else the list of what is known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
