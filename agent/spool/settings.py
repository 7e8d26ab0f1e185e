"""`[spool]` of the agent's configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Policy = Literal["block", "oldest", "thin"]


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[spool]`.

    Attributes:
        quota_bytes: what all batches on disk may take. The files take some 10 % more.
        policy: what happens when that is reached: `block` acquisition, drop the `oldest` readings, or `thin` the oldest
            readings by halving their rate. Whatever is lost leaves a gap record with counts and times.
        retain_acked_s: how long acknowledged batches are kept, for a hub whose database is restored from a backup.
        retain_acked_share: what part of the quota acknowledged batches may take; they are the first to go.
    """

    quota_bytes: Annotated[int, Meta(ge=256 * 1024, le=1 << 50)] = 8 * 1024**3
    policy: Policy = "oldest"
    retain_acked_s: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 86_400.0
    retain_acked_share: Annotated[float, Meta(ge=0, le=0.9)] = 0.25
