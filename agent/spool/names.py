"""What the series and profile references of each epoch stand for, read back from its dictionary batches."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

from agent.spool.store import Store
from shared.errors import WireError
from shared.records import Dictionary
from shared.wire import Kind, decode

EPOCHS_CACHED = 8


@dataclass(slots=True)
class Names:
    """One epoch's dictionary: series references to (sensor, signal, unit), profile references to ids."""

    series: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    profiles: dict[int, UUID] = field(default_factory=dict)

    def add(self, entries: Dictionary) -> None:
        """Learn what a dictionary batch declares."""
        self.series.update((entry.ref, (entry.sensor, entry.signal, entry.unit)) for entry in entries.series)
        self.profiles.update((entry.ref, entry.profile_id) for entry in entries.profiles)


class NameBook:
    """The dictionaries of the epochs in a spool, the latest ones kept in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: OrderedDict[int, Names] = OrderedDict()

    def of(self, epoch_ref: int) -> Names:
        """The dictionary of an epoch, as far as its batches are readable."""
        if epoch_ref not in self._cache:
            self._cache[epoch_ref] = self._read(epoch_ref)
            if len(self._cache) > EPOCHS_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(epoch_ref)
        return self._cache[epoch_ref]

    def forget(self, epoch_ref: int) -> None:
        """Read that dictionary anew the next time: it has changed."""
        self._cache.pop(epoch_ref, None)

    def _read(self, epoch_ref: int) -> Names:
        names = Names()
        for row in self._store.records(Kind.DICTIONARY, epoch_ref=epoch_ref):
            try:
                content = decode(self._store.content(row.id)).content
            except WireError:
                continue  # its readings become nameless; the uplink reports the damaged batch when it comes to it
            if isinstance(content, Dictionary):
                names.add(content)
        return names
