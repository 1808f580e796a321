"""`/status` of a daemon, and what `outrider edge status` makes of it."""

import io
import json
from typing import Any

import pytest
from api_client import CHAT, HI, a_serving
from fake_runtime import FakeRuntime
from http_daemon import a_daemon_client
from rich.console import Console

from outrider_common.errors import OutriderError, UnavailableError
from outrider_edge.serving import Serving
from outrider_edge.status_view import Json, ask_status, in_ms, table_of


async def asked(serving: Serving, *, answers: int = 0) -> Json:
    """The status after some answers."""
    async with a_daemon_client(serving) as client:
        for _ in range(answers):
            _ = [event async for event in client.stream(CHAT, HI | {"stream": True})]
        return await ask_status(client)


def shown(status: Json) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table_of(status))
    return out.getvalue()


async def test_a_daemon_that_is_ready_says_what_it_has_written() -> None:
    status = await asked(a_serving(FakeRuntime(), port=0), answers=2)
    assert status["state"] == "ready"
    assert status["total"]["num_answers"] == 2
    assert status["total"]["num_tokens"] == 30
    assert "0 running of 16, 2 complete" in shown(status)
    assert "30, 14 of them drafted" in shown(status)


async def test_no_word_of_prompts_or_answers_is_in_it() -> None:
    runtime = FakeRuntime(answer="Xylophone.")
    status = await asked(a_serving(runtime, port=0), answers=1)
    assert "Xylo" not in json.dumps(status)
    assert HI["messages"][0]["content"] not in json.dumps(status)


async def test_one_that_waits_says_for_what() -> None:
    status = await asked(a_serving(None, port=0))
    assert status["state"] == "waiting"
    assert "The daemon is starting; try again." in shown(status)


async def test_one_whose_verifier_has_gone_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime()

    async def gone() -> Any:
        raise UnavailableError("No verifier answers.")

    monkeypatch.setattr(runtime.link, "model_info", gone)
    status = await asked(a_serving(runtime, port=0))
    assert (status["state"], status["waiting_for"]) == ("waiting", "No verifier answers.")


async def test_one_that_is_stopping_says_so() -> None:
    serving = a_serving(FakeRuntime(), port=0)
    serving.is_stopping = True
    assert (await asked(serving))["state"] == "stopping"


@pytest.mark.parametrize("missing", ["up_since", "total", "state"])
async def test_a_status_of_another_release_is_a_sentence(missing: str) -> None:
    status = await asked(a_serving(FakeRuntime(), port=0))
    del status[missing]
    with pytest.raises(OutriderError, match=f"{missing}.*restart the daemon"):
        shown(status)


def test_estimates_are_not_shown_finer_than_they_are() -> None:
    assert (in_ms(0.0), in_ms(0.0004), in_ms(0.0123)) == ("below 1 ms", "below 1 ms", "12.3 ms")
