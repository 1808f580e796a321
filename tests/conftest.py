"""Fixtures for all tests."""

import logging
from collections.abc import Iterator

import pytest

from outrider_common.log import OUR_LOGGERS


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
