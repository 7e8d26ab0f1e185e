"""What of accounts is forgotten: sign-ins, links, tokens and invitations that ended some time ago."""

from __future__ import annotations

from datetime import datetime

from hub.accounts import invitations, personal_tokens, store
from hub.database.pool import Connection


async def forget(connection: Connection, before: datetime) -> None:
    """Remove what ended before this moment."""
    await store.purge(connection, before)
    await personal_tokens.purge(connection, before)
    await invitations.purge(connection, before)
