"""One way of one connection: when does each byte arrive that is sent at a given time?

Pure: no clock, no socket; times are told, and must not run backwards. What comes out is in order,
as TCP has it: a byte that is late holds back those behind it.

A packet waits until those before it have passed the bottleneck, takes its bits' time to pass, and
then half a round trip and its jitter. A lost one is sent again, the second time with success:

- after the retransmission timeout, a round trip and the greater of 200 ms and four times the jitter
  (RFC 6298, section 2, with Linux's least value),
- or, if three packets that were sent later arrive before that, when their acknowledgements have
  come back and the packet has made its way (fast retransmit: RFC 5681, section 3.2).
"""

import enum
import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from outrider_bench.lane_noise import LaneNoise
from outrider_bench.profile import PACKET_BYTES, Direction, LinkProfile

LEAST_VARIANCE_S: Final = 0.2
NUM_DUPLICATES: Final = 3


class Ending(enum.Enum):
    """How one way ends."""

    CLOSED = "closed"
    """There is no more to come: TCP's FIN."""
    RESET = "reset"
    """The connection was torn down: TCP's RST."""


@dataclass(slots=True)
class Packet:
    """What travels together.

    Attributes:
        content: its bytes, or the end of the way.
        offered_s: when it was given to the lane.
        passed_s: when its last bit has passed the bottleneck.
        ready_s: when it is there, unless what is before it is late.
        num_duplicates: of a lost packet, how many were sent since and not lost.
    """

    content: bytes | Ending
    offered_s: float
    passed_s: float
    ready_s: float
    num_duplicates: int = 0

    @property
    def num_bytes(self) -> int:
        """How long it is."""
        return len(self.content) if isinstance(self.content, bytes) else 0

    def split_off(self, num_bytes: int) -> "Packet":
        """Take that many bytes from its beginning, as a packet of their own."""
        assert isinstance(self.content, bytes)
        head, self.content = self.content[:num_bytes], self.content[num_bytes:]
        return replace(self, content=head)


class Lane:
    """One way of one connection.

    Args:
        profile: what the link is like.
        direction: which way.
        noise: the chances of this way.
    """

    def __init__(self, profile: LinkProfile, direction: Direction, noise: LaneNoise) -> None:
        self._noise = noise
        self._bytes_per_s = profile.bytes_per_s(direction)
        self._delay_s = profile.rtt_s / 2
        self._rtt_s = profile.rtt_s
        self._timeout_s = profile.rtt_s + max(LEAST_VARIANCE_S, 4 * profile.jitter_s)
        self._queue_bytes = profile.queue_bytes
        self._window_bytes = profile.window_bytes
        # Where neither bits nor losses are counted, what came together may stay together.
        is_cut = self._bytes_per_s < math.inf or profile.loss_rate > 0
        self._packet_bytes = PACKET_BYTES if is_cut else profile.queue_bytes
        self._free_s = profile.opens_s(direction)  # when the bottleneck is free
        self._waiting: deque[Packet] = deque()  # before the bottleneck, or passing it
        self._held: deque[Packet] = deque()  # all, in order
        self._lost: list[Packet] = []  # whose retransmission awaits its timeout
        self._num_waiting_bytes = 0
        self._num_held_bytes = 0
        self._num_lost = 0

    @property
    def num_lost(self) -> int:
        """How many packets were lost so far."""
        return self._num_lost

    @property
    def num_held_bytes(self) -> int:
        """How many bytes were offered and have not been taken."""
        return self._num_held_bytes

    def num_waiting_bytes(self, now_s: float) -> int:
        """How many bytes have not yet passed the bottleneck."""
        self._pass_bottleneck(now_s)
        return self._num_waiting_bytes

    def room(self, now_s: float) -> int:
        """How many bytes may be offered now."""
        in_queue = self._queue_bytes - self.num_waiting_bytes(now_s)
        return min(in_queue, self._window_bytes - self._num_held_bytes)

    def offer(self, data: bytes, now_s: float) -> None:
        """Send bytes that came together: cut into packets, which have the same jitter.

        Raises:
            ValueError: there is no room for them.
        """
        if len(data) > self.room(now_s):
            raise ValueError(f"{len(data)} bytes, but there is room for {self.room(now_s)}")
        jitter_s = self._noise.next_jitter_s()
        for start in range(0, len(data), self._packet_bytes):
            packet = self._send(data[start : start + self._packet_bytes], now_s, jitter_s)
            if self._noise.next_is_lost():
                self._lose(packet)
            elif self._lost:
                self._acknowledge_again(packet)

    def end(self, ending: Ending, now_s: float) -> None:
        """Send the end, which is not lost; nothing may be offered after it."""
        self._send(ending, now_s, 0.0)

    def take(self, now_s: float, most_bytes: float = math.inf) -> list[Packet]:
        """What has arrived and was not taken yet, in order; a packet may be split.

        Args:
            now_s: the time.
            most_bytes: how many bytes to take at most; the end comes only after all of them.
        """
        self._pass_bottleneck(now_s)  # a packet counts with all its bytes there
        taken: list[Packet] = []
        while self._held and self._held[0].ready_s <= now_s and most_bytes > 0:
            packet = self._held[0]
            if packet.num_bytes > most_bytes:
                packet = packet.split_off(int(most_bytes))
            else:
                self._held.popleft()
            most_bytes -= packet.num_bytes
            self._num_held_bytes -= packet.num_bytes
            taken.append(packet)
        return taken

    def next_s(self, now_s: float) -> float | None:
        """When there is something to take, or room again for a packet; None if never by itself."""
        times = [self._held[0].ready_s] if self._held else []
        if self.num_waiting_bytes(now_s) > self._queue_bytes - PACKET_BYTES:
            times.append(self._waiting[0].passed_s)
        return min(times, default=None)

    def _send(self, content: bytes | Ending, now_s: float, jitter_s: float) -> Packet:
        packet = Packet(content, now_s, 0.0, 0.0)
        began_s = max(now_s, self._free_s)
        self._free_s = began_s + packet.num_bytes / self._bytes_per_s
        packet.passed_s = self._free_s
        packet.ready_s = self._free_s + self._delay_s + jitter_s
        self._waiting.append(packet)
        self._held.append(packet)
        self._num_waiting_bytes += packet.num_bytes
        self._num_held_bytes += packet.num_bytes
        return packet

    def _lose(self, packet: Packet) -> None:
        packet.ready_s += self._timeout_s
        self._lost.append(packet)
        self._num_lost += 1

    def _acknowledge_again(self, packet: Packet) -> None:
        """A later packet arrives: one more acknowledgement that says what is missing."""
        for lost in self._lost:
            lost.num_duplicates += 1
            if lost.num_duplicates == NUM_DUPLICATES:
                lost.ready_s = min(lost.ready_s, packet.ready_s + self._rtt_s)
        self._lost = [lost for lost in self._lost if lost.num_duplicates < NUM_DUPLICATES]

    def _pass_bottleneck(self, now_s: float) -> None:
        while self._waiting and self._waiting[0].passed_s <= now_s:
            self._num_waiting_bytes -= self._waiting.popleft().num_bytes
