import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.line.checksum import Checksum, crc16_ccitt, crc16_modbus, crc16_xmodem, sum_of, xor_of
from shared.errors import InvalidAnswer

NMEA = Checksum(kind="xor", start=b"$", separator=b"*")


def test_the_algorithms_give_their_published_check_values() -> None:
    assert crc16_modbus(b"123456789") == 0x4B37
    assert crc16_ccitt(b"123456789") == 0x29B1
    assert crc16_xmodem(b"123456789") == 0x31C3
    assert sum_of(b"123456789") == 0xDD
    assert xor_of(b"123456789") == 0x31


def test_a_gps_sentence_from_the_standard_is_right() -> None:
    sentence = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47"
    assert NMEA.verify(sentence) == sentence[:-3]
    assert NMEA.verify(b"$GPGLL,5057.970,N,00146.110,E,142451,A*27") == b"$GPGLL,5057.970,N,00146.110,E,142451,A"


@pytest.mark.parametrize("line", [b"", b"4", b"$GPGLL,1*", b"$GPGLL,1", b"$GPGLL,1*00", b"*", b"\xff\x00*zz"])
def test_a_missing_or_wrong_checksum_is_an_invalid_answer_that_shows_the_bytes(line: bytes) -> None:
    with pytest.raises(InvalidAnswer, match="checksum"):
        NMEA.verify(line)


def test_a_block_check_after_the_terminator_covers_it() -> None:
    guard = Checksum(kind="xor", format="binary", start=b"\x02", position="after", terminator=b"\x03")
    assert guard.guard(b"\x02PV21.5", b"\x03") == b"\x02PV21.5\x03" + bytes([xor_of(b"PV21.5\x03")])


FORMS = st.builds(
    Checksum,
    kind=st.sampled_from(["xor", "sum", "crc16", "crc16-ccitt", "crc16-xmodem"]),
    format=st.sampled_from(["hex", "decimal", "binary", "binary-little"]),
    start=st.sampled_from([b"", b"$", b"\x02"]),
    separator=st.sampled_from([b"*", b";", b" CS="]),
    position=st.just("before"),
)


@given(FORMS, st.binary(max_size=40))
def test_what_was_guarded_verifies(guard: Checksum, content: bytes) -> None:
    assert guard.verify(guard.guard(content, b"")) == content


@given(FORMS, st.binary(min_size=1, max_size=40), st.data())
def test_a_flipped_bit_is_noticed(guard: Checksum, content: bytes, data: st.DataObject) -> None:
    line = bytearray(guard.guard(content, b""))
    covered_from = content.find(guard.start) + len(guard.start) if guard.start in content else 0
    if covered_from == len(content):
        return
    place = data.draw(st.integers(covered_from, len(content) - 1))
    line[place] ^= 1 << data.draw(st.integers(0, 7))
    if guard.start and bytes(line[: len(content)]).find(guard.start) != content.find(guard.start):
        return
    with pytest.raises(InvalidAnswer):
        guard.verify(bytes(line))
