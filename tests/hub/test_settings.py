"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub.configuration import load_settings
from hub.settings import HubSettings, read_secret
from shared.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs" / "hub-configuration.md"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "hub.toml"
    file.write_text(text)
    return file


def test_nothing_said_gives_the_defaults() -> None:
    settings = load_settings(None, {})
    assert settings == HubSettings()
    assert settings.base_url == "http://127.0.0.1:8000"
    assert not settings.secure_cookies


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'port = 9000\nhost = "::1"\n')
    settings = load_settings(file, {"LABRELAY_HUB_PORT": "9001", "OTHER": "x"})
    assert (settings.port, settings.base_url) == (9001, "http://[::1]:9001")


@pytest.mark.parametrize("text", ["https://a.example, https://b.example", '["https://a.example","https://b.example"]'])
def test_lists_in_the_environment_are_json_or_separated_by_commas(text: str) -> None:
    settings = load_settings(None, {"LABRELAY_HUB_CORS_ORIGINS": text})
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_an_unknown_key_is_refused_with_file_line_and_the_nearest_one(tmp_path: Path) -> None:
    file = written(tmp_path, "# settings\nport = 1\npublic_ulr = 'x'\n")
    with pytest.raises(
        ConfigurationError, match=r"hub\.toml:3: unknown setting 'public_ulr' \(did you mean 'public_url'"
    ):
        load_settings(file, {})


def test_an_unknown_variable_is_refused_with_the_nearest_key() -> None:
    with pytest.raises(ConfigurationError, match=r"'prot'.*'port'"):
        load_settings(None, {"LABRELAY_HUB_PROT": "1"})


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("port = 70000", 1, "port"),
        ("\n\nport = 'many'", 3, "port"),
        ("registration = 'perhaps'", 1, "registration"),
        ("shutdown_grace_s = nan", 1, "shutdown_grace_s"),
        ("a = ", 1, "not TOML"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(tmp_path: Path, text: str, line: int, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(written(tmp_path, text), {})
    assert caught.value.line == line
    assert named in str(caught.value)


def test_certificate_and_key_belong_together() -> None:
    with pytest.raises(ConfigurationError, match="belong together"):
        load_settings(None, {"LABRELAY_HUB_TLS_CERT_FILE": "cert.pem"})


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the configuration"):
        load_settings(tmp_path / "missing.toml", {})


def test_secrets_are_masked(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, 'database_url = "postgresql://u:secret@h/d"'), {})
    assert "secret@" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, {"LABRELAY_HUB_DATABASE_URL": "postgresql://u:secret@h/d", "LABRELAY_HUB_PORT": "x"})
    assert "secret" not in str(caught.value)


def test_a_secret_file_holds_one_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("Correct-Horse-1\n")
    assert read_secret(file).get_secret_value() == "Correct-Horse-1"
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="empty"):
        read_secret(file)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        HubSettings().port = 1


def test_the_page_describes_every_setting_with_its_default() -> None:
    rows = {
        found.group(1): (found.group(2).strip(), found.group(3).strip())
        for found in re.finditer(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    }
    assert list(rows) == [name for group in groups() for name in group.__annotations__]
    for name, field in HubSettings.model_fields.items():
        assert rows[name] == (shown(name), field.description), name


def groups() -> list[type[HubSettings]]:
    return list(HubSettings.__bases__)  # type: ignore[arg-type]


def shown(name: str) -> str:
    """A default as the page writes it: TOML, or `–` for none."""
    value = getattr(HubSettings(), name)
    if value is None or value == "":
        return "–"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
