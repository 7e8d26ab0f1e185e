"""Messages beside the data: read strictly, never trusted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import messages
from shared.errors import CorruptBatch, LimitExceeded, WireError


def test_an_acknowledgement_comes_back() -> None:
    ack = messages.Ack(
        incarnation="a",
        acked=[messages.EpochRange("0f" * 16, 1, 5)],
        refused=[messages.Refusal("0f" * 16, 6, "corrupt")],
        window_batches=8,
    )
    assert messages.decode(messages.encode(ack), messages.Ack) == ack


def test_a_newer_side_may_say_more() -> None:
    assert messages.decode(b'{"values": [], "news": 1}', messages.Live) == messages.Live([])


@given(st.binary(max_size=200))
def test_garbage_is_refused(payload: bytes) -> None:
    for kind in (messages.Ack, messages.Config, messages.State, messages.Live, messages.TimeRequest):
        with pytest.raises(WireError):
            messages.decode(payload, kind)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"news": ' + b"[" * 100_000,
        b'{"status": "online", "instance": "\xff"}',
        b'{"status": "online", "instance": "a", "at_us": NaN}',
        b'{"status": "asleep", "instance": "a"}',
    ],
)
def test_hostile_json_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptBatch):
        messages.decode(payload, messages.State)


def test_an_oversized_message_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        messages.decode(bytes(messages.MESSAGE_BYTES_MAX + 1), messages.Live)
