"""What becomes of what arrives: the answer that its sender gets, and the counts where it was committed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hub.ingest.arrivals import Item, Outcome


class Answer(Enum):
    """What the sender is told about a batch."""

    COMMITTED = "committed"
    KNOWN = "known"
    CONFLICT = "conflict"
    NOT_YOURS = "not_yours"
    CORRUPT = "corrupt"
    DICTIONARY = "dictionary"
    LATER = "later"
    PHYSICAL = "physical"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNANSWERED = "unanswered"
    """Refused without a word: its agent is compromised."""


NOTHING = Outcome(0)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one item: the answer, and the counts where it was committed."""

    item: Item
    answer: Answer
    outcome: Outcome = NOTHING
