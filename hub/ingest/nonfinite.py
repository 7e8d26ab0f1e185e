"""JSON with numbers that JSON does not have: `NaN`, `Infinity`, and those beyond float64, as `json.dumps` of Python and
others write them.

Instruments do measure such values, and a reading that has one is a failed reading with its reason. So a body that
cannot be decoded strictly is read again here, a few times more slowly. What else is strict stays so: no key stands
twice, texts are Unicode, and there is no such number but where a value is.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from hub.declared import distinct_keys
from hub.errors import invalid

_LITERAL = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")
_BEYOND = "Number out of range"
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1


def may_be_why(error: msgspec.DecodeError, content: bytes) -> bool:
    """Whether such a number may be the reason that decoding has failed."""
    return str(error).startswith(_BEYOND) or _LITERAL.search(content) is not None


def loads(content: bytes) -> Any:
    """What the content says; numbers beyond float64 are infinite.

    Raises: msgspec.DecodeError for what is not JSON but for such numbers, RecursionError; Problem 422 for a key that
        stands twice.
    """
    try:
        found = json.loads(content.decode(), parse_int=_integer, object_pairs_hook=distinct_keys)
        json.dumps(found, ensure_ascii=False).encode()  # lone surrogates cannot be encoded
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None
    return found


def require_finite(meta: dict[str, Any] | None, field: str) -> None:
    """See that there is no such number in meta. Raises: Problem 422."""
    if not meta:
        return
    try:
        json.dumps(meta, allow_nan=False)
    except ValueError:
        raise invalid(field, "NaN, infinities and numbers beyond float64 are values of readings only") from None


def _integer(text: str) -> int | float:
    number = float(text)
    return int(text) if _INT_MIN <= number <= _INT_MAX and _INT_MIN <= int(text) <= _INT_MAX else number
