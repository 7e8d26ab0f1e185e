"""`[hub]` of the agent's configuration. Where the hub is and who we are there, enrolment has stored."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[hub]`.

    Attributes:
        connect_timeout_s: for reaching the broker, and for each of its confirmations.
        keepalive_s: a connection that is silent for twice as long is given up.
        retry_s_min: before the first new attempt at a lost connection; doubled and jittered from there.
        retry_s_max: between attempts; low, so that live values are back soon after the broker is.
        refused_retry_s: between attempts with credentials that were refused.
        state_interval_s: between reports of the agent's state.
        live_interval_s: between messages with live values; the first change goes at once.
        time_interval_s: between measurements of the hub's clock.
        silence_s: without any acknowledgement while batches are under way: say hello again, and after the same time
            once more report an error.
    """

    connect_timeout_s: Annotated[float, Meta(ge=1, le=120)] = 10.0
    keepalive_s: Annotated[int, Meta(ge=5, le=300)] = 15
    retry_s_min: Annotated[float, Meta(ge=0.05, le=60)] = 0.25
    retry_s_max: Annotated[float, Meta(ge=0.1, le=3600)] = 1.0
    refused_retry_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    state_interval_s: Annotated[float, Meta(ge=0.5, le=300)] = 5.0
    live_interval_s: Annotated[float, Meta(ge=0.02, le=60)] = 0.1
    time_interval_s: Annotated[float, Meta(ge=10, le=86_400)] = 600.0
    silence_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
