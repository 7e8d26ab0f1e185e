"""The hub's settings: one frozen model, read once by `hub.configuration`.

The unit of a value is the last part of its key. Secrets are masked wherever the settings are shown.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from shared.errors import ConfigurationError


def _network(text: str) -> str:
    """Raises: ValueError for what is no network."""
    return str(ip_network(text))


class SettingsGroup(BaseModel):
    """Keys that belong together; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class ServerSettings(SettingsGroup):
    """Where and how the hub listens."""

    env: str = Field(default="production", description="Name of the installation, shown by `/health`.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str = Field(
        default="",
        description="Where browsers reach the hub; by default from `host` and `port`. `https` makes cookies Secure.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Further origins whose pages may call the API with cookies."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses or networks of reverse proxies whose `X-Forwarded-*` headers are believed."
    )
    tls_cert_file: Path | None = Field(
        default=None, description="Certificate chain (PEM); with it the hub speaks HTTPS."
    )
    tls_key_file: Path | None = Field(default=None, description="Private key of `tls_cert_file` (PEM).")
    body_bytes_max: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Larger request bodies are refused with 413."
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="How long a client may pause while it sends a body; then 408."
    )
    shutdown_grace_s: float = Field(
        default=10.0, gt=0, description="How long open requests may go on after a stop signal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )


class DatabaseSettings(SettingsGroup):
    """How the hub reaches PostgreSQL and lays out readings."""

    database_url: SecretStr = Field(
        default=SecretStr("postgresql:///labrelay"),
        description="PostgreSQL connection URL; what it leaves out comes from `PG*`.",
    )
    database_password_file: Path | None = Field(
        default=None, description="File with the password for `database_url`, which wins over the one in it."
    )
    database_connections_max: int = Field(default=12, ge=6, le=500, description="Connections the hub holds at most.")
    database_connect_timeout_s: float = Field(
        default=5.0, gt=0, description="How long one connection attempt may take."
    )
    database_acquire_timeout_s: float = Field(
        default=5.0, gt=0, description="How long a request waits for a free connection."
    )
    database_command_timeout_s: float = Field(default=30.0, gt=0, description="How long one statement may take.")
    database_migration_timeout_s: float = Field(
        default=600.0, gt=0, description="How long all migrations together may take."
    )
    database_retry_s_max: float = Field(
        default=10.0, gt=0, description="Longest pause between attempts to reach the database."
    )
    chunk_days: int = Field(
        default=7, ge=1, le=366, description="Days of readings in one chunk or partition; fixed at first start."
    )
    compress_after_days: int = Field(
        default=7, ge=1, description="Age at which chunks are compressed (TimescaleDB Community)."
    )
    retention_days: int = Field(
        default=90,
        ge=0,
        description="Age at which readings are dropped, by whole chunks; 1-minute aggregates stay. 0 keeps everything.",
    )
    retention_keep_sessions: bool = Field(
        default=True, description="Whether readings of sessions that are not archived are kept however old they are."
    )
    session_forgotten_after_h: float = Field(
        default=24.0,
        gt=0,
        description="Running sessions without a reading or a change for so long fail, unless an agent concerned is "
        "offline or behind.",
    )


class BrokerSettings(SettingsGroup):
    """How the hub reaches the MQTT broker, and what it tells agents about it."""

    mqtt_host: str = Field(default="127.0.0.1", description="The broker, as the hub reaches it.")
    mqtt_port: int = Field(default=1883, ge=1, le=65535, description="The broker's port, as the hub reaches it.")
    mqtt_username: str = Field(default="", description="The hub's user at the broker.")
    mqtt_password_file: Path | None = Field(default=None, description="File with the password of `mqtt_username`.")
    mqtt_ca_file: Path | None = Field(
        default=None, description="CA (PEM) of the broker's certificate; with it the hub uses TLS."
    )
    broker_provisioning: Literal["dynsec", "file", "none"] = Field(
        default="none",
        description="How agents get credentials: Mosquitto's dynamic security, a credentials file, or by hand.",
    )
    broker_credentials_file: Path | None = Field(
        default=None, description='Credentials file for `broker_provisioning = "file"`.'
    )
    agent_mqtt_host: str = Field(default="", description="The broker as agents reach it; by default `mqtt_host`.")
    agent_mqtt_port: int = Field(
        default=0, ge=0, le=65535, description="The broker's port for agents; 0 means `mqtt_port`."
    )
    agent_mqtt_tls: bool = Field(default=False, description="Whether agents must use TLS towards the broker.")
    agent_mqtt_ca_file: Path | None = Field(
        default=None,
        description="CA (PEM) that agents are given for the broker; by default `mqtt_ca_file`, else `tls_cert_file`.",
    )
    broker_timeout_s: float = Field(default=10.0, gt=0, description="How long the broker may take to answer.")
    broker_retry_s_max: float = Field(
        default=1.0, gt=0, description="Longest pause between attempts to reach the broker."
    )
    broker_lane_messages_max: int = Field(
        default=5000,
        ge=10,
        description="Messages of one lane (data, state, live, …) that may wait; further ones are dropped.",
    )
    broker_window_batches: int = Field(
        default=800,
        ge=8,
        description="Batches that all agents together may have on their way; below the broker's own queue.",
    )
    agent_offline_after_s: float = Field(
        default=10.0, ge=0, description="An agent is offline only after so long without word."
    )
    agent_retirement_grace_h: float = Field(
        default=168.0, ge=0, description="How long a retired agent may take to deliver what it holds."
    )
    enrolment_code_s: int = Field(default=3600, ge=60, description="How long an enrolment code is good for by default.")


class AccessSettings(SettingsGroup):
    """Who may sign in, and for how long."""

    secret_key_file: Path | None = Field(
        default=None,
        description="Key (32 bytes or more) that signs access tokens, made if missing; several hubs share it. "
        "Without it a new key is drawn at every start.",
    )
    certificate_key_file: Path | None = Field(
        default=None,
        description="Key (Ed25519, PEM) that signs certificates of completeness, made if missing; several hubs share "
        "it. By default `certificate-key.pem` beside `secret_key_file`.",
    )
    registration: Literal["open", "invitation", "closed"] = Field(
        default="closed", description="Who may register an account: anyone, whoever is invited, or nobody."
    )
    admin_username: str = Field(
        default="admin", min_length=3, max_length=50, description="Name of the first administrator."
    )
    admin_password_file: Path | None = Field(
        default=None,
        description="File with the first administrator's password; read at start while there is no such user.",
    )
    access_token_s: int = Field(default=15 * 60, ge=60, description="How long an access token is good for.")
    refresh_token_days: int = Field(
        default=14, ge=1, le=365, description="How long a sign-in lasts without being used."
    )
    sign_in_link_minutes: int = Field(
        default=10, ge=1, le=1440, description="How long a one-time sign-in link is good for."
    )
    login_window_s: int = Field(default=300, ge=1, description="Window in which sign-in attempts are counted.")
    login_attempts_max: int = Field(
        default=10, ge=1, description="Failed attempts per user name and address in the window."
    )
    login_attempts_address_max: int = Field(default=60, ge=1, description="Failed attempts per address in the window.")
    password_hashes_concurrent: int = Field(
        default=2, ge=1, le=64, description="Passwords hashed at the same time (64 MiB each)."
    )
    password_hashes_waiting_max: int = Field(
        default=64, ge=1, description="Sign-ins that may wait for a hash; more get 429."
    )


class IngestSettings(SettingsGroup):
    """Limits of what is written."""

    ingest_writers: int = Field(
        default=2, ge=1, le=16, description="Groups of batches that are committed at the same time."
    )
    ingest_queue_readings_max: int = Field(
        default=500_000,
        ge=20_000,
        description="Readings that may wait for the database; agents offer again what found no room.",
    )
    ingest_queue_batches_max: int = Field(default=20_000, ge=100, description="Batches that may wait for the database.")
    ingest_post_timeout_s: float = Field(
        default=15.0, gt=0, description="How long a post of readings may wait for its commit before it gets 503."
    )
    agent_import_bytes_max: int = Field(
        default=4 * 1024**3, ge=1024, description="Larger exported spools are refused with 413."
    )
    sensor_readings_per_s_max: int = Field(
        default=0, ge=0, description="Readings per second of one sensor over HTTP and WebSocket; 0 for no limit."
    )
    websockets_max: int = Field(
        default=1000, ge=1, description="Sensors' WebSocket connections open at the same time; more get 503."
    )
    ingest_retry_s_max: float = Field(default=5.0, gt=0, description="Longest pause before a group is tried again.")
    future_skew_s: int = Field(default=86_400, ge=0, description="Readings from further in the future are set aside.")
    past_limit_days: int = Field(default=3650, ge=1, description="Readings from further in the past are set aside.")
    sensors_per_agent_max: int = Field(
        default=5000, ge=1, description="Sensors that one agent may have registered for it."
    )
    heartbeat_interval_s: float = Field(
        default=10.0, gt=0, description="How often `last_heartbeat` of sensors is written."
    )
    live_rate_hz_max: float = Field(
        default=10.0, gt=0, le=1000, description="Live values per signal and second over MQTT."
    )
    live_messages_per_s_max: int = Field(
        default=2000, ge=1, description="Live messages per second over MQTT, all signals together."
    )


class TelemetrySettings(SettingsGroup):
    """Limits of what is read and streamed."""

    streams_max: int = Field(default=1000, ge=1, description="Event streams open at the same time; more get 503.")


class EventSettings(SettingsGroup):
    """How webhooks are delivered, and how long what happened is remembered."""

    webhook_allowed_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(),
        description="Networks that webhooks may be sent to although they are not public, e.g. `10.0.0.0/8`.",
    )
    webhook_timeout_s: float = Field(
        default=3.0, gt=0, le=60, description="How long one delivery may take, look-up of the name included."
    )
    webhooks_concurrent: int = Field(
        default=16, ge=1, le=256, description="Deliveries that a hub makes at the same time; one a target."
    )
    webhook_attempts_max: int = Field(
        default=12, ge=1, le=100, description="Attempts after which a delivery is dead-lettered."
    )
    webhook_retry_s: float = Field(
        default=5.0, gt=0, description="Pause after the first failure; each further one doubles it, with jitter."
    )
    webhook_retry_s_max: float = Field(default=3600.0, gt=0, description="Longest pause between two attempts.")
    webhook_stuck_after_s: float = Field(
        default=600.0, ge=1, description="A delivery under way for so long, as its hub has died, is made again."
    )
    idempotency_hours: int = Field(default=48, ge=1, description="How long answers to an `Idempotency-Key` are kept.")
    delivery_days: int = Field(default=30, ge=1, description="How long succeeded deliveries are kept.")
    audit_days: int = Field(
        default=365, ge=1, description="How long the audit is kept, and deliveries that were given up."
    )


