"""What the pages tell an operator to type is there: commands, their options, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.files import COMPOSE, ROOT, SYSTEMD, labrelay_commands, parse, shell_lines

PAGES = (SYSTEMD / "README.md", COMPOSE / "README.md", ROOT / "docs" / "deployment.md")


@pytest.mark.parametrize("page", PAGES[:2], ids=["systemd", "compose"])
def test_each_command_is_one_of_the_products(page: Path) -> None:
    commands = labrelay_commands(page)
    assert len(commands) >= 4
    for command in commands:
        parse(command)


@pytest.mark.parametrize("page", PAGES, ids=["systemd", "compose", "deployment"])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(#[^)]*)?\)", page.read_text())
    assert links
    assert not [link for link, _ in links if not (page.parent / link).exists()]


def test_files_that_are_installed_are_there() -> None:
    text = "\n".join(shell_lines(SYSTEMD / "README.md"))
    named = set(re.findall(r"\b((?:deploy|requirements)/\S+)", text))
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


def test_each_file_of_a_folder_is_explained() -> None:
    for folder in (SYSTEMD, COMPOSE):
        page = (folder / "README.md").read_text()
        files = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        helpers = {"README.md", "healthy.py", "Dockerfile.dockerignore"}
        assert not [name for name in files if name not in helpers and f"({name})" not in page]
