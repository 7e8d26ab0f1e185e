"""A value out of a line's text: by pattern or by field, scaled and judged, without ever guessing.

What is not a number is never made one: `float` would take `1_000`, Arabic digits and `  12  ` too, so the text is
checked first. A number that is there but must not be stored as a value (NaN, infinity, outside the valid range)
becomes a failed reading with its reason; text that is no number is an `InvalidAnswer`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from drivers.line.framing import excerpt
from shared.errors import InvalidAnswer
from shared.readings import Reason

_NUMBER = re.compile(r"[-+]? *(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_A_NUMBER = frozenset({"nan", "+nan", "-nan", "1.#qnan", "-1.#ind"})
_INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "1.#inf", "-1.#inf"})


class Value(NamedTuple):
    """One extracted value: NaN where the reason says that there is none."""

    raw: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Extraction:
    """Where in a line a point's value stands, and how it is read.

    Exactly one of `pattern` and `field` is given.

    Attributes:
        prefix: lines that do not begin so are not this point's.
        pattern: searched in the line; its group `value`, else its first group, else the whole match is the number.
        field: the number is this field, counted from 1; from -1 backwards.
        separator: between fields; blank for any run of white space.
        decimal: the decimal sign, `.` or `,`.
        scale: raw = number * scale + offset.
        offset: raw = number * scale + offset.
        valid_min: below it a reading fails as out of range.
        valid_max: above it a reading fails as out of range.
    """

    prefix: str = ""
    pattern: re.Pattern[str] | None = None
    field: int | None = None
    separator: str = ","
    decimal: str = "."
    scale: float = 1.0
    offset: float = 0.0
    valid_min: float = -math.inf
    valid_max: float = math.inf

    def extract(self, text: str) -> Value | None:
        """The value in this line, or None if the line is not this point's.

        Raises: InvalidAnswer if it is, but holds no number where one should be.
        """
        found = self._find(text)
        return None if found is None else self.judge(self.number(found, text))

    def _find(self, text: str) -> str | None:
        if not text.startswith(self.prefix):
            return None
        if self.pattern is not None:
            match = self.pattern.search(text)
            return None if match is None else _captured(match)
        fields = text.split(self.separator) if self.separator.strip() else text.split()
        assert self.field is not None
        index = self.field - 1 if self.field > 0 else self.field
        if not -len(fields) <= index < len(fields):
            raise InvalidAnswer(f"no field {self.field} among {len(fields)} in {excerpt(text.encode())}")
        return fields[index]

    def number(self, found: str, text: str) -> float:
        """The number that `found` spells. Raises: InvalidAnswer, showing the line's `text`."""
        word = found.strip()
        if self.decimal == ",":
            word = word.replace(",", ".", 1) if "." not in word else word
        if _NUMBER.fullmatch(word):
            return float(word.replace(" ", ""))
        if word.lower() in _NOT_A_NUMBER:
            return math.nan
        if word.lower() in _INFINITE:
            return math.inf
        raise InvalidAnswer(f"not a number: {excerpt(found.encode())} in {excerpt(text.encode())}")

    def judge(self, number: float) -> Value:
        """The number, scaled, with the reason why it cannot be stored as a value, if there is one."""
        raw = number * self.scale + self.offset
        if math.isnan(raw):
            return Value(math.nan, Reason.NOT_A_NUMBER)
        if math.isinf(raw):
            return Value(math.nan, Reason.INFINITE)
        if not self.valid_min <= raw <= self.valid_max:
            return Value(raw, Reason.OUT_OF_RANGE)
        return Value(raw, Reason.NONE)


def _captured(match: re.Match[str]) -> str | None:
    if match.re.groups == 0:
        return match.group()
    captured = match["value"] if "value" in match.re.groupindex else match.group(1)
    return "" if captured is None else captured
