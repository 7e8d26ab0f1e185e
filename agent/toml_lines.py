"""Where in a TOML text a key stands, so that an error can name its line.

Reads text that `tomllib` has accepted, so it only finds its way: it looks into inline tables and arrays, follows dotted
and quoted keys, and steps over strings of every kind. Elements of arrays are addressed by their place: ``("a", "0")``.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Sequence

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?!")|' + r"'''.*?'''(?!')|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
_PLAIN = re.compile(r"[^,\]}#\n]+")

Path = tuple[str, ...]


class LineMap:
    """Lines of keys. Args: text: valid TOML."""

    def __init__(self, text: str) -> None:
        scanner = _Scanner(text)
        scanner.document()
        breaks = [match.start() for match in re.finditer("\n", text)]
        self._lines = {path: bisect_right(breaks, place - 1) + 1 for path, place in scanner.places.items()}

    def line(self, key: Sequence[object]) -> int | None:
        """The line (1-based) of a key, or of the nearest table above it that is written down."""
        path = tuple(map(str, key))
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._elements: dict[Path, int] = {}
        self.places: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip()
        while self._at < len(self._text):
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip()

    def _header(self) -> Path:
        place = self._at
        many = self._text.startswith("[[", place)
        self._at += 2 if many else 1
        path: Path = ()
        keys = self._keys()
        for key in keys[:-1]:
            path = self._last_element((*path, key))
        path = (*path, keys[-1])
        self._at += 2 if many else 1
        self._note(path, place)
        if not many:
            return self._last_element(path)
        self._elements[path] = self._elements.get(path, -1) + 1
        path = self._last_element(path)
        self._note(path, place)
        return path

    def _last_element(self, path: Path) -> Path:
        return (*path, str(self._elements[path])) if path in self._elements else path

    def _pair(self, table: Path) -> None:
        place = self._at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, place)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        match self._peek():
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._string()
            case _:
                self._take(_PLAIN)

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip()
        place = 0
        while self._peek() != "]":
            element = (*path, str(place))
            self._note(element, self._at)
            self._value(element)
            place += 1
            self._comma()
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip()
        while self._peek() != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip()
        if self._peek() == ",":
            self._at += 1
            self._skip()

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip()
            keys.append(self._string() if self._peek() in "\"'" else self._take(_BARE_KEY))
            self._skip()
            if self._peek() != ".":
                return keys
            self._at += 1

    def _string(self) -> str:
        literal = self._take(_STRING)
        return str(tomllib.loads(f"x = {literal}")["x"])

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no TOML at character {self._at}")
        self._at = found.end()
        return found.group()

    def _note(self, path: Path, place: int) -> None:
        self.places.setdefault(path, place)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        self._take(_BLANK)
