"""Raw samples to readings: each converted with the profile in force for its sensor at its own time."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from agent.acquisition.profiles import Bindings, InForce, ProfileStore
from agent.acquisition.roster import Series
from shared.conversion import ProfileTable
from shared.readings import Columns, Float64, Int64, Status, UInt8, UInt32
from shared.records import ProfileEntry


class Converter:
    """Applies the profiles of a store; one thread only. Gives each profile a reference of this epoch at its first use.

    Args:
        series: the roster's, which grows.
    """

    def __init__(self, store: ProfileStore, series: Sequence[Series]) -> None:
        self._store = store
        self._series = series
        self._bindings = Bindings()
        self._refs: dict[UUID, int] = {}
        self._undeclared: list[ProfileEntry] = []
        self._from_us = np.empty(0, np.int64)
        self._to_us = np.empty(0, np.int64)
        self._ref = np.empty(0, np.uint32)
        self._in_service = np.empty(0, np.bool_)
        self.table = ProfileTable()

    @property
    def generation(self) -> int:
        """Of the configuration that the last call worked with."""
        return self._bindings.generation

    @property
    def capturing(self) -> bool:
        """Whether a capture session runs, by the latest configuration."""
        return bool(self._store.current.windows)

    def convert(self, series: UInt32, timestamp_us: Int64, raw: Float64, reason: UInt8) -> Columns:
        """Readings in the order of the samples.

        Args:
            series: uint32 (n,), references.
            timestamp_us: int64 (n,)
            raw: float64 (n,)
            reason: uint8 (n,), a `Reason`; such readings have failed already.
        """
        profile = self._profiles(series, timestamp_us)
        status = np.zeros(len(series), np.uint8)  # raw only
        if reason.any():
            failed = reason != 0
            profile[failed] = 0
            status[failed] = np.uint8(Status.CONVERSION_FAILED) | reason[failed] << 4
        physical, status = self.table.convert(profile, raw, status)
        return Columns(series, timestamp_us, raw, physical, status, profile)

    def in_service(self, series: UInt32) -> NDArray[np.bool_]:
        """Which references are of sensors that are to be read: bool (n,) for uint32 (n,)."""
        self._follow_store()
        return self._in_service[series]

    def take_undeclared(self) -> list[ProfileEntry]:
        """The profiles that were given a reference since the last call."""
        undeclared, self._undeclared = self._undeclared, []
        return undeclared

    def _profiles(self, series: UInt32, timestamp_us: Int64) -> UInt32:
        """The reference of the profile in force for each row. What was found last for a series is tried first."""
        self._follow_store()
        inside = (timestamp_us >= self._from_us[series]) & (timestamp_us < self._to_us[series])
        profile = self._ref[series]
        (rest,) = (~inside).nonzero()
        while True:
            if not len(rest):
                return profile
            own, first = np.unique(series[rest], return_index=True)
            for reference, when in zip(own.tolist(), timestamp_us[rest[first]].tolist(), strict=True):
                self._look_up(reference, when)
            own, when_us = series[rest], timestamp_us[rest]
            inside = (when_us >= self._from_us[own]) & (when_us < self._to_us[own])
            profile[rest[inside]] = self._ref[own[inside]]
            rest = rest[~inside]

    def _follow_store(self) -> None:
        if self._store.current is not self._bindings:
            self._bindings = self._store.current
            self._from_us[:], self._to_us[:] = 1, 0  # nothing known
            self._in_service = np.empty(0, np.bool_)
        if len(self._in_service) <= len(self._series):
            serving = (not self._bindings.is_out_of_service(one.sensor) for one in self._series)
            self._in_service = np.array([True, *serving], np.bool_)
        missing = len(self._series) + 1 - len(self._ref)
        if missing > 0:
            self._from_us = np.append(self._from_us, np.ones(missing, np.int64))
            self._to_us = np.append(self._to_us, np.zeros(missing, np.int64))
            self._ref = np.append(self._ref, np.zeros(missing, np.uint32))

    def _look_up(self, reference: int, when_us: int) -> None:
        stretch = self._bindings.at(self._series[reference - 1].sensor, when_us)
        self._from_us[reference], self._to_us[reference] = stretch.from_us, stretch.to_us
        self._ref[reference] = self._profile_ref(stretch)

    def _profile_ref(self, stretch: InForce) -> int:
        if stretch.profile_id is None or stretch.compiled is None:
            return 0
        ref = self._refs.get(stretch.profile_id)
        if ref is None:
            self.table = self.table.with_profile(stretch.compiled)
            ref = self._refs[stretch.profile_id] = len(self.table)
            self._undeclared.append(ProfileEntry(ref, stretch.profile_id))
        return ref
