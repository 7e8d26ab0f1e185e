"""Topic filters: whether a topic matches one, and whether one stays within what a pattern permits."""

from __future__ import annotations

_LEVELS_MAX = 32


def valid(topic_filter: str) -> bool:
    """`+` and `#` stand alone in a level, `#` only in the last one, and there are no shared subscriptions."""
    levels = topic_filter.split("/")
    if not topic_filter or len(levels) > _LEVELS_MAX or levels[0] == "$share":
        return False
    if "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or not ("+" in level or "#" in level) for level in levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message to `topic` belongs to a subscription of `topic_filter`."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    return permits(topic_filter, topic)


def permits(pattern: str, topic_filter: str) -> bool:
    """Whether everything that `topic_filter` (or a plain topic) matches is also matched by `pattern`."""
    allowed = pattern.split("/")
    wanted = topic_filter.split("/")
    for index, level in enumerate(allowed):
        if level == "#":
            return True
        if index >= len(wanted):
            return False
        if level == "+":
            if wanted[index] == "#":
                return False
        elif level != wanted[index]:
            return False
    # `sport/#` includes `sport` itself, so a pattern without `#` is as long as what it permits
    return len(wanted) == len(allowed)
