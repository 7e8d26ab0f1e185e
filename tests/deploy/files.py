"""What is in `deploy/`, as those read it who use it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import agent.cli
import hub.cli

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
COMPOSE = ROOT / "deploy" / "compose"


def unit(name: str) -> dict[str, list[str]]:
    """All settings of a unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def environment(path: Path) -> dict[str, str]:
    """The assignments of an environment file."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def parse(command: list[str]) -> None:
    """Have the product's own parser take a command line such as `labrelay hub run`; exits where it does not."""
    program, part, *arguments = command
    assert Path(program).name == "labrelay", command
    parser = {"hub": hub.cli._parser, "agent": agent.cli._parser}[part]()
    known, others = parser.parse_known_args(arguments)
    assert not others or known.command == "spool", others


def shell_lines(page: Path) -> Iterator[str]:
    """What a page tells its reader to type, continued lines joined, comments left out."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line and not line.startswith("#"):
                yield line


def labrelay_commands(page: Path) -> list[list[str]]:
    """The product's commands among them."""
    found = []
    for line in shell_lines(page):
        words = shlex.split(line, comments=True)
        starts = [place for place, word in enumerate(words) if Path(word).name == "labrelay" and place + 1 < len(words)]
        found += [words[place:] for place in starts if words[place + 1] in ("hub", "agent")]
        if "run" in words and "agent" in words and words[:2] == ["docker", "compose"]:
            found.append(["labrelay", *words[words.index("agent") :]])
    return found