class ArtifactSettings(SettingsGroup):
    """Where the contents of artifacts are kept: in a folder, or in a bucket of an S3-compatible store."""

    artifacts_dir: Path | None = Field(
        default=None, description="Folder for contents; several hubs share it. Without folder and bucket, none is kept."
    )
    artifacts_bucket: str = Field(default="", description="Bucket for contents, instead of a folder.")
    artifacts_prefix: str = Field(
        default="",
        description="Where in the bucket. What no artifact of this hub's database names is removed from there.",
    )
    artifacts_endpoint: str = Field(default="", description="URL of the store; by default Amazon's of the region.")
    artifacts_region: str = Field(default="us-east-1", description="Region of the bucket.")
    artifacts_access_key_file: Path | None = Field(
        default=None, description="File with the access key; without it, as AWS clients find theirs."
    )
    artifacts_secret_key_file: Path | None = Field(default=None, description="File with the secret key.")
    artifacts_ca_file: Path | None = Field(default=None, description="CA (PEM) of the store's certificate.")
    artifacts_timeout_s: float = Field(
        default=30.0, gt=0, description="How long one request to the store may take, repeats included."
    )
    artifact_bytes_max: int = Field(
        default=1024**3, ge=1024, le=64 * 1024**3, description="Larger contents are refused with 413."
    )
    artifact_transfers_max: int = Field(
        default=16, ge=1, description="Contents on their way at the same time (some 16 MiB each); more get 503."
    )

    @model_validator(mode="after")
    def _one_place(self) -> ArtifactSettings:
        if self.artifacts_dir is not None and self.artifacts_bucket:
            raise ValueError("artifacts_dir and artifacts_bucket exclude each other")
        if (self.artifacts_access_key_file is None) != (self.artifacts_secret_key_file is None):
            raise ValueError("artifacts_access_key_file and artifacts_secret_key_file belong together")
        return self


class HubSettings(
    ServerSettings,
    DatabaseSettings,
    BrokerSettings,
    AccessSettings,
    IngestSettings,
    TelemetrySettings,
    EventSettings,
    ArtifactSettings,
):
    """Everything the hub can be told."""

    @model_validator(mode="after")
    def _tls_needs_both(self) -> HubSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together")
        return self

    @property
    def base_url(self) -> str:
        """Where browsers reach the hub, without a final slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        scheme = "https" if self.tls_cert_file else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies may only travel over HTTPS."""
        return self.base_url.startswith("https://")


def read_secret(path: Path) -> SecretStr:
    """The one line that a secret file holds. Raises: ConfigurationError."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the secret in {path}: {error}", file=str(path)) from None
    if not secret:
        raise ConfigurationError(f"the secret in {path} is empty", file=str(path))
    return SecretStr(secret)
