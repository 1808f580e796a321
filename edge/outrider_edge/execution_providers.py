"""Where ONNX Runtime computes: the execution providers that are wanted, and those that are there.

A drafter that can only run on the CPU is slower, never wrong: whatever cannot be used is logged and
left out. Knows nothing of what the graph computes.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnxruntime

from outrider_common import log
from outrider_common.errors import ModelFileError

AUTO: Final = "auto"
"""In place of a provider's name: choose for me, which is the CPU today."""

CPU: Final = "CPUExecutionProvider"

_logger = logging.getLogger(__name__)


def open_session(
    graph_file: Path, options: onnxruntime.SessionOptions, wanted: Sequence[str]
) -> onnxruntime.InferenceSession:
    """Load a graph with the providers that are wanted as far as they can be used, else on the CPU.

    Args:
        graph_file: the graph.
        options: of the session.
        wanted: names of providers, the preferred one first, or `AUTO`. The CPU comes last in any
            case: it computes what no other does. For each one that cannot be used, an event
            `provider_unavailable` is logged.

    Raises:
        ModelFileError: ONNX Runtime cannot load the graph.
    """
    usable = _installed(wanted)
    try:
        session = _load(graph_file, options, usable)
    except ModelFileError as error:
        if usable == [CPU]:
            raise
        _warn(usable[:-1], f"With them it cannot load the graph: {error.__cause__}")
        return _load(graph_file, options, [CPU])
    silent = [name for name in usable if name not in session.get_providers()]
    if silent:
        _warn(silent, "ONNX Runtime could not start it: are the libraries that it needs there?")
    return session


def _installed(wanted: Sequence[str]) -> list[str]:
    """The wanted providers that this ONNX Runtime was built with, the CPU last."""
    there = onnxruntime.get_available_providers()
    missing = [name for name in wanted if name not in (AUTO, *there)]
    if missing:
        _warn(missing, f"This ONNX Runtime has {', '.join(there)}: choose one of these.")
    return [*(name for name in wanted if name in there and name != CPU), CPU]


def _load(
    graph_file: Path, options: onnxruntime.SessionOptions, providers: list[str]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(graph_file), options, providers=providers)
    except Exception as error:  # its exceptions have no common base but this one
        raise ModelFileError(
            f"ONNX Runtime cannot load {graph_file} "
            f"({str(error).strip().splitlines()[0]}): export the bundle again."
        ) from error


def _warn(providers: Sequence[str], why: str) -> None:
    log.event(
        _logger,
        "provider_unavailable",
        level=logging.WARNING,
        providers=",".join(providers),
        reason=f"The drafter runs without {', '.join(providers)}. {why}",
    )
