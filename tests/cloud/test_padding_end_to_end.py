"""Padding over the real gRPC stack: the same text, in messages of one size."""

import pytest
from secured_verifier import ANSWER, OPEN, secured_verifier

from outrider_common.messages import Commit, Opened
from outrider_common.padding import PADDED_BYTES
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.grpc_link import FRAMING_BYTES_PER_MESSAGE, GrpcLink

MESSAGE_BYTES = PADDED_BYTES + FRAMING_BYTES_PER_MESSAGE


@pytest.mark.parametrize("num_right", [0, 3, 8])
async def test_what_was_guessed_right_does_not_show_in_sizes(num_right: int) -> None:
    guesses = [*ANSWER[:num_right], *((token + 1) % 10 for token in ANSWER[num_right:8])]
    nodes = [
        DraftNode(i + 1, guess, AtNode(i) if i else AtPosition(2))
        for i, guess in enumerate(guesses)
    ]
    tokens: list[int] = []
    async with secured_verifier() as address, GrpcLink(address, pad_ms=5) as link:
        session = await link.open(OPEN, 2048)
        assert isinstance(await session.receive(), Opened)
        up, down = session.bytes_up, session.bytes_down
        await session.extend(nodes)
        while (event := await session.receive()) is not None:
            assert isinstance(event, Commit)
            tokens += event.tokens
        assert (session.bytes_up - up) % MESSAGE_BYTES == 0
        assert (session.bytes_down - down) % MESSAGE_BYTES == 0
    assert tokens == ANSWER
