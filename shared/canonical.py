"""One way of writing JSON, byte for byte, so that it can be signed and the signature checked anywhere.

RFC 8785 for what we use of JSON: objects, arrays, strings, integers within ±(2^53 - 1), true, false and null, with
ASCII names. UTF-8; no white space; names in the order of their code points; of the characters in strings only the
quotation mark, the backslash and those below U+0020 are escaped (the short way where JSON has one, else by four
lower-case hex digits). There are no fractions: moments are text, lengths of time whole microseconds; so no two programs
can differ over how a number is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

INTEGER_MAX = (1 << 53) - 1


def canonical_json(value: Any) -> bytes:
    """The value, written in the one way. Raises: ValueError for what cannot be written so."""
    _check(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_strictly(text: str | bytes) -> Any:
    """JSON without fractions, and without a name that stands twice in one object. Raises: ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_float=_refuse, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check(value: Any) -> None:
    if isinstance(value, dict):
        if not all(isinstance(name, str) and name.isascii() for name in value):
            raise ValueError("names are ASCII text")
        _check_all(value.values())
    elif isinstance(value, list):
        _check_all(value)
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        return
    elif not isinstance(value, int):
        raise ValueError(f"{type(value).__name__} has no one way to be written")
    elif abs(value) > INTEGER_MAX:
        raise ValueError(f"{value} is beyond the whole numbers that every program can hold")


def _check_all(values: Iterable[Any]) -> None:
    for one in values:
        _check(one)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a whole number")
