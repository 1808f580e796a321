"""What went over a link: bytes, packets, losses, delays. Counts only."""

from dataclasses import dataclass, field

from outrider_bench.profile import Direction


@dataclass(slots=True)
class WayStats:
    """What arrived one way.

    Attributes:
        num_bytes: bytes delivered.
        num_packets: packets delivered.
        num_lost: packets lost, all of which were sent again.
        total_delay_s: from its arrival at the emulator to its delivery, over all packets.
        max_delay_s: the longest of them.
        total_lateness_s: by how much packets were delivered later than the link's model says.
        max_lateness_s: the most of that.
    """

    num_bytes: int = 0
    num_packets: int = 0
    num_lost: int = 0
    total_delay_s: float = 0.0
    max_delay_s: float = 0.0
    total_lateness_s: float = 0.0
    max_lateness_s: float = 0.0

    def count(self, num_bytes: int, delay_s: float, lateness_s: float) -> None:
        """One more packet was delivered."""
        self.num_bytes += num_bytes
        self.num_packets += 1
        self.total_delay_s += delay_s
        self.max_delay_s = max(self.max_delay_s, delay_s)
        self.total_lateness_s += lateness_s
        self.max_lateness_s = max(self.max_lateness_s, lateness_s)

    def add(self, other: "WayStats") -> None:
        """Add what was counted elsewhere."""
        self.num_bytes += other.num_bytes
        self.num_packets += other.num_packets
        self.num_lost += other.num_lost
        self.total_delay_s += other.total_delay_s
        self.max_delay_s = max(self.max_delay_s, other.max_delay_s)
        self.total_lateness_s += other.total_lateness_s
        self.max_lateness_s = max(self.max_lateness_s, other.max_lateness_s)

    @property
    def mean_delay_s(self) -> float | None:
        """Seconds that a packet took on average; None before the first."""
        return self.total_delay_s / self.num_packets if self.num_packets else None

    @property
    def mean_lateness_s(self) -> float | None:
        """Seconds that the emulator itself added on average; None before the first."""
        return self.total_lateness_s / self.num_packets if self.num_packets else None


@dataclass(slots=True)
class LinkStats:
    """What went over one connection, or over several.

    Attributes:
        num_connections: how many.
        up: towards the target.
        down: back.
    """

    num_connections: int = 0
    up: WayStats = field(default_factory=WayStats)
    down: WayStats = field(default_factory=WayStats)

    def way(self, direction: Direction) -> WayStats:
        """What went one way."""
        return self.up if direction is Direction.UP else self.down

    def add(self, other: "LinkStats") -> None:
        """Add what went over other connections."""
        self.num_connections += other.num_connections
        self.up.add(other.up)
        self.down.add(other.down)
