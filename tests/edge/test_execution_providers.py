"""Execution providers: what is wanted, what is there, what is used."""

from pathlib import Path

import onnxruntime
import pytest

from outrider_common.errors import ModelFileError
from outrider_edge.execution_providers import AUTO, CPU, open_session

FAST = "FastExecutionProvider"


class FakeSession:
    """Loads any graph, except with providers that fail."""

    failing: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def __init__(self, file: str, options: object, providers: list[str]) -> None:
        if set(providers) & set(self.failing):
            raise RuntimeError("no such device")
        self.wanted = providers

    def get_providers(self) -> list[str]:
        return [name for name in self.wanted if name not in self.silent]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """An ONNX Runtime with a fast provider, which may refuse to work."""
    session = type("Session", (FakeSession,), {})
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [FAST, CPU])
    return session


def used(*wanted: str) -> list[str]:
    session = open_session(Path("model.onnx"), onnxruntime.SessionOptions(), wanted)
    names: list[str] = session.get_providers()
    return names


def reason(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = caplog.records
    assert record.message == "provider_unavailable"
    sentence: str = record.fields["reason"]  # type: ignore[attr-defined]
    return sentence


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("wanted", [(AUTO,), (CPU,), (CPU, AUTO)])
def test_the_cpu_is_used_unless_more_is_wanted(
    wanted: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert used(*wanted) == [CPU]
    assert not caplog.records


@pytest.mark.usefixtures("runtime")
def test_the_cpu_comes_after_what_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    assert used(FAST) == used(CPU, FAST) == [FAST, CPU]
    assert not caplog.records


@pytest.mark.usefixtures("runtime")
def test_a_provider_that_was_not_built_in_is_named_with_those_that_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert used("MagicExecutionProvider", FAST) == [FAST, CPU]
    assert reason(caplog) == (
        "The drafter runs without MagicExecutionProvider. "
        f"This ONNX Runtime has {FAST}, {CPU}: choose one of these."
    )


def test_a_provider_that_fails_gives_way_to_the_cpu(
    runtime: type[FakeSession], caplog: pytest.LogCaptureFixture
) -> None:
    runtime.failing = (FAST,)
    assert used(FAST) == [CPU]
    assert "without FastExecutionProvider" in reason(caplog)
    assert "no such device" in reason(caplog)


def test_a_provider_that_ort_drops_without_a_word_is_named(
    runtime: type[FakeSession], caplog: pytest.LogCaptureFixture
) -> None:
    runtime.silent = (FAST,)
    assert used(FAST) == [CPU]
    assert "could not start it" in reason(caplog)


def test_a_graph_that_nothing_can_load_is_an_error(runtime: type[FakeSession]) -> None:
    runtime.failing = (FAST, CPU)
    with pytest.raises(ModelFileError, match=r"cannot load model\.onnx"):
        used(FAST)
