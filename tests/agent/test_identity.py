"""The agent's identity: drawn once, kept, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.identity import FILE, load_agent_id
from shared.errors import ConfigurationError


def test_an_identity_is_drawn_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first = load_agent_id(tmp_path / "data")
    assert load_agent_id(tmp_path / "data") == first
    assert load_agent_id(tmp_path / "other") != first
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data" / FILE).stat().st_mode & 0o077 == 0


def test_a_damaged_identity_is_not_replaced_by_another(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("not a uuid")
    with pytest.raises(ConfigurationError, match="does not hold the agent's identity"):
        load_agent_id(tmp_path)


def test_a_data_directory_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        load_agent_id(tmp_path / "file" / "data")
