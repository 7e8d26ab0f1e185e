"""Which part of a content `Range` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import Problem
from hub.runs.artifacts.byte_range import Part, part_of


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-", 0, 10),
        ("bytes=4-", 4, 10),
        ("bytes=4-4", 4, 5),
        ("bytes=4-99", 4, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("Bytes = 4 - 5", 4, 6),
    ],
)
def test_a_range_is_a_part(wanted: str, start: int, end: int) -> None:
    part = part_of(wanted, None, '"a"', 10)
    assert part == Part(start, end, 10)
    assert part.header == f"bytes {start}-{end - 1}/10"


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=1-2,4-5",
        "lines=1-2",
        "bytes=a-b",
        f"bytes={10**30}-",
    ],
)
def test_what_is_no_range_means_the_whole(wanted: str | None) -> None:
    assert part_of(wanted, None, '"a"', 10) is None


def test_a_range_of_another_content_means_the_whole() -> None:
    assert part_of("bytes=4-", '"a"', '"a"', 10) == Part(4, 10, 10)
    assert part_of("bytes=4-", '"b"', '"a"', 10) is None
    assert part_of("bytes=4-", 'W/"a"', '"a"', 10) is None
    assert part_of("bytes=99-", "Mon, 01 Jan 2024 00:00:00 GMT", '"a"', 10) is None


@pytest.mark.parametrize(
    ("wanted", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10), ("bytes=11-12", 10)]
)
def test_what_the_content_does_not_have_is_refused(wanted: str, size: int) -> None:
    with pytest.raises(Problem) as caught:
        part_of(wanted, None, '"a"', size)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": f"bytes */{size}"})


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True), st.integers(0, 1000))
def test_a_part_lies_within_the_content(wanted: str, size: int) -> None:
    try:
        part = part_of(wanted, None, '"a"', size)
    except Problem:
        return
    assert part is None or 0 <= part.start < part.end <= size
