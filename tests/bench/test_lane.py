"""When bytes arrive that are sent over a lane, for any link and any way of sending them."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_bench.lane import LEAST_VARIANCE_S, Ending, Lane
from outrider_bench.lane_noise import LaneNoise
from outrider_bench.profile import PACKET_BYTES, Direction, LinkProfile

UP: Final = Direction.UP
SLACK_S: Final = 1e-9  # what sums of floating-point times may be off

profiles = st.builds(
    LinkProfile,
    rtt_s=st.sampled_from([0.0, 0.003, 0.1, 0.6]),
    jitter_s=st.sampled_from([0.0, 0.002, 0.05]),
    up_bits_per_s=st.sampled_from([64e3, 1e6, 20e6, math.inf]),
    loss_rate=st.sampled_from([0.0, 0.05, 0.5]),
    loss_burst=st.sampled_from([1.0, 4.0]),
    queue_bytes=st.sampled_from([PACKET_BYTES, 5000, 65536]),
    window_bytes=st.sampled_from([PACKET_BYTES, 9000, 1 << 20]),
)
seeds = st.integers(0, 2**32)
sends = st.lists(
    st.tuples(
        st.floats(0, 0.3, allow_subnormal=False),  # seconds since the one before
        st.integers(1, 6000),  # bytes
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Byte:
    """One byte that has arrived: when it was sent, and when it came."""

    number: int
    sent_s: float
    arrived_s: float


def a_lane(profile: LinkProfile, seed: int = 0, connection: int = 1) -> Lane:
    return Lane(profile, UP, LaneNoise(profile, seed, connection, UP))


class Sender:
    """Sends over a lane as a relay would: no more than there is room for, and takes what is due."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.now_s = 0.0
        self.num_sent = 0
        self.sent_s: list[float] = []
        self.arrived: list[tuple[bytes, float]] = []  # pieces, and when they came

    def send(self, after_s: float, num_bytes: int) -> None:
        """What does not fit is sent when there is room."""
        self.advance_to(self.now_s + after_s)
        while num_bytes > 0:
            piece = min(num_bytes, self.lane.room(self.now_s))
            if piece <= 0:
                self.step()
                continue
            self.lane.offer(self._numbered(piece), self.now_s)
            self._take()
            self.sent_s += [self.now_s] * piece
            self.num_sent += piece
            num_bytes -= piece

    def advance_to(self, time_s: float) -> None:
        while (next_s := self.lane.next_s(self.now_s)) is not None and next_s <= time_s:
            self.step()
        self.now_s = max(self.now_s, time_s)

    def step(self) -> None:
        """Go on to when something happens next."""
        next_s = self.lane.next_s(self.now_s)
        assert next_s is not None, "the lane is full and nothing will ever leave it"
        self.now_s = max(self.now_s, next_s)
        self._take()

    def _take(self) -> None:
        for packet in self.lane.take(self.now_s):
            if isinstance(packet.content, bytes):
                self.arrived.append((packet.content, self.now_s))

    def finish(self) -> list[Byte]:
        """All bytes, as they came."""
        while self.lane.num_held_bytes:
            self.step()
        text = b"".join(piece for piece, _ in self.arrived)
        assert text == bytes(i % 251 for i in range(self.num_sent)), "bytes were lost or swapped"
        times = [when_s for piece, when_s in self.arrived for _ in piece]
        return [Byte(i, self.sent_s[i], times[i]) for i in range(self.num_sent)]

    def _numbered(self, length: int) -> bytes:
        return bytes(i % 251 for i in range(self.num_sent, self.num_sent + length))


def sent_over(lane: Lane, pattern: list[tuple[float, int]]) -> list[Byte]:
    sender = Sender(lane)
    for after_s, num_bytes in pattern:
        sender.send(after_s, num_bytes)
    return sender.finish()


@settings(deadline=None)
@given(profiles, seeds, sends)
def test_all_bytes_arrive_in_order_and_none_before_half_a_round_trip(
    profile: LinkProfile, seed: int, pattern: list[tuple[float, int]]
) -> None:
    arrived = sent_over(a_lane(profile, seed), pattern)
    assert len(arrived) == sum(num_bytes for _, num_bytes in pattern)
    assert all(a.arrived_s <= b.arrived_s for a, b in itertools.pairwise(arrived))
    opened_s = profile.opens_s(UP)
    for byte in arrived:
        assert byte.arrived_s >= max(byte.sent_s, opened_s) + profile.rtt_s / 2 - SLACK_S


@settings(deadline=None)
@given(profiles, sends)
def test_without_jitter_and_loss_no_stretch_of_time_carries_more_than_the_bandwidth(
    profile: LinkProfile, pattern: list[tuple[float, int]]
) -> None:
    still = replace(profile, jitter_s=0, loss_rate=0, up_bits_per_s=1e6)
    arrived = sent_over(a_lane(still), pattern)
    # Bytes of a packet come together, when the last one has passed.
    last_at = {byte.arrived_s: byte.number for byte in arrived}
    for (first_s, first), (last_s, last) in itertools.combinations(last_at.items(), 2):
        assert last_s - first_s >= (last - first) / still.bytes_per_s(UP) - SLACK_S


@settings(deadline=None)
@given(profiles, seeds, sends)
def test_jitter_and_loss_never_let_more_through_than_the_bandwidth_since_the_start(
    profile: LinkProfile, seed: int, pattern: list[tuple[float, int]]
) -> None:
    for byte in sent_over(a_lane(profile, seed), pattern):
        least_s = profile.opens_s(UP) + (byte.number + 1) / profile.bytes_per_s(UP)
        assert byte.arrived_s >= least_s - SLACK_S


