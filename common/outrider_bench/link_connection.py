"""One connection over an emulated link: two sockets, a way in each direction, and what goes wrong.

Knows nothing of other connections, nor how bytes get from one socket to the other.
"""

import asyncio
import math
from collections.abc import Callable

from outrider_bench.faults import Fault, FaultKind
from outrider_bench.lane import Ending, Lane
from outrider_bench.lane_noise import LaneNoise
from outrider_bench.link_clock import LinkClock
from outrider_bench.link_stats import LinkStats
from outrider_bench.link_way import End, Way
from outrider_bench.profile import Direction, LinkProfile


class LinkConnection:
    """One connection: `near` is the socket of who connected, `far` the one to the target.

    Args:
        number: counted from 1, in the order in which connections were accepted.
        profile: what the link is like.
        seed: another seed, other chances.
        on_near_open: called with this when `near` is there; what comes from it waits for `far`.
        on_over: called with this when both sockets are gone.
    """

    def __init__(
        self,
        number: int,
        profile: LinkProfile,
        seed: int,
        on_near_open: Callable[["LinkConnection"], None],
        on_over: Callable[["LinkConnection"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened_s = self._loop.time()
        self._clock = LinkClock(self._opened_s)
        self._on_over = on_over
        self._timers: list[asyncio.TimerHandle] = []
        self._is_over = False
        self.number = number
        self.stats = LinkStats(num_connections=1)
        self.near = End(self._end_ended, lambda: on_near_open(self))
        self.far = End(self._end_ended, self._advance)
        self._ways = {
            Direction.UP: self._way(Direction.UP, profile, seed, self.near, self.far),
            Direction.DOWN: self._way(Direction.DOWN, profile, seed, self.far, self.near),
        }

    def _way(
        self, direction: Direction, profile: LinkProfile, seed: int, source: End, sink: End
    ) -> Way:
        noise = LaneNoise(profile, seed, self.number, direction)
        lane = Lane(profile, direction, noise)
        way = Way(lane, self._clock, self.stats.way(direction), source, sink, self._way_ended)
        source.outgoing, sink.incoming = way, way
        return way

    def inject(self, fault: Fault) -> None:
        """Let a fault happen at its moment; at once if that is past."""
        if fault.at_s is not None:
            self._timers.append(self._loop.call_at(self._opened_s + fault.at_s, self.suffer, fault))
        else:
            assert fault.way is not None
            assert fault.after_bytes is not None
            self._ways[fault.way].when_delivered(fault.after_bytes, lambda: self.suffer(fault))

    def suffer(self, fault: Fault) -> None:
        """Let a fault happen now, whatever its moment."""
        match fault.kind:
            case FaultKind.FREEZE:
                self.freeze(fault.for_s)
            case FaultKind.RESET:
                self.reset()
            case FaultKind.CUT:
                assert fault.way is not None
                self.cut(fault.way)
            case FaultKind.HALF_OPEN:
                self.half_open()

    def freeze(self, for_s: float = math.inf) -> None:
        """Let nothing through for a while, or until `thaw`; a longer freeze goes on."""
        self._clock.freeze(self._loop.time(), for_s)
        self._advance()

    def thaw(self) -> None:
        """End a freeze: all goes on where it was."""
        self._clock.thaw(self._loop.time())
        self._advance()

    def reset(self) -> None:
        """Reset both sockets; what is under way is lost."""
        self.near.reset()
        self.far.reset()
        self._stop()

    def cut(self, direction: Direction) -> None:
        """End one way now: its receiver sees an orderly end, its sender notices nothing."""
        self._ways[direction].cut()

    def half_open(self) -> None:
        """Reset the target's socket; the other one stays open and hears nothing."""
        self.freeze()
        self.far.reset()

    def _advance(self) -> None:
        for way in self._ways.values():
            way.advance()

    def _way_ended(self, sink: End, ending: Ending) -> None:
        """The end of a way has come to its receiver."""
        if ending is Ending.RESET:
            sink.reset()
        elif all(way.has_ended for way in self._ways.values()):
            self.near.close()
            self.far.close()

    def _end_ended(self, end: End) -> None:
        """A socket has ended or is gone; its way tells the other one, unless that is gone, too."""
        other = self.far if end is self.near else self.near
        if other.is_gone and not end.is_gone:
            end.close()
        if end.is_gone and other.is_gone:
            self._stop()

    def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for way in self._ways.values():
            way.stop()
        if not self._is_over:
            self._is_over = True
            self._on_over(self)
