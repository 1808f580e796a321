"""What a link is like: delay, jitter, bandwidth, loss, queue. Values only, and some named ones.

Pure. Knows nothing of sockets, and not how a byte's time is computed from the values.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outrider_bench.quantities import bandwidth, duration
from outrider_common.errors import ConfigError

PACKET_BYTES: Final = 1448
"""Bytes of a full packet: Ethernet's 1500 without the headers of IPv4 and TCP with timestamps."""

MAX_DELAY_S: Final = 600.0


class Direction(enum.Enum):
    """Which way bytes go."""

    UP = "up"
    """From who connects to the target."""
    DOWN = "down"
    """From the target back."""


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """What every connection over a link meets.

    Attributes:
        rtt_s: seconds of a round trip without jitter, queue or loss; half of it each way.
        jitter_s: by how much jitter lengthens a round trip on average. Each way adds an
            exponentially distributed time of half that mean, so no delay is below `rtt_s / 2`.
        up_bits_per_s: bandwidth towards the target, of each connection; infinite for no limit.
            What counts is payload: headers of TCP and IP are not emulated.
        down_bits_per_s: bandwidth from the target.
        loss_rate: share of packets that are lost and sent again.
        loss_burst: how many packets in a row are lost, on average.
        queue_bytes: room before the bottleneck of each way. A full queue is not lost but waited
            for: nothing more is read.
        window_bytes: the most that a way holds at once, queued or under way, as TCP's window.

    Raises:
        ConfigError: a value is out of range.
    """

    rtt_s: float = 0.0
    jitter_s: float = 0.0
    up_bits_per_s: float = math.inf
    down_bits_per_s: float = math.inf
    loss_rate: float = 0.0
    loss_burst: float = 1.0
    queue_bytes: int = 256 << 10
    window_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        _require("The round-trip time", self.rtt_s, 0, MAX_DELAY_S, " s")
        _require("The jitter", self.jitter_s, 0, MAX_DELAY_S, " s")
        _require("The bandwidth up", self.up_bits_per_s, 1, math.inf, " bit/s")
        _require("The bandwidth down", self.down_bits_per_s, 1, math.inf, " bit/s")
        _require("The share of lost packets", self.loss_rate, 0, 0.5)
        _require("The length of a burst of loss", self.loss_burst, 1, 1e6, " packets")
        _require("The queue", self.queue_bytes, PACKET_BYTES, 1 << 30, " bytes")
        _require("The window", self.window_bytes, PACKET_BYTES, 1 << 30, " bytes")

    def bytes_per_s(self, direction: Direction) -> float:
        """The bandwidth of one way; infinite for no limit."""
        bits = self.up_bits_per_s if direction is Direction.UP else self.down_bits_per_s
        return bits / 8

    def opens_s(self, direction: Direction) -> float:
        """When the first byte of one way can be sent, after the connection was asked for.

        TCP's handshake: who connects may send after one round trip; who accepts may half a one
        later, when it has heard so.
        """
        return self.rtt_s if direction is Direction.UP else 1.5 * self.rtt_s

    def __str__(self) -> str:
        """In words, for a person."""
        parts = [f"round trip {duration(self.rtt_s)}"]
        if self.jitter_s:
            parts.append(f"jitter {duration(self.jitter_s)}")
        parts.append(f"up {bandwidth(self.up_bits_per_s)}")
        parts.append(f"down {bandwidth(self.down_bits_per_s)}")
        if self.loss_rate:
            parts.append(f"loss {self.loss_rate:.3g} in bursts of {self.loss_burst:.3g}")
        return ", ".join(parts)


def _require(what: str, value: float, least: float, most: float, unit: str = "") -> None:
    if not least <= value <= most:  # also where it is NaN
        bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise ConfigError(f"{what} is {value:g}{unit}; set it {bounds}{unit}.")


PROFILES: Final[Mapping[str, LinkProfile]] = {
    "none": LinkProfile(),
    "lan": LinkProfile(0.0005, 0.0001, 1e9, 1e9),
    "wifi": LinkProfile(0.004, 0.002, 100e6, 100e6, 0.001, 2),
    "wifi-congested": LinkProfile(0.02, 0.03, 10e6, 20e6, 0.02, 5),
    "fibre": LinkProfile(0.01, 0.001, 100e6, 300e6),
    "cable": LinkProfile(0.02, 0.004, 20e6, 200e6, 0.0002, 2),
    "dsl": LinkProfile(0.03, 0.004, 5e6, 25e6, 0.0005, 2),
    "5g": LinkProfile(0.025, 0.008, 30e6, 200e6, 0.001, 3),
    "4g": LinkProfile(0.07, 0.02, 12e6, 12e6, 0.005, 3),
    "3g": LinkProfile(0.15, 0.05, 768e3, 1.6e6, 0.01, 4),
    "satellite-low": LinkProfile(0.045, 0.015, 15e6, 100e6, 0.005, 8),
    "satellite": LinkProfile(0.6, 0.03, 3e6, 25e6, 0.002, 4),
}
"""Links by name. They stand for kinds of links and describe no particular one.

Round trips and bandwidths of `4g` and `3g` are what WebPageTest calls LTE and fast 3G. That of
`satellite` is the 558 ms that RFC 2488, section 2, gives for a geostationary hop there and back,
and some more on the ground. All other figures, and all jitter and loss, are assumptions.
"""


def named_profile(name: str) -> LinkProfile:
    """A link by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PROFILES:
        raise ConfigError(
            f"There is no link profile '{name}'; take one of {', '.join(PROFILES)}, or describe "
            "the link itself."
        )
    return PROFILES[name]
