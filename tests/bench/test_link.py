"""The link emulator over real sockets: what arrives, what a fault looks like, and what is counted.

Times are only ever bounded from below: a byte is never early. How late it is, is for a benchmark.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_bench.faults import Fault, FaultKind
from outrider_bench.lane import LEAST_VARIANCE_S
from outrider_bench.link import LinkEmulator
from outrider_bench.precise_loop import precise_event_loop
from outrider_bench.profile import PACKET_BYTES, Direction, LinkProfile
from outrider_common.errors import ConfigError, PortInUseError

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

NOTHING: Final = LinkProfile()
WHILE_S: Final = 0.05  # long enough for loopback to deliver what nothing holds back


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, then end as orderly as the other side did."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Target:
    """A server whose connections a test holds in its own hands."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.accepted.put((reader, writer))


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Streams]:
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def echoed(
    link_profile: LinkProfile, *faults: Fault
) -> AsyncIterator[tuple[LinkEmulator, Streams]]:
    """A connection over a link to an echo."""
    async with (
        served(echo) as target,
        LinkEmulator(link_profile, target, faults=faults) as link,
        connected(link.address) as streams,
    ):
        yield link, streams


@asynccontextmanager
async def both_sides(*faults: Fault) -> AsyncIterator[tuple[LinkEmulator, Streams, Streams]]:
    """A connection over a link, and its two sides."""
    target = Target()
    async with (
        served(target.take) as address,
        LinkEmulator(NOTHING, address, faults=faults) as link,
        connected(link.address) as near,
    ):
        far = await target.accepted.get()
        yield link, near, far
        far[1].close()


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a while, not even an end."""
    try:
        async with asyncio.timeout(WHILE_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection as one does whose process dies."""
    taken = writer.get_extra_info("socket")
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def until_all_are_over(link: LinkEmulator) -> None:
    async with asyncio.timeout(10):
        while link.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


# What arrives.


@settings(deadline=None, max_examples=15)
@given(
    pieces=st.lists(st.integers(1, 100_000), min_size=1, max_size=8),
    profile=st.sampled_from(
        [
            NOTHING,
            LinkProfile(rtt_s=0.004, jitter_s=0.002),
            LinkProfile(up_bits_per_s=200e6, down_bits_per_s=400e6, queue_bytes=5000),
            LinkProfile(window_bytes=PACKET_BYTES),
        ]
    ),
)
def test_bytes_come_back_whole_however_they_were_sent(
    pieces: list[int], profile: LinkProfile
) -> None:
    async def exchange() -> None:
        sent = b"".join(bytes([i % 251]) * size for i, size in enumerate(pieces))
        async with echoed(profile) as (_, (reader, writer)):
            answer = asyncio.create_task(reader.read(-1))
            start = 0
            for size in pieces:
                writer.write(sent[start : start + size])
                await writer.drain()
                start += size
            writer.write_eof()
            assert await answer == sent

    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        runner.run(exchange())


async def test_many_connections_at_once_get_their_own_bytes() -> None:
    async def one(address: str, number: int) -> bool:
        async with connected(address) as (reader, writer):
            text = bytes([number]) * (1000 * (number + 1))
            writer.write(text)
            writer.write_eof()
            return await reader.read(-1) == text

    async with (
        served(echo) as target,
        LinkEmulator(LinkProfile(rtt_s=0.01, jitter_s=0.01), target) as link,
    ):
        assert all(await asyncio.gather(*(one(link.address, number) for number in range(50))))
        assert link.stats.num_connections == 50


async def test_no_answer_comes_before_the_round_trip_and_none_before_the_handshake() -> None:
    rtt_s = 0.05
    began = time.perf_counter()
    async with echoed(LinkProfile(rtt_s=rtt_s)) as (_, (reader, writer)):
        for least_s in (2 * rtt_s, rtt_s, rtt_s):  # the first waits for the handshake
            writer.write(b"ping")
            await reader.readexactly(4)
            assert time.perf_counter() - began >= least_s
            began = time.perf_counter()


async def test_bytes_take_their_time_to_pass_a_narrow_link() -> None:
    began = time.perf_counter()
    async with echoed(LinkProfile(up_bits_per_s=1.6e6)) as (_, (reader, writer)):
        writer.write(bytes(20_000))
        await reader.readexactly(20_000)
    assert time.perf_counter() - began >= 0.1


async def test_a_loss_is_a_stall_and_no_gap() -> None:
    profile = LinkProfile(loss_rate=0.5)  # every second packet on average
    began = time.perf_counter()
    async with echoed(profile) as (link, (reader, writer)):
        for number in range(10):
            writer.write(bytes([number]))
            assert await reader.readexactly(1) == bytes([number])
        num_lost = link.stats.up.num_lost + link.stats.down.num_lost
    assert num_lost > 0
    assert time.perf_counter() - began >= num_lost * LEAST_VARIANCE_S


