"""Finding the line of a key."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.toml_lines import LineMap

TEXT = '''# a comment with [brackets] and = signs
title = "first" # another
"quoted key" = 1
site.name.long = 3
numbers = [
  1, # one
  2,
  [3, {deep = 4}],
]
text = """
[not.a.table]
not_a_key = 1 \\"""
"""
literal = \'\'\'
[neither]\'\'\'

[devices.bench]
driver = "modbus-tcp"
points = {flow = {register = "holding:1", unit = 'a}b'}, "x.y" = {register = "input:2"}}
[devices . "my meter".points]
temp.register = "coil:1"
temp.unit = ""
[[array]]
a = 1
[[array]]
a = 2
[array.sub]
b = 1979-05-27T07:32:00Z
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 2),
        (("quoted key",), 3),
        (("site",), 4),
        (("site", "name", "long"), 4),
        (("numbers", "1"), 7),
        (("numbers", "2", "1", "deep"), 8),
        (("text",), 10),
        (("literal",), 14),
        (("devices", "bench"), 17),
        (("devices", "bench", "driver"), 18),
        (("devices", "bench", "points", "flow", "unit"), 19),
        (("devices", "bench", "points", "x.y", "register"), 19),
        (("devices", "my meter", "points", "temp", "unit"), 22),
        (("array", "1", "a"), 26),
        (("array", "1", "sub", "b"), 28),
        (("devices", "bench", "port"), 17),
        (("devices", "bench", "points", "flow", "scale"), 19),
        (("nowhere",), None),
        ((), None),
    ],
)
def test_a_key_is_found_on_its_line_and_a_missing_one_on_its_tables(key: tuple[str, ...], line: int | None) -> None:
    tomllib.loads(TEXT)
    assert LineMap(TEXT).line(key) == line


names = st.text("ab-_1", min_size=1, max_size=3)
values = st.recursive(
    st.one_of(
        st.integers(-9, 9).map(str),
        st.text('abc[]{}=#,." \t', max_size=8).map(lambda text: '"' + text.replace('"', '\\"') + '"'),
        st.text('abc[]{}=#," \n', max_size=8).map(lambda text: f"'''{text}'''"),
        st.sampled_from(["true", "1.5e3", "1979-05-27", "''", '""', '"""a""b"""']),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[\n" + ",  # ] }\n".join(items) + "\n]"),
    max_leaves=5,
)


@given(st.lists(st.tuples(names, names, values), max_size=12))
def test_every_key_of_any_document_is_found(entries: list[tuple[str, str, str]]) -> None:
    lines: list[str] = []
    wanted: dict[tuple[str, str], int] = {}
    for table, key, value in entries:
        if any(known[0] == table for known in wanted):
            continue
        lines += [f"[ {table} ] # [x]", f"{key} = {value}"]
        wanted[table, key] = sum(part.count("\n") + 1 for part in lines[:-1]) + 1
    text = "\n".join(lines)
    parsed: dict[str, Any] = tomllib.loads(text)
    found = LineMap(text)
    for (table, key), line in wanted.items():
        assert key in parsed[table]
        assert found.line((table, key)) == line
