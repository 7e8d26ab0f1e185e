"""docs/modbus.md says what the code does."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from drivers.modbus.driver import MODBUS_RTU, MODBUS_TCP
from drivers.modbus.registers import WORDS
from drivers.modbus.settings import PointTable, SerialTable, TcpTable

PAGE = (Path(__file__).parents[3] / "docs" / "modbus.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| ", re.MULTILINE)


def documented(heading):
    """Key → default, from the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(ROW.findall(section))


def defaults(*structures):
    """Key → default of the keys whose default is a constant."""
    found = {}
    for structure in structures:
        for field in msgspec.structs.fields(structure):
            if field.name != "driver":
                found.setdefault(field.name, field.default)
    return found


@pytest.mark.parametrize(
    ("heading", "structures", "in_words"),
    [
        ("Settings of a device", (TcpTable, SerialTable), {"bytesize", "pause_s"}),
        ("Settings of a point", (PointTable,), {"type", "length", "word_order", "byte_order", "interval_s", "sensor"}),
    ],
)
def test_every_key_is_documented_with_its_default(heading, structures, in_words):
    page, code = documented(heading), defaults(*structures)
    assert set(page) == set(code)
    for key in set(page) - in_words:
        if code[key] is msgspec.NODEFAULT:
            assert page[key] == "required", key
        elif code[key] is None:
            assert page[key] == "none", key
        else:
            assert json.loads(page[key]) == code[key], key


def test_every_type_is_documented():
    for type_ in (*WORDS, "string"):
        assert f"`{type_}`" in PAGE


def test_the_example_is_a_valid_configuration():
    devices = tomllib.loads(PAGE.split("```toml\n")[1].split("```")[0])["devices"]
    assert len(MODBUS_TCP.device("bench", devices["bench"]).points) == 6
    assert len(MODBUS_RTU.device("oven", devices["oven"]).points) == 1
