"""A real verifier in a process of its own, and an edge to talk to it."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from outrider_common.bundle import Bundle
from outrider_common.config import EdgeSettings
from outrider_edge.runtime import EdgeRuntime, edge_runtime

READY = re.compile(r"Verifier ready: .* on (\S+)")
OpenEdge = Callable[..., AbstractAsyncContextManager[EdgeRuntime]]


@pytest.fixture(scope="session")
def verifier_address(smollm2_dir: Path) -> Iterator[str]:
    """`outrider verifier serve` with the real model, on a free port of loopback."""
    arguments = ["verifier", "serve", "--port", "0", "--model", str(smollm2_dir)]
    process = subprocess.Popen(
        [sys.executable, "-m", "outrider", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready is not None, "the verifier did not start"
        yield ready.group(1)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="session")
def int8_bundle(int8_bundle_dir: Path) -> Bundle:
    return Bundle.load(int8_bundle_dir)


@pytest.fixture
def open_edge(verifier_address: str, int8_bundle: Bundle) -> OpenEdge:
    """Opens an edge with the given proposers."""

    @asynccontextmanager
    async def opened(*proposers: str) -> AsyncIterator[EdgeRuntime]:
        settings = EdgeSettings(verifier=verifier_address, proposers=proposers)
        async with edge_runtime(settings, int8_bundle) as runtime:
            yield runtime

    return opened
