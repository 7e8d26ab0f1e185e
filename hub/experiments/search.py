"""Finding experiments by words: in their names, descriptions, types and tags.

First by the beginnings of words: every word asked for must begin one of the experiment's. Where nothing is found so, by
likeness: every word asked for must share `LIKENESS_LEAST` of its trigrams with some place of the text, so that a letter
too many, too few, wrong or swapped does not matter in words that are not very short. Both go through an index.

The best come first: an experiment of just that name, then those whose name has the words, then tags and type, then the
description.
"""

from __future__ import annotations

from uuid import UUID

from hub.database.pool import Connection
from hub.errors import invalid
from hub.experiments.store import SELECTED, Row

WORDS_MAX = 10
LIKENESS_LEAST = 0.3

_TEXT = "search_text(e.name, e.description, e.experiment_type, e.tags)"
_VISIBLE = """
    from experiments e join project_members m on m.project_id = e.project_id
    where m.user_id = $1 and ($2::uuid is null or e.project_id = $2)
"""
_BY_WORDS = f"{_VISIBLE} and to_tsvector('simple', {_TEXT}) @@ to_tsquery('simple', $3)"
_COUNT_BY_WORDS = f"select count(*) {_BY_WORDS}"
PAGE_BY_WORDS = f"""
    select {SELECTED} {_BY_WORDS}
    order by lower(e.name) = lower($4) desc,
        ts_rank(setweight(to_tsvector('simple', e.name), 'A')
                || setweight(to_tsvector('simple', e.experiment_type || ' ' || array_to_string(e.tags, ' ')), 'B')
                || setweight(to_tsvector('simple', e.description), 'D'), to_tsquery('simple', $3)) desc,
        e.id desc
    limit $5 offset $6
"""
SET_LIKENESS = "select set_config('pg_trgm.word_similarity_threshold', $1, true)"


def words_of(text: str) -> list[str]:
    """The words of a question, each once, without those that have neither letter nor digit. Raises: Problem 422."""
    if not text.strip():
        raise invalid("q", "give at least one word")
    words = dict.fromkeys(word for word in text.lower().split() if any(character.isalnum() for character in word))
    if len(words) > WORDS_MAX:
        raise invalid("q", f"at most {WORDS_MAX} words")
    return list(words)


async def find(
    connection: Connection, user_id: UUID, project_id: UUID | None, words: list[str], limit: int, offset: int
) -> tuple[list[Row], int]:
    """A page of the experiments that the user may see and that have these words, best first, and how many there are.

    Args:
        connection: in a transaction, as the least likeness is set for it.
    """
    if not words:
        return [], 0
    query = _tsquery(words)
    total: int = await connection.fetchval(_COUNT_BY_WORDS, user_id, project_id, query)
    if total:
        asked = " ".join(words)
        return await connection.fetch(PAGE_BY_WORDS, user_id, project_id, query, asked, limit, offset), total
    await connection.execute(SET_LIKENESS, str(LIKENESS_LEAST))
    total = await connection.fetchval(_count_alike(len(words)), user_id, project_id, *words)
    rows = await connection.fetch(page_alike(len(words)), user_id, project_id, *words, limit, offset)
    return rows, total


def _tsquery(words: list[str]) -> str:
    """All words, each as a beginning. Quoted, so that none of their characters is an operator."""
    quoted = (word.replace("\\", "\\\\").replace("'", "''") for word in words)
    return " & ".join(f"'{word}':*" for word in quoted)


def _alike(count: int) -> str:
    """All of `count` words are like something; they are the parameters from `$3` on."""
    return _VISIBLE + "".join(f" and ${place} <% {_TEXT}" for place in range(3, 3 + count))


def _count_alike(count: int) -> str:
    return f"select count(*) {_alike(count)}"


def page_alike(count: int) -> str:
    """The statement that finds a page by `count` words that are like something."""
    places = range(3, 3 + count)
    in_name = " + ".join(f"word_similarity(${place}, lower(e.name))" for place in places)
    anywhere = " + ".join(f"word_similarity(${place}, {_TEXT})" for place in places)
    return f"""
        select {SELECTED} {_alike(count)}
        order by {in_name} + 2 * ({anywhere}) desc, e.id desc limit ${3 + count} offset ${4 + count}
    """
