import itertools

from hypothesis import given
from hypothesis import strategies as st

from drivers.line.framing import EXCERPT_BYTES, LineSplitter, excerpt

LINES = st.lists(st.binary(min_size=1, max_size=20).filter(lambda line: b"\r" not in line and b"\n" not in line))


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(LINES, st.lists(st.integers(0, 1000)))
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], cuts: list[int]) -> None:
    splitter = LineSplitter(b"\r\n", 20)
    data = b"".join(line + b"\r\n" for line in lines)
    assert [line for chunk in in_chunks(data, cuts) for line in splitter.feed(chunk)] == lines
    assert splitter.oversized == 0
    assert splitter.pending == b""


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=9).filter(lambda c: 3 not in c), st.binary(min_size=2, max_size=2))
    ),
    st.lists(st.integers(0, 1000)),
)
def test_a_trailer_may_hold_anything_even_the_terminator(frames: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    splitter = LineSplitter(b"\x03", 20, trailer_bytes=2)
    data = b"".join(content + b"\x03" + check for content, check in frames)
    found = [line for chunk in in_chunks(data, cuts) for line in splitter.feed(chunk)]
    assert found == [content + check for content, check in frames]


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_garbage_is_never_held_beyond_the_bound_and_the_next_line_is_found(chunks: list[bytes]) -> None:
    splitter = LineSplitter(b"\n", 50)
    for chunk in chunks:
        assert all(len(line) <= 50 for line in splitter.feed(chunk))
        assert len(splitter.pending) <= 51
    splitter.feed(b"\n")
    assert splitter.feed(b"12.5\n") == [b"12.5"]


def test_a_line_that_is_too_long_is_counted_once_and_dropped_whole() -> None:
    splitter = LineSplitter(b"\n", 4)
    assert splitter.feed(b"123456") == []
    assert splitter.feed(b"78") == []
    assert splitter.feed(b"9\n12\n") == [b"12"]
    assert splitter.oversized == 1
    assert splitter.feed(b"12345\nab\n") == [b"ab"]
    assert splitter.oversized == 2


def test_the_rest_of_a_line_that_began_before_is_no_line() -> None:
    splitter = LineSplitter(b"\r\n", 20, synchronised=False)
    assert splitter.feed(b"1.5\r") == []
    assert splitter.feed(b"\n21.5\r\n") == [b"21.5"]


def test_clear_forgets_half_a_line() -> None:
    splitter = LineSplitter(b"\n", 20)
    splitter.feed(b"half")
    splitter.clear()
    assert splitter.feed(b"whole\n") == [b"whole"]


def test_an_excerpt_is_bounded_and_readable() -> None:
    assert excerpt(b"\x00a'b") == '"\\x00a\'b"'
    assert excerpt(b"x" * (EXCERPT_BYTES + 7)) == repr("x" * EXCERPT_BYTES) + " and 7 bytes more"
