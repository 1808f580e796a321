"""Fixtures for all tests."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import running_verifier

from outrider_common.log import OUR_LOGGERS
from outrider_models.bundle import FORMAT_VERSION
from outrider_models.exporting import ExportRequest, export
from outrider_models.progress import SilentProgress
from outrider_models.pull import pull
from outrider_models.store import ModelStore, default_root


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo what the test does to the process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    """The user's own model store, so that models are pulled and exported once a machine."""
    return ModelStore(default_root())


@pytest.fixture(scope="session")
def smollm2_dir(model_store: ModelStore) -> Path:
    """The directory of the real target model."""
    return pull("smollm2-135m", model_store, SilentProgress())


@pytest.fixture(scope="session")
def int8_bundle_dir(model_store: ModelStore, smollm2_dir: Path) -> Path:
    """The directory of the drafter bundle that the demo uses."""
    request = ExportRequest(model="smollm2-135m", quantisation="int8")
    return export(request, model_store, SilentProgress())


@pytest.fixture(scope="session")
def int4_bundle_dir(model_store: ModelStore, smollm2_dir: Path) -> Path:
    """The directory of the smallest drafter bundle, in today's format."""
    name = f"smollm2-135m-int4-format{FORMAT_VERSION}"
    request = ExportRequest(model="smollm2-135m", quantisation="int4", name=name)
    return export(request, model_store, SilentProgress())


@pytest.fixture(scope="session")
def verifier_address(smollm2_dir: Path) -> Iterator[str]:
    """A verifier with the real model, in a process of its own."""
    with running_verifier([sys.executable, "-m", "outrider"], smollm2_dir) as address:
        yield address