async def test_a_receiver_that_does_not_read_stops_the_sender() -> None:
    profile = LinkProfile(window_bytes=100_000, queue_bytes=50_000)
    target = Target()
    async with (
        served(target.take) as address,
        LinkEmulator(profile, address) as link,
        connected(link.address) as (_, writer),
    ):
        far_reader, far_writer = await target.accepted.get()
        far_writer.transport.pause_reading()
        writer.write(bytes(50_000_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 1)
        far_writer.transport.resume_reading()
        await far_reader.readexactly(50_000_000)
        far_writer.close()


# How it ends.


async def test_a_half_close_is_passed_on_and_the_other_way_goes_on() -> None:
    async with both_sides() as (_, (reader, writer), (far_reader, far_writer)):
        writer.write(b"question")
        writer.write_eof()
        assert await far_reader.read(-1) == b"question"
        far_writer.write(b"answer")
        far_writer.close()
        assert await reader.read(-1) == b"answer"


@pytest.mark.parametrize("side", ["near", "far"])
async def test_a_reset_of_one_side_is_a_reset_on_the_other(side: str) -> None:
    async with both_sides() as (link, near, far):
        (_, resets), (hears, _) = (near, far) if side == "near" else (far, near)
        reset(resets)
        with pytest.raises(ConnectionResetError):
            await hears.read(-1)
    assert not link.connections


async def test_an_end_for_who_is_gone_unnoticed_ends_the_connection_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = Target()
    async with (
        served(target.take) as address,
        LinkEmulator(LinkProfile(rtt_s=0.01), address) as link,
        connected(link.address) as (_, writer),
    ):
        far_reader, far_writer = await target.accepted.get()
        writer.write_eof()
        assert await far_reader.read(-1) == b""  # from here on nobody listens to the near socket
        reset(writer)
        far_writer.close()
        await until_all_are_over(link)
    assert "Traceback" not in caplog.text


async def test_a_target_that_cannot_be_reached_is_a_reset_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(echo) as target:
        pass  # nobody listens there any more
    async with LinkEmulator(NOTHING, target) as link, connected(link.address) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    (record,) = [entry for entry in caplog.records if "unreachable" in entry.message]
    assert record.fields["target"] == target


async def test_leaving_the_emulator_resets_what_is_connected() -> None:
    async with served(echo) as target:
        async with LinkEmulator(NOTHING, target) as link:
            host, port = link.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"x")
            await reader.readexactly(1)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


@pytest.mark.parametrize("num_turns", range(6))
async def test_who_is_being_accepted_while_the_emulator_leaves_is_not_kept_waiting(
    num_turns: int,
) -> None:
    async with served(echo) as target:
        async with LinkEmulator(NOTHING, target) as link:
            host, port = link.address.split(":")
            channel = socket.create_connection((host, int(port)))
            for _ in range(num_turns):  # of the event loop, one of which accepts it
                await asyncio.sleep(0)
        with channel, contextlib.suppress(ConnectionResetError):
            channel.setblocking(False)
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(channel, 1) == b""


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    async with served(echo) as taken:
        with pytest.raises(PortInUseError, match=taken):
            async with LinkEmulator(NOTHING, "127.0.0.1:1", listen=taken):
                pass


