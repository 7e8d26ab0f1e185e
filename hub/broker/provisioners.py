"""Which way credentials are handed out, as the settings say."""

from __future__ import annotations

from hub.broker.credentials_file import CredentialsFile
from hub.broker.dynamic_security import DynamicSecurity
from hub.broker.link import BrokerLink
from hub.broker.provision import ByHand, Provisioner
from hub.settings import HubSettings
from shared.errors import ConfigurationError


def new_provisioner(settings: HubSettings, link: BrokerLink) -> Provisioner:
    """The one that the settings ask for. Before `link.run`. Raises: ConfigurationError."""
    if settings.broker_provisioning == "dynsec":
        return DynamicSecurity(link, timeout_s=settings.broker_timeout_s)
    if settings.broker_provisioning == "file":
        if settings.broker_credentials_file is None:
            raise ConfigurationError(
                'broker_provisioning = "file" needs broker_credentials_file', key=("broker_credentials_file",)
            )
        return CredentialsFile(settings.broker_credentials_file)
    return ByHand()
