"""The compose project: its settings are the hub's, what it names is there, and no secret stands in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.access.passwords import weakness
from hub.access.tokens import load_or_make_key
from hub.certificates.signing import load_or_make
from hub.configuration import load_settings
from hub.settings import HubSettings, read_secret
from tests.deploy.files import COMPOSE, ROOT, environment, parse

EXAMPLE = environment(COMPOSE / "example.env")
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
ONCE = "broker-user"
"""Runs before the broker starts, and ends."""


def project() -> dict[str, Any]:
    """The project with the settings of `example.env`."""
    text = VARIABLE.sub(lambda found: EXAMPLE[found.group(1)], (COMPOSE / "compose.yaml").read_text())
    found: dict[str, Any] = yaml.safe_load(text)
    return found


PROJECT = project()
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]


def stages() -> dict[str, list[str]]:
    """Instructions of the Dockerfile by stage, continued lines joined."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (COMPOSE / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if started := re.match(r"FROM \S+ AS (\S+)", line):
            name = started.group(1)
        if line and not line.startswith("#"):
            found.setdefault(name, []).append(line)
    return found


def test_every_setting_of_the_project_has_an_example_and_every_example_is_used() -> None:
    assert set(VARIABLE.findall((COMPOSE / "compose.yaml").read_text())) == set(EXAMPLE)


@pytest.mark.parametrize("service", ["hub", ONCE])
def test_the_hubs_settings_are_ones_that_it_knows(service: str) -> None:
    settings = load_settings(None, {name: str(value) for name, value in SERVICES[service]["environment"].items()})
    assert settings.mqtt_username == "hub"
    if service == "hub":
        assert settings.broker_provisioning == "dynsec"
        assert settings.trusted_proxies == (PROJECT["networks"]["web"]["ipam"]["config"][0]["subnet"],)
        assert settings.secure_cookies


def test_commands_are_the_products() -> None:
    parse(["labrelay", "hub", *SERVICES[ONCE]["command"]])
    for target in ("hub", "agent"):
        instructions = {line.partition(" ")[0]: line.partition(" ")[2] for line in stages()[target]}
        parse([*yaml.safe_load(instructions["ENTRYPOINT"]), *yaml.safe_load(instructions["CMD"])])
    parse(yaml.safe_load(next(line.rpartition("CMD ")[2] for line in stages()["agent"] if "HEALTHCHECK" in line)))


def test_no_secret_stands_in_it() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY|TOKEN", name):
                assert name.endswith("_FILE"), name
            if name.endswith("_FILE"):
                assert value.startswith("/run/secrets/"), name
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), name
    assert not [name for name in EXAMPLE if re.search(r"PASSWORD|SECRET|KEY|TOKEN", name)]


def test_each_service_is_given_the_secrets_that_it_reads() -> None:
    for name, service in SERVICES.items():
        given = set(service.get("secrets", []))
        assert given <= set(PROJECT["secrets"])
        configured = {"broker": "mosquitto.conf", "proxy": "Caddyfile"}.get(name)
        text = str(service.get("environment", {})) + ((COMPOSE / configured).read_text() if configured else "")
        assert set(re.findall(r"/run/secrets/([\w-]+)", text)) == given, name


def test_files_that_are_mounted_or_built_from_are_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (COMPOSE / source).is_file() if source.startswith(".") else source in PROJECT["volumes"], name
        if build := service.get("build"):
            assert (COMPOSE / build["context"] / build["dockerfile"]).samefile(COMPOSE / "Dockerfile")
            assert build["target"] in stages()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_bounded_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == ONCE else "unless-stopped")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert not re.search(r":latest$", service["image"]) or service.get("build")
    if name != ONCE:
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert service.get("stop_grace_period")
    if name != "database":
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_only_proxy_and_broker_are_published_and_the_database_has_no_way_out() -> None:
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {"proxy", "broker"}
    assert [port.rpartition(":")[2] for port in SERVICES["broker"]["ports"]] == ["8883"]
    assert SERVICES["database"]["networks"] == ["data"]
    assert PROJECT["networks"]["data"]["internal"]


def test_there_is_time_to_stop_in_order() -> None:
    settings = HubSettings()
    at_most_s = settings.shutdown_grace_s + 5.0 + settings.database_command_timeout_s
    assert int(SERVICES["hub"]["stop_grace_period"].removesuffix("s")) >= at_most_s


def test_images_run_without_root_and_import_nothing_of_the_current_folder() -> None:
    found = stages()
    assert "USER 10001:10001" in found["run"]
    assert any("PYTHONSAFEPATH=1" in line for line in found["run"])
    for target in ("hub", "agent"):
        assert found[target][0] == f"FROM run AS {target}"
        assert any(line.startswith("HEALTHCHECK") for line in found[target])
        assert not any(line.startswith("USER") for line in found[target])


def test_images_are_made_of_what_the_build_is_given() -> None:
    given = re.findall(r"^!(.+)$", (COMPOSE / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert not [name for name in given if not (ROOT / name).exists()]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages | {"pyproject.toml", "README.md", "requirements"} <= set(given)
    copied = [line.split()[1] for lines in stages().values() for line in lines if re.match(r"COPY [^-.]", line)]
    assert copied
    for name in copied:
        assert any(name == one or name.startswith(one + "/") for one in given), name
        assert (ROOT / name).exists()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make-secrets` makes."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copy(ROOT / "deploy" / "make-certificate", folder)
    (folder / "compose").mkdir()
    shutil.copy(COMPOSE / "make-secrets", folder / "compose")
    shutil.copy(COMPOSE / "example.env", folder / "compose" / ".env")
    for _ in range(2):  # the second time finds all there
        subprocess.run([folder / "compose" / "make-secrets"], check=True, capture_output=True, timeout=60)
    return folder / "compose" / "secrets"


def test_the_secrets_are_made_that_the_project_names(secrets: Path) -> None:
    named = {Path(secret["file"]).name for secret in PROJECT["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == named | {"ca-key.pem"}
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert (secrets / "ca-key.pem").stat().st_mode & 0o777 == 0o400


def test_the_hub_can_use_them(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert not weakness(read_secret(secrets / "admin-password").get_secret_value())
    assert len(load_or_make_key(secrets / "secret-key")) >= 32
    assert load_or_make(secrets / "certificate-key.pem").public_key
    assert len({read_secret(secrets / f"{name}-password").get_secret_value() for name in ("database", "mqtt")}) == 2
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_without_settings_no_secrets_are_made(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "make-secrets", tmp_path)
    done = subprocess.run([tmp_path / "make-secrets"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cp example.env .env" in done.stderr


class Hub(BaseHTTPRequestHandler):
    """Says of itself what the server's `status` is."""

    def do_GET(self) -> None:
        """Only /health/ready is asked for."""
        self.send_response(self.server.status if self.path == "/health/ready" else 404)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(b'{"status":"degraded"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_as_healthy_as_its_hub_is_ready(hub: HTTPServer, status: int, code: int) -> None:
    hub.status = status  # type: ignore[attr-defined]
    done = _look(hub.server_port)
    assert done.returncode == code
    assert ("degraded" in done.stderr) == bool(code)


def test_a_container_without_a_hub_is_not_healthy(free_port: int) -> None:
    assert _look(free_port).returncode == 1


def _look(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, COMPOSE / "healthy.py"],
        env={"LABRELAY_HUB_PORT": str(port), "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