@settings(deadline=None)
@given(profiles, seeds, sends)
def test_neither_the_queue_nor_the_window_is_ever_exceeded(
    profile: LinkProfile, seed: int, pattern: list[tuple[float, int]]
) -> None:
    lane = a_lane(profile, seed)
    sender = Sender(lane)
    for after_s, num_bytes in pattern:
        sender.send(after_s, num_bytes)
        assert 0 <= lane.num_waiting_bytes(sender.now_s) <= profile.queue_bytes
        assert 0 <= lane.num_held_bytes <= profile.window_bytes
    sender.finish()
    assert lane.num_waiting_bytes(math.inf) == 0
    assert lane.next_s(sender.now_s) is None


def test_bytes_without_room_are_refused() -> None:
    lane = a_lane(LinkProfile(queue_bytes=2000))
    with pytest.raises(ValueError, match="room for 2000"):
        lane.offer(bytes(2001), 0)


@settings(deadline=None)
@given(profiles, seeds, sends)
def test_the_same_seed_gives_the_same_times(
    profile: LinkProfile, seed: int, pattern: list[tuple[float, int]]
) -> None:
    assert sent_over(a_lane(profile, seed), pattern) == sent_over(a_lane(profile, seed), pattern)


@pytest.mark.parametrize(("seed", "connection"), [(2, 1), (1, 2)])
def test_another_seed_or_connection_gives_other_times(seed: int, connection: int) -> None:
    profile = LinkProfile(rtt_s=0.1, jitter_s=0.02)
    pattern = [(0.05, 100)] * 10
    one = sent_over(a_lane(profile, 1, 1), pattern)
    assert one != sent_over(a_lane(profile, seed, connection), pattern)


@settings(deadline=None)
@given(profiles, seeds, sends, st.lists(st.integers(0, 5000), max_size=20))
def test_taking_a_little_at_a_time_gives_the_same_bytes(
    profile: LinkProfile, seed: int, pattern: list[tuple[float, int]], limits: list[int]
) -> None:
    lane = a_lane(profile, seed)
    sent = b""
    for _, num_bytes in pattern:
        piece = bytes(i % 251 for i in range(len(sent), len(sent) + num_bytes))
        piece = piece[: max(0, lane.room(0.0))]
        lane.offer(piece, 0.0)
        sent += piece
    lane.end(Ending.CLOSED, 0.0)
    taken = []
    for limit in [*limits, math.inf]:
        packets = lane.take(1e6, limit)
        assert sum(packet.num_bytes for packet in packets) <= limit
        taken += [packet.content for packet in packets]
    assert taken.pop() is Ending.CLOSED
    assert b"".join(part for part in taken if isinstance(part, bytes)) == sent
    assert lane.num_held_bytes == 0


# Loss.


class Scripted(LaneNoise):
    """Loses the packets that the test names, counted from 0."""

    def __init__(self, lost: set[int]) -> None:
        super().__init__(LinkProfile(), 0, 1, UP)
        self._which = lost
        self._count = -1

    def next_is_lost(self) -> bool:
        self._count += 1
        return self._count in self._which


LOSSY: Final = LinkProfile(rtt_s=0.1, loss_rate=0.1)
OPEN_S: Final = LOSSY.opens_s(UP)


def arrivals(lost: set[int], num_packets: int, apart_s: float) -> list[float]:
    """When packets arrive, in seconds after each was sent."""
    sender = Sender(Lane(LOSSY, UP, Scripted(lost)))
    sender.advance_to(OPEN_S)
    for _ in range(num_packets):
        sender.send(apart_s, 100)
    return [byte.arrived_s - byte.sent_s for byte in sender.finish()[::100]]


def test_a_lost_packet_that_nothing_follows_comes_after_the_retransmission_timeout() -> None:
    stalled_s = 0.05 + LOSSY.rtt_s + LEAST_VARIANCE_S
    assert arrivals({1}, 2, apart_s=1) == pytest.approx([0.05, stalled_s])


def test_a_lost_packet_holds_back_those_behind_it() -> None:
    stalled_s = 0.05 + LOSSY.rtt_s + LEAST_VARIANCE_S
    expected = [stalled_s, stalled_s - 0.01, stalled_s - 0.02]
    assert arrivals({0}, 3, apart_s=0.01) == pytest.approx(expected)


def test_a_lost_packet_is_sent_again_at_once_when_three_later_ones_have_arrived() -> None:
    # The third later one leaves 30 ms after it; its acknowledgement brings the packet again.
    assert arrivals({0}, 4, apart_s=0.01)[0] == pytest.approx(0.03 + 0.05 + LOSSY.rtt_s)


def test_packets_that_are_lost_themselves_acknowledge_nothing() -> None:
    assert arrivals({0, 1}, 5, apart_s=0.01)[0] == pytest.approx(0.04 + 0.05 + LOSSY.rtt_s)


def test_nothing_is_there_while_a_lost_packet_before_it_is_awaited() -> None:
    lane = Lane(LOSSY, UP, Scripted({0}))
    lane.offer(b"lost", OPEN_S)
    lane.offer(b"held back", OPEN_S + 0.01)
    assert lane.take(OPEN_S + 0.2) == []
    assert [packet.content for packet in lane.take(OPEN_S + 0.4)] == [b"lost", b"held back"]


def test_a_packet_that_is_split_leaves_no_trace_in_the_queue() -> None:
    lane = a_lane(LinkProfile(up_bits_per_s=1e6, queue_bytes=2000))
    lane.offer(bytes(1000), 0.0)
    assert sum(packet.num_bytes for packet in lane.take(1.0, 400)) == 400
    assert lane.num_waiting_bytes(1.0) == 0
    assert lane.room(1.0) == 2000
