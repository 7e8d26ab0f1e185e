"""docs/configuration.md says of every setting exactly what the code does.

When a test fails, it shows the table that belongs on the page.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as types

from agent.configuration import parse_settings
from agent.hub_link.settings import HubSettings
from agent.settings import AgentTable, DeviceTable
from agent.spool.settings import SpoolSettings
from drivers import registry

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "[agent]": AgentTable,
    "[spool]": SpoolSettings,
    "[hub]": HubSettings,
    "[devices.NAME]": DeviceTable,
}


def described(structure: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring says of each attribute."""
    text = inspect.cleandoc(structure.__doc__ or "").partition("Attributes:\n")[2]
    entries: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if found := re.match(r"    (\w+): (.*)", line):
            name = found.group(1)
            entries[name] = found.group(2)
        elif name:
            entries[name] += " " + line.strip()
    return entries


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def shown_type(kind: types.Type) -> str:
    match kind:
        case types.LiteralType(values=values):
            return " ".join(f'`"{value}"`' for value in sorted(values))
        case types.BoolType():
            return "`true` `false`"
        case types.IntType(ge=low, le=high) | types.FloatType(ge=low, le=high):
            word = "integer" if isinstance(kind, types.IntType) else "number"
            return f"{word} {number(low)} … {number(high)}" if low is not None and high is not None else word
        case types.StrType():
            return "text"
        case types.UnionType(types=several):
            return " ".join(shown_type(each) for each in several if not isinstance(each, types.NoneType))
    raise AssertionError(f"no words for {kind}")


def shown_default(field: types.Field) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default in (None, ""):
        return "see there"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f'`"{field.default}"`' if isinstance(field.default, str) else number(field.default)


def table_of(structure: type[msgspec.Struct]) -> str:
    info = types.type_info(structure)
    assert isinstance(info, types.StructType)
    texts = described(structure)
    rows = [
        f"| `{field.name}` | {shown_type(field.type)} | {shown_default(field)} | {texts[field.name]} |"
        for field in info.fields
    ]
    return "\n".join(["| key | value | default | |", "| --- | --- | --- | --- |", *rows])


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_key_with_its_range_default_and_meaning(section: str) -> None:
    assert table_of(SECTIONS[section]) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_driver_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([a-z-]+)` \| \[", page, re.MULTILINE))
    assert named == set(registry.BUILT_IN)


def test_the_examples_on_the_page_are_good_configurations() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        _, errors = parse_settings(example)
        assert errors == []
