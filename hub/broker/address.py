"""Where others than the hub itself reach the broker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.settings import HubSettings
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The broker as agents and members reach it.

    Attributes:
        ca_pem: authority of its certificate; None without TLS, or where the system's authorities vouch for it.
    """

    host: str
    port: int
    tls: bool
    ca_pem: str | None


def broker_address(settings: HubSettings) -> BrokerAddress:
    """As the settings have it. Raises: ConfigurationError when the CA cannot be read."""
    authority = settings.agent_mqtt_ca_file or settings.mqtt_ca_file or settings.tls_cert_file
    return BrokerAddress(
        host=settings.agent_mqtt_host or settings.mqtt_host,
        port=settings.agent_mqtt_port or settings.mqtt_port,
        tls=settings.agent_mqtt_tls,
        ca_pem=_read(authority) if settings.agent_mqtt_tls and authority is not None else None,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigurationError(f"cannot read the broker's CA: {error}", key=("agent_mqtt_ca_file",)) from error
