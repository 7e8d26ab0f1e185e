"""Experiments are found by words, by their beginnings, and in spite of typing errors."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.database.ids import uuid7
from hub.database.pool import acquire, transaction
from hub.errors import Problem
from hub.experiments import search
from tests.hub.experiments.conftest import EXPERIMENTS, Lab


async def found(lab: Lab, q: str, **params: str | int) -> list[str]:
    answer = await lab.ann.get(f"{EXPERIMENTS}/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    assert answer.json()["total"] >= len(answer.json()["experiments"])
    return [one["name"] for one in answer.json()["experiments"]]


@pytest.fixture
async def furnace(lab: Lab) -> Lab:
    """Some experiments of a laboratory that heats things."""
    await lab.add("Laser sintering", description="Heat by light; the furnace stays cold", tags=["optics"])
    await lab.add("Furnace calibration", description="Temperature of all zones", experiment_type="calibration")
    await lab.add("Flow through the PID-7 loop", tags=["flow", "Wärmetauscher"])
    await lab.add("Annealing", description="Of zinc", metadata={"hidden": "unobtainium"})
    return lab


async def test_words_are_found_by_their_beginnings_wherever_they_stand(furnace: Lab) -> None:
    for q, expected in (
        ("anneal", ["Annealing"]),
        ("ANNEALING", ["Annealing"]),
        ("temp zones", ["Furnace calibration"]),
        ("zones furn", ["Furnace calibration"]),
        ("opt", ["Laser sintering"]),
        ("pid-7", ["Flow through the PID-7 loop"]),
        ("wärme", ["Flow through the PID-7 loop"]),
        ("-- anneal !", ["Annealing"]),
        ("unobtainium", []),
        ("- %", []),
    ):
        assert await found(furnace, q) == expected, q


async def test_where_a_beginning_is_found_nothing_that_is_only_like_it_is(furnace: Lab) -> None:
    await furnace.add("Annular gap")
    assert await found(furnace, "anneal") == ["Annealing"]
    assert set(await found(furnace, "annael")) == {"Annealing", "Annular gap"}


async def test_typing_errors_are_forgiven(furnace: Lab) -> None:
    for q, expected in (
        ("anealing", "Annealing"),
        ("annaeling", "Annealing"),
        ("temprature", "Furnace calibration"),
        ("furnase calibratoin", "Furnace calibration"),
        ("lazer", "Laser sintering"),
        ("flwo", "Flow through the PID-7 loop"),
    ):
        assert (await found(furnace, q))[:1] == [expected], q
    assert await found(furnace, "xylophone") == []
    assert await found(furnace, "anealing xylophone") == []


async def test_the_best_come_first(furnace: Lab) -> None:
    assert await found(furnace, "furnace") == ["Furnace calibration", "Laser sintering"]
    await furnace.add("Furnace")
    await furnace.add("Furnace of the furnace furnace")
    assert (await found(furnace, "furnace"))[0] == "Furnace"
    assert (await found(furnace, "furnace"))[-1] == "Laser sintering"


async def test_what_is_found_is_paged_and_kept_to_a_project(furnace: Lab) -> None:
    other = await furnace.new_project("Other")
    await furnace.add("Annealing", project_id=other)
    assert await found(furnace, "anneal", project_id=other) == ["Annealing"]
    pages = [await found(furnace, "f", page=page, page_size=1) for page in (1, 2, 3)]
    assert sorted(name for page in pages for name in page) == [
        "Flow through the PID-7 loop",
        "Furnace calibration",
        "Laser sintering",
    ]
    answer = await furnace.ann.get(f"{EXPERIMENTS}/search", params={"q": "anneal", "page_size": 1})
    assert {key: answer.json()[key] for key in ("total", "page", "page_size")} == {
        "total": 2,
        "page": 1,
        "page_size": 1,
    }


async def test_a_question_without_words_is_refused(lab: Lab) -> None:
    for params in ({}, {"q": ""}, {"q": "  "}, {"q": "a\0"}, {"q": "x" * 201}, {"q": "a b c d e f g h i j k"}):
        answer = await lab.ann.get(f"{EXPERIMENTS}/search", params=params)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "q"), params


async def test_no_question_is_an_error_of_the_hub(furnace: Lab) -> None:
    for q in (
        "' or 1=1 --",
        "a & | ! ( ) :* <->",
        "a\\'b\\",
        "%_%",
        "a:*b",
        "é\u0301",
        "\u202e1",
        "<script>",
        "😀1",
        "1e999",
    ):
        assert (await furnace.ann.get(f"{EXPERIMENTS}/search", params={"q": q})).status_code == 200, q


@given(st.text(max_size=40))
def test_words_have_a_letter_or_a_digit(text: str) -> None:
    try:
        words = search.words_of(text)
    except Problem:
        return
    assert len(words) == len(set(words)) <= search.WORDS_MAX
    assert all(any(character.isalnum() for character in word) for word in words)


async def fill(connection: asyncpg.Connection[asyncpg.Record], lab: Lab, count: int) -> None:
    """Many experiments whose words have nothing to do with one another."""
    me = (await lab.ann.get("/auth/me")).json()["id"]
    await connection.executemany(
        "insert into experiments (id, project_id, owner_id, name, description) "
        "values ($1, $2, $3, $4, md5($4) || ' ' || md5($4 || 'x'))",
        [(uuid7(), lab.project, me, f"{number:x}-{uuid7().hex[-12:]}") for number in range(count)],
    )


async def test_both_ways_of_searching_use_their_index(lab: Lab) -> None:
    me = (await lab.ann.get("/auth/me")).json()["id"]
    async with acquire(lab.hub.services.pool) as connection:
        await fill(connection, lab, 20_000)
        await connection.execute("vacuum analyze experiments")
    by_words = f"explain {search.PAGE_BY_WORDS}"
    alike = f"explain {search.page_alike(2)}"
    async with transaction(lab.hub.services.pool) as connection:
        await connection.execute(search.SET_LIKENESS, str(search.LIKENESS_LEAST))
        plans = [
            await connection.fetch(by_words, me, None, "'anneal':*", "anneal", 50, 0),
            await connection.fetch(alike, me, None, "anealing", "furnase", 50, 0),
        ]
    words, trigrams = ("\n".join(row[0] for row in plan) for plan in plans)
    assert "Bitmap Index Scan on experiments_words" in words, words
    assert "Bitmap Index Scan on experiments_trigrams" in trigrams, trigrams
