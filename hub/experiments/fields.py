"""Tags and JSON objects, as experiments and runs have them: bounded, and nothing in them that cannot be stored.

A tag has 1 to `TAG_LENGTH_MAX` characters and no comma, because lists of tags in queries are separated by commas. It is
kept as written but for blanks: those at its ends go, those within become one space. Unicode is composed (NFC), so that
what looks the same is the same. A thing has `TAGS_MAX` tags at most, each once, in the order given.

A JSON object has `JSON_BYTES_MAX` bytes at most as compact JSON, where numbers count as PostgreSQL writes them, without
exponents: `1e300` has 301. It is nested `JSON_DEPTH_MAX` levels deep at most, the object itself being the first.
"""

from __future__ import annotations

import math
import unicodedata
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field

from hub.fields import storable

TAGS_MAX = 50
TAG_LENGTH_MAX = 100
JSON_BYTES_MAX = 64 * 1024
JSON_DEPTH_MAX = 16
_INTEGERS = range(-(1 << 63), 1 << 63)


def normal_tag(text: str) -> str:
    """The tag that a text stands for. Raises: ValueError."""
    tag = " ".join(unicodedata.normalize("NFC", storable(text)).split())
    if not 1 <= len(tag) <= TAG_LENGTH_MAX:
        raise ValueError(f"a tag has 1 to {TAG_LENGTH_MAX} characters")
    if "," in tag:
        raise ValueError("a tag must not contain a comma")
    if any(unicodedata.category(character) == "Cc" for character in tag):
        raise ValueError("a tag must not contain control characters")
    return tag


def normal_tags(tags: list[str]) -> list[str]:
    """The tags, each once, in order. Raises: ValueError."""
    return list(dict.fromkeys(normal_tag(tag) for tag in tags))


def storable_object(value: dict[str, Any]) -> dict[str, Any]:
    """The object, if it can be stored as JSON and read back. Raises: ValueError that says where it cannot."""
    digits = _check(value, "", 1)
    if len(orjson.dumps(value)) + digits > JSON_BYTES_MAX:
        raise ValueError(f"must have at most {JSON_BYTES_MAX} bytes as JSON")
    return value


def same_json(left: Any, right: Any) -> bool:
    """Whether two values are the same in JSON, where true is not 1 but 1.0 is."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def _check(value: Any, place: str, depth: int) -> int:
    """Returns: how many digits exponents stand for. Raises: ValueError."""
    if not isinstance(value, dict | list):
        return _check_scalar(value, place)
    if depth > JSON_DEPTH_MAX:
        raise ValueError(f"must be nested at most {JSON_DEPTH_MAX} levels deep")
    if isinstance(value, list):
        return sum(_check(inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(value))
    digits = 0
    for key, inner in value.items():
        _check_scalar(key, f"a key in {place}" if place else "a key")
        digits += _check(inner, f"{place}.{key}" if place else key, depth + 1)
    return digits


def _check_scalar(value: Any, place: str) -> int:
    if isinstance(value, str):
        try:
            storable(value)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    elif isinstance(value, int) and not isinstance(value, bool) and value not in _INTEGERS:
        raise ValueError(f"{place}: must fit 64 bits; write larger numbers as text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place}: must be a finite number")
        return abs(int(math.log10(abs(value)))) if value else 0
    return 0


Tags = Annotated[list[str], Field(max_length=TAGS_MAX), AfterValidator(normal_tags)]
"""Tags in a body."""
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_object)]
"""An object of the client's own in a body: metadata, params."""
