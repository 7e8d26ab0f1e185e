"""Which versions `If-Match` names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import Problem
from hub.etags import etag, require_match
from tests.hub.conftest import Hub
from tests.hub.runs.conftest import fields_of, refused


@pytest.mark.parametrize(
    "named",
    [None, "*", " * ", '"3"', 'W/"3"', '"1", "3"', '"1","2" ,\t"3"', ', "3",,', '"3",', '"a,b", "3"', '"", "3"'],
)
def test_a_version_that_is_named_may_be_changed(named: str | None) -> None:
    require_match(named, 3)


@pytest.mark.parametrize("named", ['"2"', 'W/"2"', '"1", "2"', '""', '"03"', '"W/3"'])
def test_another_version_is_refused_and_the_right_one_named(named: str) -> None:
    with pytest.raises(Problem) as caught:
        require_match(named, 3)
    problem = caught.value
    assert (problem.status, problem.code, problem.headers) == (412, "version_mismatch", {"ETag": '"3"'})


@pytest.mark.parametrize("named", ["", "3", '"3', "3, 4", '*, "3"', '"3" "4"', "W/3", 'w/"3"', ",", '"3"x', '"3 "'])
def test_what_names_no_version_is_refused_by_name(named: str) -> None:
    with pytest.raises(Problem) as caught:
        require_match(named, 3)
    assert (caught.value.status, [field.field for field in caught.value.fields]) == (422, ["If-Match"])


def test_a_version_may_be_known_by_other_names() -> None:
    require_match('"abc"', 3, '"abc"')
    with pytest.raises(Problem):
        require_match('"abc"', 3)


@given(st.text(max_size=40), st.integers(0, 9))
def test_nothing_but_the_version_itself_matches(named: str, version: int) -> None:
    try:
        require_match(named, version)
    except Problem:
        return
    assert named.strip() == "*" or etag(version) in named


async def test_a_version_without_its_quotes_changes_nothing(hub: Hub) -> None:
    owner = await hub.signed_in()
    made = await owner.post("/projects", json={"name": "Furnace"})
    url = f"/projects/{made.json()['id']}"
    answer = await owner.put(url, json={"name": "Oven"}, headers={"If-Match": "1"})
    assert (answer.status_code, fields_of(answer)) == (422, ["If-Match"])
    answer = await owner.put(url, json={"name": "Oven"}, headers={"If-Match": '"2"'})
    assert refused(answer) == (412, "version_mismatch")
    assert answer.headers["etag"] == made.headers["etag"]
    assert (await owner.get(url)).json() == made.json()