@pytest.mark.parametrize("address", ["", "7411", "host", "host:", "host:70000", "::1:80", "a:b"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        LinkEmulator(NOTHING, address)


# Faults at a moment of the test's own.


@pytest.mark.parametrize("profile", [NOTHING, LinkProfile(rtt_s=0.01, up_bits_per_s=1e6)])
async def test_a_freeze_holds_everything_and_lets_go(profile: LinkProfile) -> None:
    async with echoed(profile) as (link, (reader, writer)):
        writer.write(b"before")
        await reader.readexactly(6)
        link.freeze()
        writer.write(b"during")
        assert await is_silent(reader)
        link.thaw()
        assert await reader.readexactly(6) == b"during"


async def test_a_freeze_ends_by_itself_and_not_before() -> None:
    async with echoed(NOTHING) as (link, (reader, writer)):
        began = time.perf_counter()
        link.freeze(0.2)
        writer.write(b"x")
        await reader.readexactly(1)
        assert time.perf_counter() - began >= 0.2


async def test_who_connects_while_the_link_is_frozen_waits_like_the_others() -> None:
    async with served(echo) as target, LinkEmulator(NOTHING, target) as link:
        link.freeze()
        async with connected(link.address) as (reader, writer):
            writer.write(b"x")
            assert await is_silent(reader)
            link.thaw()
            assert await reader.readexactly(1) == b"x"


async def test_a_reset_is_seen_on_both_sides() -> None:
    async with both_sides() as (link, near, far):
        link.reset_all()
        for reader, _ in (near, far):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        assert not link.connections


@pytest.mark.parametrize("way", Direction)
async def test_a_cut_ends_one_way_and_its_sender_notices_nothing(way: Direction) -> None:
    async with both_sides() as (link, near, far):
        (await link.connection(1)).cut(way)
        sender, receiver = (near, far) if way is Direction.UP else (far, near)
        assert await receiver[0].read(-1) == b""
        sender[1].write(bytes(10_000_000))
        await asyncio.wait_for(sender[1].drain(), 10)  # thrown away, and not held back
        receiver[1].write(b"other way")
        assert await sender[0].readexactly(9) == b"other way"


async def test_a_half_open_link_resets_the_target_and_tells_nobody_else() -> None:
    async with both_sides() as (link, (reader, writer), (far_reader, _)):
        (await link.connection(1)).half_open()
        with pytest.raises(ConnectionResetError):
            await far_reader.read(1)
        writer.write(b"is anybody there?")
        assert await is_silent(reader)
        assert link.connections
        writer.close()
        await writer.wait_closed()
        await until_all_are_over(link)


async def test_one_can_wait_for_a_connection_before_it_is_there() -> None:
    async with served(echo) as target, LinkEmulator(NOTHING, target) as link:
        waiting = asyncio.create_task(link.connection(2))
        async with connected(link.address), connected(link.address):
            assert (await waiting).number == 2
            assert (await link.connection(1)).number == 1
            link.reset_all()
            with pytest.raises(LookupError, match="1 is over"):
                await link.connection(1)


async def test_a_sender_that_waits_for_room_goes_on_after_a_cut() -> None:
    async with both_sides() as (link, (_, writer), (far_reader, _)):
        link.freeze()
        writer.write(bytes(50_000_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)
        (await link.connection(1)).cut(Direction.UP)
        assert await far_reader.read(-1) == b""
        await asyncio.wait_for(writer.drain(), 30)


# Faults at moments of their own.


@pytest.mark.parametrize("way", Direction)
@pytest.mark.parametrize("num_bytes", [0, 1, 999, PACKET_BYTES + 1, 150_000])
async def test_a_stream_is_cut_after_exactly_so_many_bytes(way: Direction, num_bytes: int) -> None:
    cut = Fault(FaultKind.CUT, way=way, after_bytes=num_bytes)
    async with both_sides(cut) as (_, near, far):
        sender, receiver = (near, far) if way is Direction.UP else (far, near)
        text = bytes(i % 251 for i in range(200_000))
        sender[1].write(text)
        assert await receiver[0].read(-1) == text[:num_bytes]


async def test_a_reset_after_bytes_comes_after_those_and_no_others() -> None:
    fault = Fault(FaultKind.RESET, way=Direction.DOWN, after_bytes=5)
    async with both_sides(fault) as (link, (reader, _), (_, far_writer)):
        far_writer.write(b"12345678")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        assert link.stats.down.num_bytes == 5


async def test_a_freeze_after_bytes_lets_those_through_and_holds_the_next() -> None:
    fault = Fault(FaultKind.FREEZE, way=Direction.UP, after_bytes=3)
    async with both_sides(fault) as (link, (_, writer), (far_reader, _)):
        writer.write(b"123456")
        assert await far_reader.readexactly(3) == b"123"
        assert await is_silent(far_reader)
        link.thaw()
        assert await far_reader.readexactly(3) == b"456"


async def test_a_fault_at_a_time_does_not_happen_before_it() -> None:
    began = time.perf_counter()
    async with echoed(NOTHING, Fault(FaultKind.RESET, at_s=0.2)) as (_, (reader, _)):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    assert time.perf_counter() - began >= 0.2


async def test_a_fault_of_one_connection_leaves_the_others_alone() -> None:
    fault = Fault(FaultKind.RESET, at_s=0, connection=1)
    async with served(echo) as target, LinkEmulator(NOTHING, target, faults=[fault]) as link:
        async with connected(link.address) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        async with connected(link.address) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"


async def test_a_fault_can_be_added_to_a_connection_that_is_there() -> None:
    async with echoed(NOTHING) as (link, (reader, writer)):
        writer.write(b"12345")
        await reader.readexactly(5)
        link.inject(Fault(FaultKind.CUT, way=Direction.DOWN, after_bytes=8))
        writer.write(b"67890")
        assert await reader.read(-1) == b"678"


async def test_a_fault_that_is_added_leaves_other_connections_alone() -> None:
    async with (
        echoed(NOTHING) as (link, (first, _)),
        connected(link.address) as (reader, writer),
    ):
        await link.connection(2)
        link.inject(Fault(FaultKind.RESET, at_s=0, connection=1))
        with pytest.raises(ConnectionResetError):
            await first.read(1)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


# What is counted.


async def test_bytes_and_delays_are_counted_also_of_connections_that_are_over() -> None:
    async with echoed(LinkProfile(rtt_s=0.02)) as (link, (reader, writer)):
        for _ in range(2):
            writer.write(bytes(100))
            await reader.readexactly(100)
        here = link.stats
        link.reset_all()
        assert link.stats == here
    assert here.up.num_bytes == here.down.num_bytes == 200
    assert here.up.num_packets == 2
    assert here.down.mean_delay_s is not None
    assert 0.01 <= here.down.mean_delay_s <= here.down.max_delay_s
    assert here.down.mean_lateness_s is not None
    assert here.down.mean_lateness_s <= here.down.mean_delay_s - 0.01 + 1e-9


async def test_a_link_through_which_nothing_went_has_no_mean() -> None:
    async with served(echo) as target, LinkEmulator(NOTHING, target) as link:
        assert link.stats.num_connections == 0
        assert link.stats.up.mean_delay_s is None
        assert link.stats.up.mean_lateness_s is None
