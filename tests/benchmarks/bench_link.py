"""Benchmark of the link emulator: what it adds, what it lets through, and how exact it is.

An echo and the links in front of it run in processes of their own, as they do when they are used.
The ways of a table take turns, so that all meet the same state of the machine. Prints tables: see
`--help`.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection
from typing import Final

from bench_runs import by_label, interleaved
from rich.console import Console

from outrider_bench.link import LinkEmulator, split_address
from outrider_bench.precise_loop import precise_event_loop
from outrider_bench.profile import LinkProfile

MESSAGE: Final = bytes(64)  # about what a few draft nodes take, framing included
NUM_TRIPS: Final = 500
BULK_BYTES: Final = 32 << 20
ASKED_MS: Final = (10, 11, 50, 100, 200)  # 11: half of it is no whole number of milliseconds
REST_S: Final = 0.05
NUM_ASKED_TRIPS: Final = 20
NARROW_MBIT: Final = (5, 20, 100, 500)
NARROW_S: Final = 0.5
DIRECT: Final = "direct"
ASYNCIO: Final = "asyncio's own loop"
PRECISE: Final = "precise loop"

_processes = multiprocessing.get_context("spawn")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Row = tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the link emulator on loopback.")
    parser.add_argument("--rounds", type=int, default=10, help="of each table (default: 10)")
    options = parser.parse_args(arguments)
    with echo() as target:
        for table in (round_trips, throughput, accuracy, bandwidth):
            text = "\n".join([*table(target, options.rounds), ""])
            Console().print(text, markup=False, highlight=False, soft_wrap=True)


# What is measured.


def round_trips(target: str, num_rounds: int) -> Iterator[str]:
    """What a link without any delay adds to a round trip."""
    with link(LinkProfile(), target) as relayed:
        ways = {
            DIRECT: partial(trips_s, target, NUM_TRIPS),
            "through the link, round trip 0": partial(trips_s, relayed, NUM_TRIPS),
        }
        times = measured(ways, num_rounds)
    yield f"Round trip of {len(MESSAGE)} bytes, µs:"
    yield from lines(
        ("way", "least", "p50", "p99", "trips"),
        [(label, *spread(values, 1e6), str(len(values))) for label, values in times.items()],
    )


def throughput(target: str, num_rounds: int) -> Iterator[str]:
    """What a link without any limit lets through, there and back at once."""
    with link(LinkProfile(), target) as relayed:
        ways = {
            DIRECT: partial(bulk_s, target, BULK_BYTES),
            "through the link, no limit": partial(bulk_s, relayed, BULK_BYTES),
        }
        times = measured(ways, num_rounds)
    yield f"{BULK_BYTES >> 20} MiB to an echo and back, MB/s each way:"
    yield from lines(
        ("way", "most", "median", "rounds"),
        [
            (
                label,
                f"{BULK_BYTES / 1e6 / min(values):.0f}",
                f"{BULK_BYTES / 1e6 / statistics.median(values):.0f}",
                str(len(values)),
            )
            for label, values in times.items()
        ],
    )


def accuracy(target: str, num_rounds: int) -> Iterator[str]:
    """How much longer round trips are than was asked for."""
    with contextlib.ExitStack() as stack:
        ways = {
            f"no link, after a rest of {REST_S * 1e3:.0f} ms": partial(
                trips_s, target, NUM_ASKED_TRIPS, REST_S
            )
        }
        for asked_ms in ASKED_MS:
            for name, factory in ((ASYNCIO, asyncio.new_event_loop), (PRECISE, precise_event_loop)):
                profile = LinkProfile(rtt_s=asked_ms / 1e3)
                relayed = stack.enter_context(link(profile, target, factory))
                ways[f"{asked_ms} ms, {name}"] = partial(
                    excess_s, relayed, asked_ms / 1e3, NUM_ASKED_TRIPS
                )
        times = measured(ways, num_rounds)
    yield "Round trip beyond what was asked for, µs:"
    yield from lines(
        ("asked", "least", "p50", "p99", "trips"),
        [(label, *spread(values, 1e6), str(len(values))) for label, values in times.items()],
    )


def bandwidth(target: str, num_rounds: int) -> Iterator[str]:
    """How near the bandwidth is to what was asked for."""
    with contextlib.ExitStack() as stack:
        ways = {}
        for mbit in NARROW_MBIT:
            relayed = stack.enter_context(link(LinkProfile(up_bits_per_s=mbit * 1e6), target))
            num_bytes = round(mbit * 1e6 / 8 * NARROW_S)
            ways[f"{mbit} Mbit/s"] = partial(share_of_rate, relayed, mbit * 1e6, num_bytes)
        shares = measured(ways, num_rounds)
    yield "Bandwidth reached, as a share of what was asked for:"
    yield from lines(
        ("asked", "median", "least to most", "rounds"),
        [
            (
                label,
                f"{statistics.median(values):.3f}",
                f"{min(values):.3f} to {max(values):.3f}",
                str(len(values)),
            )
            for label, values in shares.items()
        ],
    )


def trips_s(address: str, num_trips: int, rest_s: float = 0.0) -> list[float]:
    """Seconds of each round trip, after one that does not count; with a rest before each."""
    with connected(address) as channel:
        times = []
        for _ in range(num_trips + 1):
            time.sleep(rest_s)
            began = time.perf_counter()
            channel.sendall(MESSAGE)
            receive(channel, len(MESSAGE))
            times.append(time.perf_counter() - began)
        return times[1:]


def excess_s(address: str, asked_s: float, num_trips: int) -> list[float]:
    """Seconds by which each round trip is longer than was asked for."""
    return [seconds - asked_s for seconds in trips_s(address, num_trips)]


def bulk_s(address: str, num_bytes: int) -> list[float]:
    """Seconds until so many bytes have come back; one value."""
    with connected(address) as channel:
        sender = threading.Thread(target=channel.sendall, args=(bytes(num_bytes),))
        began = time.perf_counter()
        sender.start()
        receive(channel, num_bytes)
        took_s = time.perf_counter() - began
        sender.join()
        return [took_s]


def share_of_rate(address: str, bits_per_s: float, num_bytes: int) -> list[float]:
    """The bandwidth over so many bytes, divided by what was asked for; one value."""
    return [num_bytes * 8 / seconds / bits_per_s for seconds in bulk_s(address, num_bytes)]


def measured(
    ways: Mapping[str, Callable[[], list[float]]], num_rounds: int
) -> dict[str, list[float]]:
    """The values of all rounds of each way; the first round warms up and does not count."""
    outcomes = by_label(list(interleaved(ways, num_rounds + 1)))
    return {label: list(chain(*rounds[1:])) for label, rounds in outcomes.items()}


# Where it is measured.


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """An echo in a process of its own; yields its address."""
    with _process(_run_echo) as address:
        yield address


@contextlib.contextmanager
def link(
    profile: LinkProfile, target: str, loop_factory: LoopFactory = precise_event_loop
) -> Iterator[str]:
    """A link in a process of its own; yields its address."""
    with _process(_run_link, profile, target, loop_factory) as address:
        yield address


@contextlib.contextmanager
def _process(run: Callable[..., None], *arguments: object) -> Iterator[str]:
    here, there = _processes.Pipe()
    process = _processes.Process(target=run, args=(there, *arguments), daemon=True)
    process.start()
    yield here.recv()
    process.terminate()
    process.join()


def _run_echo(pipe: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(f"127.0.0.1:{server.getsockname()[1]}")
        while True:
            channel, _ = server.accept()
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_echo, args=(channel,), daemon=True).start()


def _echo(channel: socket.socket) -> None:
    with channel, contextlib.suppress(ConnectionError):
        while data := channel.recv(1 << 16):
            channel.sendall(data)


def _run_link(
    pipe: Connection, profile: LinkProfile, target: str, loop_factory: LoopFactory
) -> None:
    async def run() -> None:
        async with LinkEmulator(profile, target) as emulator:
            pipe.send(emulator.address)
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


@contextlib.contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """A connection that sends at once."""
    with socket.create_connection(split_address("The address", address)) as channel:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield channel


def receive(channel: socket.socket, num_bytes: int) -> None:
    """Read so many bytes and forget them."""
    while num_bytes > 0:
        num_bytes -= len(channel.recv(min(num_bytes, 1 << 16)))


# How it is shown.


def spread(values: Sequence[float], scale: float) -> Row:
    """The least value, the median and the 99th percentile."""
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    return tuple(
        f"{value * scale:.0f}" for value in (min(values), percentiles[49], percentiles[98])
    )


def lines(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown."""
    yield ""
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    main()
