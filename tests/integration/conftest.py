"""An edge to talk to the real verifier."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edges import OpenEdge

from outrider_common.settings.edge import EdgeSettings
from outrider_edge.runtime import EdgeRuntime, edge_runtime
from outrider_models.bundle import Bundle


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
