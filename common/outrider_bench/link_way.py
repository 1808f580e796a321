"""One way of a connection over an emulated link, and the sockets at its ends.

The I/O around `Lane`: callbacks of the event loop put bytes in, and a timer takes them out when
they are due. No tasks, no threads, no polling. Knows nothing of faults.
"""

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final

from outrider_bench.lane import Ending, Lane, Packet
from outrider_bench.link_clock import LinkClock
from outrider_bench.link_stats import WayStats
from outrider_bench.profile import PACKET_BYTES

READ_BYTES: Final = 64 << 10
"""The most that is read from a socket at once."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class Way:
    """One way of a connection: takes from one socket, gives to the other when it is time.

    Args:
        lane: says when.
        clock: the connection's link time.
        stats: where to count.
        source: whose bytes these are.
        sink: who receives them.
        on_end: called with the sink and how this way ended, when that has come to the sink.
    """

    def __init__(
        self,
        lane: Lane,
        clock: LinkClock,
        stats: WayStats,
        source: "End",
        sink: "End",
        on_end: Callable[["End", Ending], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._clock = clock
        self._stats = stats
        self._source = source
        self._sink = sink
        self._on_end = on_end
        self._moments: list[tuple[int, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0  # when what was delivered last should have been
        self._is_stopped = False
        self.has_ended = False
        """Whether the receiver has been told that no more is to come."""

    @property
    def room(self) -> int:
        """How many bytes may arrive now. There is always room for what is thrown away."""
        return READ_BYTES if self._is_deaf else self._lane.room(self._link_now_s())

    @property
    def _is_deaf(self) -> bool:
        return self.has_ended or self._is_stopped

    def when_delivered(self, num_bytes: int, act: Callable[[], None]) -> None:
        """Call something when exactly so many bytes have been delivered; now if they have been."""
        self._moments.append((num_bytes, act))
        self._moments.sort(key=lambda moment: moment[0])
        self.advance()

    def arrived(self, data: bytes) -> None:
        """The source has sent something."""
        if not self._is_deaf:
            self._lane.offer(data, self._link_now_s())
            self.advance()

    def source_ended(self, ending: Ending) -> None:
        """The source has ended; the sink will hear of it in time."""
        if not self.has_ended or ending is Ending.RESET:
            self._lane.end(ending, self._link_now_s())
            self.advance()

    def cut(self) -> None:
        """End here and now, and throw away what is under way and all that comes."""
        self._end(Ending.CLOSED)
        self.stop()
        self._source.resume_reading()

    def stop(self) -> None:
        """Deliver nothing more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def advance(self) -> None:
        """Deliver what is due, read on if there is room, and come back when there is more."""
        self._deliver()
        if not self._is_stopped:
            self._regulate_reading()
            self._arm_timer()

    def _deliver(self) -> None:
        while self._may_deliver():
            self._write(self._lane.take(self._link_now_s(), self._bytes_until_moment()))
            if self._bytes_until_moment() > 0:
                return
            _, act = self._moments.pop(0)
            act()

    def _may_deliver(self) -> bool:
        is_frozen = self._clock.is_frozen(self._loop.time())
        return not (self._is_stopped or is_frozen) and self._sink.is_ready

    def _bytes_until_moment(self) -> float:
        return self._moments[0][0] - self._stats.num_bytes if self._moments else math.inf

    def _write(self, packets: Iterable[Packet]) -> None:
        data: list[bytes] = []
        now_s = self._link_now_s()
        for packet in packets:
            self._due_s = max(self._due_s, packet.ready_s)
            if isinstance(packet.content, Ending):
                self._sink.write(b"".join(data))
                self._end(packet.content)
                return
            data.append(packet.content)
            self._stats.count(packet.num_bytes, now_s - packet.offered_s, now_s - self._due_s)
        self._sink.write(b"".join(data))

    def _end(self, ending: Ending) -> None:
        if ending is Ending.CLOSED:
            self._sink.write_eof()
            self.has_ended = True
        self._on_end(self._sink, ending)

    def _regulate_reading(self) -> None:
        self._stats.num_lost = self._lane.num_lost
        if self.room >= PACKET_BYTES:
            self._source.resume_reading()
        else:
            self._source.pause_reading()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_s = self._lane.next_s(self._link_now_s())
        if next_s is None or not self._sink.is_ready:
            return
        wall_s = self._clock.wall_s(next_s)
        if wall_s < math.inf:
            self._timer = self._loop.call_at(wall_s, self.advance)

    def _link_now_s(self) -> float:
        return self._clock.link_s(self._loop.time())


class End(asyncio.BufferedProtocol):
    """One socket of a connection.

    Reads no more than there is room for. asyncio sets TCP_NODELAY on every socket of its own.

    Args:
        on_ended: called with this when the other side has ended, and when the socket is gone.
        on_open: called when the socket is there.
    """

    outgoing: Way
    """Where its bytes go."""
    incoming: Way
    """Where bytes for it come from."""

    def __init__(self, on_ended: Callable[["End"], None], on_open: Callable[[], None]) -> None:
        self._on_ended = on_ended
        self._on_open = on_open
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._has_ended = False  # the other side has; reading on would find the same end again
        self._is_full = False  # the other side is so slow that nothing more should be written
        self.is_gone = False

    @property
    def is_ready(self) -> bool:
        """Whether one should write to it."""
        return self._transport is not None and not (self.is_gone or self._is_full)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a socket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.is_gone:
            self.reset()
        else:
            self._on_open()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to, no longer than there is room."""
        return self._buffer[: self.outgoing.room]

    def buffer_updated(self, nbytes: int) -> None:
        """Something was read."""
        self.outgoing.arrived(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        """The other side will send no more, but may read on."""
        self._has_ended = True
        self.outgoing.source_ended(Ending.CLOSED)
        self._on_ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: closed by us, or with an exception by the other side."""
        self.is_gone = True
        if exc is not None:
            self.outgoing.source_ended(Ending.RESET)
        self._on_ended(self)

    def pause_writing(self) -> None:
        """The receiver is slow."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The receiver has caught up."""
        self._is_full = False
        self.incoming.advance()

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        if self._transport is not None and self._transport.is_reading() and not self._has_ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send something, if there is anything and anybody to send it to."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Tell the other side that no more is to come, if it is still there."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # it was reset, unnoticed so far
                self._transport.write_eof()

    def close(self) -> None:
        """Close the socket when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Reset the connection at once."""
        if self._transport is None:
            self.is_gone = True
            return
        taken = self._transport.get_extra_info("socket")
        if taken is not None and taken.fileno() >= 0:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
