"""An emulated link with a tap at its far end, in a process of its own.

What arrives at either end of the tap goes on at once; a copy is counted, frame by frame.
"""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from bench_frames import Count, FrameCounter

from outrider.v1 import verifier_pb2 as pb
from outrider_bench.link import LinkEmulator, joined_address, split_address
from outrider_bench.precise_loop import precise_event_loop
from outrider_bench.profile import LinkProfile

READ_BYTES: Final = 64 << 10

_processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has gone over the link so far.

    Attributes:
        up: what the edge sent, by kind of message or frame.
        down: what the verifier sent.
        link_bytes_up: all bytes of TCP payload that the link emulator has delivered upwards.
        link_bytes_down: and downwards.
    """

    up: dict[str, Count]
    down: dict[str, Count]
    link_bytes_up: int
    link_bytes_down: int


class TappedLink:
    """The link as the benchmark holds it.

    Args:
        address: where it listens.
        pipe: to its process.
    """

    def __init__(self, address: str, pipe: Connection) -> None:
        self.address = address
        self._pipe = pipe

    def traffic(self) -> Traffic:
        """What has gone over it so far."""
        self._pipe.send(None)
        traffic: Traffic = self._pipe.recv()
        return traffic


@contextlib.contextmanager
def tapped_link(profile: LinkProfile, target: str) -> Iterator[TappedLink]:
    """A link to a verifier, in a process of its own."""
    here, there = _processes.Pipe()
    process = _processes.Process(target=_run, args=(there, profile, target), daemon=True)
    process.start()
    yield TappedLink(here.recv(), here)
    process.terminate()
    process.join()


class Tap:
    """Relays connections to a target and counts what goes each way."""

    def __init__(self, target: str) -> None:
        self._target = split_address("The verifier", target)
        self.up: dict[str, Count] = {}
        self.down: dict[str, Count] = {}

    async def serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        """Relay one connection until both sides have ended."""
        far, far_out = await asyncio.open_connection(*self._target)
        await asyncio.gather(
            _relay(near, far_out, FrameCounter(_kind_of_request, self.up, has_preface=True)),
            _relay(far, near_out, FrameCounter(_kind_of_response, self.down, has_preface=False)),
            return_exceptions=True,  # a reset is an end, too
        )


async def _relay(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, counter: FrameCounter
) -> None:
    with contextlib.closing(sink):
        while data := await source.read(READ_BYTES):
            sink.write(data)
            counter.feed(data)
            await sink.drain()


def _kind_of_request(data: bytes) -> str:
    return pb.SessionRequest.FromString(data).WhichOneof("message") or "unknown"


def _kind_of_response(data: bytes) -> str:
    return pb.SessionResponse.FromString(data).WhichOneof("message") or "unknown"


def _run(pipe: Connection, profile: LinkProfile, target: str) -> None:
    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        runner.run(_serve(pipe, profile, target))


async def _serve(pipe: Connection, profile: LinkProfile, target: str) -> None:
    tap = Tap(target)
    server = await asyncio.start_server(tap.serve, "127.0.0.1", 0)
    far_end = joined_address(*server.sockets[0].getsockname()[:2])
    async with server, LinkEmulator(profile, far_end) as link:

        def answer() -> None:
            pipe.recv()
            stats = link.stats
            pipe.send(Traffic(tap.up, tap.down, stats.up.num_bytes, stats.down.num_bytes))

        pipe.send(link.address)
        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        await asyncio.Event().wait()
