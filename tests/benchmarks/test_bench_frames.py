"""What the benchmark of the wire counts: every byte once, however the bytes are cut."""

from itertools import pairwise

import pytest
from bench_frames import END_OF_STREAM, PREFACE, Count, FrameCounter, since, total
from hypothesis import given
from hypothesis import strategies as st

DATA, HEADERS, PING, WINDOW_UPDATE = 0, 1, 6, 8


def frame(kind: int, content: bytes, stream_id: int = 1) -> bytes:
    header = len(content).to_bytes(3, "big") + bytes([kind, 0]) + stream_id.to_bytes(4, "big")
    return header + content


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


CONNECTION = b"".join(
    [
        PREFACE,
        frame(HEADERS, bytes(50)),
        frame(DATA, message(b"first")),
        frame(DATA, message(b"a") + message(b"bc")),  # two messages in one frame
        frame(DATA, message(b"x" * 20)[:12]),  # one message in two frames
        frame(DATA, message(b"other"), stream_id=3),
        frame(DATA, message(b"x" * 20)[12:]),
        frame(WINDOW_UPDATE, bytes(4)),
        frame(WINDOW_UPDATE, bytes(4)),
        frame(PING, bytes(8)),
        frame(99, b"?"),
        frame(DATA, b""),
    ]
)


def counted(cuts: list[int]) -> dict[str, Count]:
    counts: dict[str, Count] = {}
    counter = FrameCounter(lambda content: f"{len(content)} bytes", counts, has_preface=True)
    for begin, end in pairwise([0, *sorted(cuts), len(CONNECTION)]):
        counter.feed(CONNECTION[begin:end])
    return counts


@given(cuts=st.lists(st.integers(0, len(CONNECTION)), max_size=20))
def test_every_byte_is_counted_once_however_they_come(cuts: list[int]) -> None:
    counts = counted(cuts)
    assert total(counts).num_bytes == len(CONNECTION)
    assert counts == counted([])


def test_messages_and_frames_are_told_apart() -> None:
    assert counted([]) == {
        "preface": Count(1, 24),
        "HEADERS": Count(1, 59),
        "5 bytes": Count(2, 2 * (9 + 5 + 5), 10),
        "1 bytes": Count(1, 9 + 5 + 1, 1),  # its frame's header counts for the first message
        "2 bytes": Count(1, 5 + 2, 2),
        "20 bytes": Count(1, 9 + 9 + 5 + 20, 20),
        "WINDOW_UPDATE": Count(2, 26),
        "PING": Count(1, 17),
        "frame 99": Count(1, 10),
        END_OF_STREAM: Count(1, 9),
    }


def test_what_came_since_is_the_difference() -> None:
    before = {"PING": Count(1, 17)}
    after = {"PING": Count(3, 51), "commit": Count(1, 20, 6)}
    assert since(after, before) == {"PING": Count(2, 34), "commit": Count(1, 20, 6)}


def test_a_server_has_no_preface() -> None:
    counts: dict[str, Count] = {}
    counter = FrameCounter(lambda _: pytest.fail("there is no message"), counts, has_preface=False)
    counter.feed(frame(PING, bytes(8)))
    assert counts == {"PING": Count(1, 17)}
