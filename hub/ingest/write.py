"""Group commit: many batches a transaction, acknowledged only after it."""

from __future__ import annotations

from hub.ingest.arrivals import Arrival, Item, Outcome, Submission

__all__ = ["Arrival", "Item", "Outcome", "Submission"]
