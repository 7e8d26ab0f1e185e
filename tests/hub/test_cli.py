"""`labrelay hub …` as a process: start, stop, and what an operator does to the database."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from hub import cli
from labrelay.up import ports
from shared.errors import ConfigurationError, LabrelayError

COMMAND = [sys.executable, "-c", "import sys; from hub.cli import main; sys.exit(main(sys.argv[1:]))"]


def configure(folder: Path, database_url: str, **more: object) -> tuple[Path, int]:
    port = ports.free_port()
    lines = {"database_url": database_url, "port": port, "mqtt_port": 1, **more}
    file = folder / "hub.toml"
    file.write_text(
        "".join(f"{key} = {value if isinstance(value, int) else repr(value)}\n" for key, value in lines.items())
    )
    return file, port


@contextmanager
def started(config: Path, log: Path, more: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(config)], stdout=output, stderr=output, env=os.environ | (more or {})
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def wait_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).json()["database"] == "ok":
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    pytest.fail(log.read_text())


def test_the_hub_runs_until_it_is_told_to_stop(tmp_path: Path, database_url: str) -> None:
    config, port = configure(tmp_path, database_url)
    log = tmp_path / "log"
    with started(config, log) as process:
        wait_healthy(port, process, log)
        assert "server" not in httpx.get(f"http://127.0.0.1:{port}/health").headers
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    text = log.read_text()
    assert "event=database_ready" in text
    assert "Traceback" not in text
    assert "apscheduler" not in text


def test_a_schema_of_a_newer_hub_ends_the_process_with_a_reason(tmp_path: Path, database_url: str) -> None:
    config, _ = configure(tmp_path, database_url)
    assert cli.main(["migrate", "--config", str(config)]) == 0
    _execute(database_url, "insert into schema_migrations values (9999, '9999_future.sql', '')")
    log = tmp_path / "log"
    with started(config, log) as process:
        assert process.wait(30) == 1
    assert "the database has schema 9999" in log.read_text()


def test_wrong_files_are_said_plainly(tmp_path: Path, database_url: str) -> None:
    for wrong in (
        {"secret_key_file": str(tmp_path / "missing" / "key")},
        {"database_password_file": str(tmp_path / "database-password")},
        {"tls_cert_file": str(tmp_path / "none.pem"), "tls_key_file": str(tmp_path / "none.pem")},
    ):
        config, _ = configure(tmp_path, database_url, **wrong)
        with pytest.raises(ConfigurationError, match=next(iter(wrong)).split("_")[0]):
            cli.main(["run", "--config", str(config)])


def test_the_databases_password_may_stand_in_a_file(tmp_path: Path, database_url: str) -> None:
    """The URL's is another one, and that of the file is used: by commands and by the hub itself."""
    role, secret = f"role_{secrets.token_hex(6)}", secrets.token_hex(16)
    _execute(database_url, f"create role {role} login superuser password '{secret}'")
    try:
        wrong = _as_role(database_url, role, "wrong")
        with pytest.raises(asyncpg.InvalidPasswordError):
            _execute(wrong, "select 1")
        file = tmp_path / "database-password"
        file.write_text(secret + "\n")
        config, port = configure(tmp_path, wrong, database_password_file=str(file))
        assert cli.main(["migrate", "--config", str(config)]) == 0
        log = tmp_path / "log"
        with started(config, log) as process:
            wait_healthy(port, process, log)
    finally:
        _execute(database_url, f"reassign owned by {role} to current_user")
        _execute(database_url, f"drop owned by {role}")
        _execute(database_url, f"drop role {role}")


def test_systemd_is_told_of_beginning_and_end(tmp_path: Path, database_url: str) -> None:
    config, _ = configure(tmp_path, database_url)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "6000000",
        }  # the kernel keeps ten messages
        with started(config, tmp_path / "log", environment) as process:
            assert [listener.recv(64) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            process.send_signal(signal.SIGTERM)
            while (message := listener.recv(64)) != b"STOPPING=1":
                assert message == b"WATCHDOG=1"
            assert process.wait(20) == 0


def test_an_administrator_is_made_once(tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = configure(tmp_path, database_url)
    password = tmp_path / "password"
    password.write_text("Correct-Horse-1")
    arguments = ["create-admin", "ann", "--password-file", str(password), "--config", str(config)]
    assert cli.main(arguments) == 0
    assert "ann made" in capsys.readouterr().out
    with pytest.raises(LabrelayError, match="already"):
        cli.main(arguments)
    password.write_text("weak")
    with pytest.raises(LabrelayError, match="must have"):
        cli.main(["create-admin", "bob", "--password-file", str(password), "--config", str(config)])


def test_the_environment_may_hold_the_administrators_password(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = configure(tmp_path, database_url)
    monkeypatch.setenv(cli.NEW_ADMIN_PASSWORD, "weak")
    with pytest.raises(LabrelayError, match="must have"):
        cli.main(["create-admin", "ann", "--config", str(config)])
    monkeypatch.setenv(cli.NEW_ADMIN_PASSWORD, "Correct-Horse-1")
    assert cli.main(["create-admin", "ann", "--config", str(config)]) == 0


def test_restored_draws_another_incarnation(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = configure(tmp_path, database_url)
    cli.main(["migrate", "--config", str(config)])
    drawn = []
    for _ in range(2):
        assert cli.main(["restored", "--config", str(config)]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] != drawn[1]


def test_https_when_certificate_and_key_are_given(tmp_path: Path, database_url: str) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=30,
        env=os.environ,
    )
    config, port = configure(tmp_path, database_url, tls_cert_file=str(certificate), tls_key_file=str(key))
    log = tmp_path / "log"
    with started(config, log) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = httpx.get(f"https://127.0.0.1:{port}/health", verify=_trusting(certificate), timeout=5)
                break
            except httpx.HTTPError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        assert "max-age" in answer.headers["strict-transport-security"]


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def _as_role(database_url: str, role: str, password: str) -> str:
    parts = urlsplit(database_url)
    return parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}").geturl()


def _execute(database_url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())
