"""Where the hub's settings come from: a TOML file and the environment.

A key `host` is read from `host = …` in the file named with `--config` and from `LABRELAY_HUB_HOST`; the environment
wins. Lists are written as JSON or separated by commas in the environment. Keys that nobody knows are refused, with the
nearest known one.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from hub.settings import HubSettings
from shared.errors import ConfigurationError

ENVIRONMENT_PREFIX = "LABRELAY_HUB_"
_LISTS = frozenset(name for name, field in HubSettings.model_fields.items() if get_origin(field.annotation) is tuple)


def load_settings(config: Path | None, environment: Mapping[str, str]) -> HubSettings:
    """The settings from a TOML file (if any) and the environment.

    Raises: ConfigurationError naming file, line and the nearest known key.
    """
    text = _read(config) if config else ""
    values = _parse(config, text) if config else {}
    values.update(_from_environment(environment))
    for key in values:
        if key not in HubSettings.model_fields:
            raise _unknown(key, config, text)
    try:
        return HubSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        raise _at(f"{name}: {message}" if name else message, name, config, text) from None


def _read(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the configuration: {error}", file=str(config)) from None


def _parse(config: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found.group(1)) if found else len(text.splitlines())
        raise ConfigurationError(f"not TOML: {error}", file=str(config), line=line) from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
            values[key] = _list(name, text) if key in _LISTS else text
    return values


def _list(name: str, text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return list(json.loads(text))
    except ValueError as error:
        raise ConfigurationError(f"{name} is not a list: {error}") from None


def _unknown(key: str, config: Path | None, text: str) -> ConfigurationError:
    near = difflib.get_close_matches(key, HubSettings.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see docs/hub-configuration.md for the known ones"
    return _at(f"unknown setting {key!r}", key, config, text, hint)


def _at(message: str, key: str, config: Path | None, text: str, hint: str = "") -> ConfigurationError:
    """The error with the file and line where the key stands, if it stands in the file."""
    for number, line in enumerate(text.splitlines(), start=1):
        if key and re.match(rf"\s*(\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[=\].]", line):
            return ConfigurationError(message, key=(key,), file=str(config), line=number, hint=hint)
    variable = f"{ENVIRONMENT_PREFIX}{key.upper()}" if key else ""
    return ConfigurationError(message, key=(key,), hint=hint or (f"set in {variable}?" if variable else ""))
