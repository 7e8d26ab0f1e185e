"""Small servers for the tests of what runs servers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labrelay.up.child import ChildSpec
from labrelay.up.leash import StopStep

NewSpec = Callable[..., ChildSpec]


@pytest.fixture
def new_spec(tmp_path: Path) -> NewSpec:
    """A spec that runs a piece of Python; `{here}` in it is the test's folder."""

    def make(code: str, name: str = "server", **options: object) -> ChildSpec:
        options = {"stop": (StopStep(signal.SIGTERM, 5.0),)} | options
        return ChildSpec(
            name=name,
            command=(sys.executable, "-S", "-c", code.replace("{here}", str(tmp_path))),
            run_dir=tmp_path / "run",
            log_dir=tmp_path / "logs",
            **options,  # type: ignore[arg-type]
        )

    return make
