"""The profiles that ingest has met. What a published profile holds never changes, so they are kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np

from hub.ingest.dictionary import UNKNOWN
from shared.conversion import ProfileTable, compile_profile
from shared.errors import ProfileError

log = logging.getLogger(__name__)


class Profiles:
    """All of them: one `ProfileTable`, and their places in it."""

    def __init__(self) -> None:
        self.table = ProfileTable()
        self.refs = np.zeros(1, np.int32)
        """int32 (n_profiles + 1,), `conversion_profiles.ref` by place in the table."""
        self.ids: list[UUID | None] = [None]
        self._places: dict[UUID, int] = {}

    def place(self, profile_id: UUID) -> int:
        """The profile's place in the table, `UNKNOWN` if it was not added."""
        return self._places.get(profile_id, UNKNOWN)

    def __contains__(self, profile_id: object) -> bool:
        return profile_id in self._places

    def add(self, profile_id: UUID, ref: int, kind: str, payload: Mapping[str, Any]) -> None:
        """Take up a published profile. One that does not compile is reported, and is as if it were not there."""
        if profile_id in self._places:
            return
        try:
            compiled = compile_profile(kind, payload)
        except ProfileError as error:
            log.warning("event=profile_unusable profile_id=%s error=%r", profile_id, str(error))
            self._places[profile_id] = UNKNOWN
            return
        self.table = self.table.with_profile(compiled)
        self.refs = np.append(self.refs, np.int32(ref))
        self.ids.append(profile_id)
        self._places[profile_id] = len(self.table)
