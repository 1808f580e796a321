"""Quantities, profiles and faults as people write them, and what is said of those that are none."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from outrider_bench import quantities
from outrider_bench.faults import Fault, FaultKind
from outrider_bench.profile import PROFILES, Direction, LinkProfile, named_profile
from outrider_common.errors import ConfigError


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (quantities.seconds, "100ms", 0.1),
        (quantities.seconds, "250us", 0.00025),
        (quantities.seconds, "0s", 0),
        (quantities.seconds, "1.5min", 90),
        (quantities.bits_per_s, "20Mbit", 20e6),
        (quantities.bits_per_s, ".5Gbit", 5e8),
        (quantities.bits_per_s, "64kbit", 64e3),
        (quantities.bits_per_s, "unlimited", math.inf),
        (quantities.num_bytes, "1448", 1448),
        (quantities.num_bytes, "256KiB", 262144),
        (quantities.num_bytes, "1.5MB", 1500000),
        (quantities.share, "1%", 0.01),
        (quantities.share, "0.25", 0.25),
        (quantities.number, "3.5", 3.5),
    ],
)
def test_a_quantity_is_read(read: Callable[..., float], text: str, value: float) -> None:
    assert read("it", text) == pytest.approx(value)


READERS = [
    quantities.seconds,
    quantities.bits_per_s,
    quantities.num_bytes,
    quantities.share,
    quantities.number,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", ["", "-1", "-1ms", "fast", "nan", "inf", "1 ms", "1furlong", "."])
def test_what_is_no_quantity_is_refused_with_an_example(
    read: Callable[..., float], text: str
) -> None:
    with pytest.raises(ConfigError, match=f"^--it is '{text}'; write .*, such as "):
        read("--it", text)


def test_a_part_of_a_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match="whole number"):
        quantities.num_bytes("--queue", "1.5")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rtt_s": -0.001}, "round-trip time is -0.001 s; set it from 0"),
        ({"rtt_s": math.nan}, "round-trip time is nan"),
        ({"jitter_s": 601}, "jitter is 601 s"),
        ({"up_bits_per_s": 0}, "bandwidth up is 0 bit/s; set it at least 1"),
        ({"down_bits_per_s": -1}, "bandwidth down is -1"),
        ({"loss_rate": 0.6}, "lost packets is 0.6"),
        ({"loss_burst": 0.5}, "burst of loss is 0.5"),
        ({"queue_bytes": 10}, "queue is 10 bytes"),
        ({"window_bytes": 0}, "window is 0 bytes"),
    ],
)
def test_a_link_that_cannot_be_is_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(LinkProfile(), **changes)


def test_every_named_link_is_told_apart_in_words() -> None:
    words = [str(named_profile(name)) for name in PROFILES]
    assert len(set(words)) == len(words)
    assert str(named_profile("4g")) == (
        "round trip 70 ms, jitter 20 ms, up 12 Mbit/s, down 12 Mbit/s, loss 0.005 in bursts of 3"
    )


def test_an_unknown_link_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'6g'.*fibre.*4g"):
        named_profile("6g")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("reset:at=10s", Fault(FaultKind.RESET, at_s=10)),
        ("freeze:at=2s,for=500ms", Fault(FaultKind.FREEZE, at_s=2, for_s=0.5)),
        ("cut:way=down,after=1kB", Fault(FaultKind.CUT, way=Direction.DOWN, after_bytes=1000)),
        ("cut:at=0s,way=up", Fault(FaultKind.CUT, at_s=0, way=Direction.UP)),
        (
            "half-open:way=up,after=0,connection=3",
            Fault(FaultKind.HALF_OPEN, way=Direction.UP, after_bytes=0, connection=3),
        ),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no fault"),
        ("explode:at=1s", "no fault; write one of freeze, reset, cut, half-open"),
        ("reset", "needs one moment"),
        ("reset:at=1s,after=5,way=up", "needs one moment"),
        ("reset:after=5", "write way=up or way=down"),
        ("cut:at=1s", "write way=up or way=down"),
        ("cut:after=5,way=left", "'left'; write up or down"),
        ("reset:at=1s,at=2s", "unknown or there twice"),
        ("reset:when=1s", "the keys are at, after, way, for, connection"),
        ("reset:at=-1s", "'-1s'; write a time"),
        ("reset:at", "''; write a time"),
        ("reset:at=1s,connection=0", "the first is 1"),
        ("reset:at=1s,connection=one", "'one'; write a number"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Fault.parse(text)


@pytest.mark.parametrize(
    "values", [{"at_s": -1.0}, {"at_s": 0.0, "for_s": -1.0}, {"at_s": math.nan}]
)
def test_a_fault_at_no_possible_time_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="below 0"):
        Fault(FaultKind.FREEZE, **values)
