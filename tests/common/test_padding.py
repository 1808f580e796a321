"""Padded messages: one size, or a multiple of it, and the same content."""

from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import verifier_pb2 as pb
from outrider_common.padding import PADDED_BYTES, padded


@given(
    tokens=st.lists(st.integers(0, 2**32 - 1), max_size=4000),
    size=st.integers(4, 600),
)
def test_any_message_is_filled_up_to_a_multiple_of_the_size_and_says_the_same(
    tokens: list[int], size: int
) -> None:
    for message in (
        pb.SessionRequest(extend=pb.Extend(tokens=tokens)),
        pb.SessionResponse(commit=pb.Commit(tokens=tokens)),
    ):
        before = message.SerializeToString()
        filled = padded(type(message).FromString(before), size)
        assert filled.ByteSize() % size == 0
        assert filled.ByteSize() <= len(before) + 2 * size + 3
        filled.ClearField("padding")
        assert filled.SerializeToString() == before


@given(st.integers(0, 38), st.integers(0, 49151))
def test_usual_messages_all_have_the_same_size(num_tokens: int, token: int) -> None:
    commit = pb.Commit(tokens=[token] * num_tokens, num_rows=60)
    assert padded(pb.SessionResponse(commit=commit)).ByteSize() == PADDED_BYTES
    assert padded(pb.SessionResponse()).ByteSize() == PADDED_BYTES
    extend = pb.Extend(tokens=[token] * min(num_tokens, 16), later_distances=[200] * 15)
    assert padded(pb.SessionRequest(extend=extend)).ByteSize() == PADDED_BYTES
