"""`outrider bench link`, as a user runs it."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from outrider_bench.cli import bench, described_profile
from outrider_bench.profile import LinkProfile, named_profile
from outrider_common.errors import ConfigError

READY = re.compile(r"Link ready: (\S+) to (\S+): (.*)\n")
COMMAND = [sys.executable, "-m", "outrider", "bench", "link"]


@dataclass
class Running:
    """A link in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    words: str


@contextmanager
def running_link(*options: str) -> Iterator[Running]:
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready is not None, process.communicate()
        yield Running(process, ready.group(1), ready.group(3))
    finally:
        process.kill()
        process.communicate()


async def test_the_link_says_where_it_listens_relays_and_sums_up() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(100)).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with running_link("--target", target, "--profile", "4g", "--rtt", "30ms") as link:
        assert link.words.startswith("round trip 30 ms, jitter 20 ms, up 12 Mbit/s")
        host, port = link.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello")
        assert await reader.read(-1) == b"HELLO"
        writer.close()
        link.process.send_signal(signal.SIGTERM)
        out, err = await asyncio.to_thread(link.process.communicate, timeout=30)
    assert link.process.returncode == 0
    assert "1 connections; up 5 bytes in 1 packets" in out
    assert "down 5 bytes in 1 packets" in out
    assert err == ""
    server.close()


async def test_a_target_that_is_not_there_is_a_line_and_the_link_goes_on() -> None:
    with running_link("--target", "127.0.0.1:1") as link:
        host, port = link.address.split(":")
        for _ in range(2):
            reader, writer = await asyncio.open_connection(host, int(port))
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.close()
        link.process.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(link.process.communicate, timeout=30)
    assert link.process.returncode == 0
    assert err.count("link_target_unreachable") == 2
    assert "Traceback" not in err
    assert "2 connections; up nothing; down nothing" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rtt", "-5ms"], "--rtt is '-5ms'; write a time"),
        (["--up", "0Mbit"], "The bandwidth up is 0 bit/s; set it at least 1 bit/s."),
        (["--loss", "90%"], "The share of lost packets is 0.9; set it from 0 to 0.5."),
        (["--profile", "6g"], "There is no link profile '6g'"),
        (["--fault", "explode"], "'explode' is no fault"),
        (["--listen", "nowhere"], "The address to listen on is 'nowhere'; write HOST:PORT"),
        (["--listen", "192.0.2.1:80"], "Cannot listen on 192.0.2.1:80"),
    ],
)
def test_bad_values_are_one_sentence_each(options: list[str], said: str) -> None:
    command = [*COMMAND, "--target", "127.0.0.1:1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_options_change_a_named_link_and_leave_the_rest() -> None:
    described = {"rtt": "1s", "up": "1Mbit", "down": "unlimited", "loss_burst": "4", "queue": None}
    dsl = named_profile("dsl")
    assert described_profile("dsl", described) == LinkProfile(
        1, dsl.jitter_s, 1e6, float("inf"), dsl.loss_rate, 4, dsl.queue_bytes
    )
    with pytest.raises(ConfigError, match="--loss-burst is 'x'"):
        described_profile("none", {"loss_burst": "x"})


def test_every_option_of_a_link_reaches_its_profile() -> None:
    options = {
        "rtt": "1s", "jitter": "2s", "up": "3bit", "down": "4bit", "loss": "0.5",
        "loss_burst": "6", "queue": "7000", "window": "8000",
    }  # fmt: skip
    assert described_profile("none", options) == LinkProfile(1, 2, 3, 4, 0.5, 6, 7000, 8000)


def test_the_help_names_the_links_that_there_are() -> None:
    words = " ".join(CliRunner().invoke(bench, ["link", "--help"]).output.split())
    assert "fibre, cable, dsl" in words
