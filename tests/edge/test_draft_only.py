"""Unverified text over HTTP: it is marked, corrected where it was wrong, never the last word."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_client import CHAT, HI, a_client, a_serving, error_of, events_of, text_of, trace_of
from fake_link import FakeLink
from generating import ANSWER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weak_edge import TEXT, Absence, WeakLink, a_weak_edge, with_errors

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import UnavailableError
from outrider_edge import runtime as runtime_module
from outrider_edge.fleet.job_answer import answer as answer_job
from outrider_edge.journal.desk import AnswerDesk
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.offline import OfflineQueue
from outrider_edge.serving import Serving

FOR_EVER = 10**9
ASKED = HI | {"max_tokens": len(ANSWER)}
STREAM = ASKED | {"stream": True}
FOLLOWING = STREAM | {"outrider": {"corrections": True}}
KEY = {"Idempotency-Key": "4b1d"}
LOGPROBS = {"logprobs": True, "top_logprobs": 0}


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "ALONE_AFTER_S", 0.0)


def a_daemon(
    executor: ThreadPoolExecutor,
    link: FakeLink,
    drafted: Sequence[int] = ANSWER,
    verify_s: float = 30.0,
    timeout_s: float = 30.0,
) -> Serving:
    runtime = a_weak_edge(executor, link, drafted)
    serving = a_serving(runtime, offline="draft-only", offline_verify_s=verify_s)
    serving.offline = OfflineQueue(8, timeout_s, retry_s=0.001)
    return serving


async def ask(serving: Serving, body: dict[str, Any], **headers: str) -> httpx2.Response:
    async with a_client(serving) as client:
        return await client.post(CHAT, json=body, headers=headers)


@dataclass
class Follower:
    """A client that takes corrections."""

    text: str = ""
    num_sure: int = 0
    finish_reason: str = ""

    def follow(self, events: list[Any]) -> "Follower":
        for event in events[:-1]:
            ours = event.get("outrider", {})
            for choice in event["choices"]:
                assert ours.get("unverified", {}).get("from_character", len(self.text)) == len(
                    self.text
                )
                self.text += choice["delta"].get("content", "")
                self.num_sure = self.num_sure if "unverified" in ours else len(self.text)
                self.finish_reason = choice["finish_reason"] or self.finish_reason
            if "verified" in ours and isinstance(ours["verified"], dict):
                self.num_sure = ours["verified"]["until_character"]
            if correction := ours.get("correction"):
                self.text = self.text[: correction["from_character"]] + correction["text"]
                self.num_sure = len(self.text)
        return self


ABSENCES = st.lists(
    st.builds(Absence, after=st.integers(0, 9), num_asked=st.integers(1, 12)), max_size=3
)
WRONG = st.sets(st.integers(0, len(ANSWER) - 1), max_size=3)
ANY_HISTORY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)


@given(absences=ABSENCES, wrong=WRONG)
@ANY_HISTORY
async def test_whoever_takes_corrections_has_the_targets_text_in_the_end(
    executor: ThreadPoolExecutor, absences: list[Absence], wrong: set[int]
) -> None:
    serving = a_daemon(executor, WeakLink(absences), with_errors(sorted(wrong)))
    client = Follower().follow(events_of((await ask(serving, FOLLOWING)).text))
    assert (client.text, client.num_sure) == (TEXT, len(TEXT))
    assert client.finish_reason == "length"


@given(absences=ABSENCES, wrong=WRONG, verify_s=st.sampled_from([0.0, 30.0]))
@ANY_HISTORY
async def test_whoever_only_reads_text_and_reads_a_usual_end_has_the_targets_text(
    executor: ThreadPoolExecutor, absences: list[Absence], wrong: set[int], verify_s: float
) -> None:
    serving = a_daemon(executor, WeakLink(absences), with_errors(sorted(wrong)), verify_s)
    events = events_of((await ask(serving, STREAM)).text)
    if events[-1] != "[DONE]":
        assert events[-1]["error"]["code"] == "text_taken_back"
        assert TEXT.startswith(events[-1]["error"]["text_so_far"])
        return
    (reason,) = {c["finish_reason"] for e in events[:-1] for c in e["choices"]} - {None}
    assert (reason == "length") == events[-2]["outrider"]["verified"]
    if reason == "length":
        assert text_of(events) == TEXT
    else:
        assert reason == "unverified"


async def test_every_unverified_piece_says_so_and_where_it_begins(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(4, FOR_EVER)]), verify_s=0)
    body = STREAM | {"stream_options": {"include_usage": True}}
    events = events_of((await ask(serving, body)).text)
    marked = [e for e in events[:-1] if "unverified" in e.get("outrider", {})]
    unmarked = [e for e in events[:-1] if e not in marked]
    verified = text_of([*unmarked, "[DONE]"])
    assert text_of(events) == TEXT
    assert 0 < len(verified) < len(TEXT)
    assert marked[0]["outrider"]["unverified"]["from_character"] == len(verified)
    last = events[-2]
    assert last["outrider"]["verified"] is False
    (figures,) = last["outrider"]["choices"]
    assert figures["num_tokens"] == len(verified)
    assert figures["unverified"]["from_character"] == len(verified)
    assert figures["unverified"]["num_tokens"] == len(TEXT) - len(verified)
    assert last["usage"]["completion_tokens"] == len(TEXT)
    accepted = last["usage"]["completion_tokens_details"]["accepted_prediction_tokens"]
    assert accepted == figures["num_accepted_tokens"] <= len(verified)


async def test_a_whole_answer_that_nobody_has_verified_says_so(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]), verify_s=0)
    response = await ask(serving, ASKED)
    document = response.json()
    assert response.headers["x-outrider-verified"] == "false"
    assert document["choices"][0]["message"]["content"] == TEXT
    assert document["choices"][0]["finish_reason"] == "unverified"
    assert document["outrider"]["verified"] is False


async def test_a_whole_answer_is_the_targets_if_a_verifier_is_back_in_time(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, 200)]), with_errors([3]))
    response = await ask(serving, ASKED)
    document = response.json()
    assert "x-outrider-verified" not in response.headers
    assert document["choices"][0]["message"]["content"] == TEXT
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["outrider"]["verified"] is True


async def test_a_wrong_text_ends_in_an_error_for_who_takes_nothing_back(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, 200)]), with_errors([20]))
    events = events_of((await ask(serving, STREAM)).text)
    error = events[-1]["error"]
    assert error["code"] == "text_taken_back"
    assert "outrider.corrections" in error["message"]
    assert TEXT.startswith(error["text_so_far"])
    assert text_of(events).startswith(TEXT[:20] + "#")


async def test_others_wait_for_nobody(executor: ThreadPoolExecutor) -> None:
    """While one answer waits for a verifier, another begins, writes and ends."""
    serving = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]))
    waiting = asyncio.create_task(ask(serving, ASKED))
    while not serving.offline or not serving.offline.num_waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    serving.settings = serving.settings.model_copy(update={"offline_verify_s": 0.0})
    assert (await ask(serving, ASKED)).json()["outrider"]["verified"] is False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_who_wants_log_probabilities_waits_for_the_target(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]), verify_s=0, timeout_s=0.05)
    response = await ask(serving, ASKED | LOGPROBS)
    assert (response.status_code, error_of(response)["code"]) == (503, "verifier_unavailable")


async def test_corrections_are_for_streams(executor: ThreadPoolExecutor) -> None:
    serving = a_daemon(executor, FakeLink(ANSWER))
    response = await ask(serving, ASKED | {"outrider": {"corrections": True}})
    assert response.status_code == 400
    assert error_of(response)["param"] == "outrider.corrections"


async def test_who_watches_sees_each_token_twice(executor: ThreadPoolExecutor) -> None:
    """Once as it was drafted alone, and once as it is."""
    serving = a_daemon(executor, WeakLink([Absence(0, 200)]), with_errors([20]))
    body = STREAM | {"outrider": {"corrections": True, "trace": True}}
    trace = trace_of(events_of((await ask(serving, body)).text))
    alone = [event for event in trace if event["kind"] == "unverified"]
    final = [event for event in trace if event["kind"] == "token"]
    assert "".join(event["text"] for event in alone).startswith(TEXT[:20] + "#")
    assert "".join(event["text"] for event in final) == TEXT
    assert alone[0]["position"] == final[0]["position"]


def figure(serving: Serving, fate: str) -> float:
    name = f'outrider_edge_unverified_tokens_total{{fate="{fate}",model_name="fake"}} '
    (line,) = (one for one in serving.metrics.page().decode().splitlines() if one.startswith(name))
    return float(line.removeprefix(name))


async def test_what_becomes_of_unverified_tokens_is_counted(executor: ThreadPoolExecutor) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, 300)]), with_errors([20]))
    await ask(serving, ASKED)
    assert figure(serving, "confirmed") >= 20
    assert figure(serving, "refuted") >= len(TEXT) - 20
    assert figure(serving, "left") == 0


async def test_an_unverified_answer_counts_as_left_and_not_as_a_success(
    executor: ThreadPoolExecutor,
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]), verify_s=0)
    await ask(serving, ASKED)
    assert figure(serving, "left") == len(TEXT)
    assert "vllm:request_success_total{" not in serving.metrics.page().decode()
    assert serving.sums.num_answers == 0


async def test_a_job_waits_for_a_verifier(executor: ThreadPoolExecutor) -> None:
    link = WeakLink([Absence(0, FOR_EVER)])
    serving = a_daemon(executor, link, with_errors([3]), verify_s=0)
    job = pb.Job(job_id="one", prompt="Hi", max_tokens=len(ANSWER))
    with pytest.raises(UnavailableError, match="No verifier has seen"):
        await answer_job(serving, asyncio.Semaphore(1), job)
    link.num_refusals = 0
    assert (await answer_job(serving, asyncio.Semaphore(1), job)).text == TEXT


# With a journal: only what is verified is kept.


@asynccontextmanager
async def keeping(serving: Serving, directory: Path, linger_s: float = 30) -> AsyncIterator[Path]:
    """The daemon keeps a journal there, until it stops."""
    bounds = Bounds(max_answers=8, max_bytes=1 << 20, max_age_s=60)
    serving.answers = AnswerDesk(Journal(directory / "journal", bounds), linger_s)
    running = asyncio.create_task(serving.answers.run())
    try:
        yield directory / "journal"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def kept(journal: Path) -> bytes:
    (file,) = journal.glob("*.answer")
    return file.read_bytes()


async def test_who_asks_again_when_a_verifier_is_back_gets_the_verified_text(
    executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    link = WeakLink([Absence(4, FOR_EVER)])
    serving = a_daemon(executor, link, with_errors([30]), verify_s=0)
    async with keeping(serving, tmp_path):
        first = (await ask(serving, ASKED, **KEY)).json()
        link.num_refusals = 0
        second = (await ask(serving, ASKED, **KEY)).json()
        third = (await ask(serving, ASKED, **KEY)).json()
    assert "#" in first["choices"][0]["message"]["content"]
    assert first["choices"][0]["finish_reason"] == "unverified"
    assert second["choices"][0]["message"]["content"] == TEXT
    assert second["outrider"]["verified"] is True
    assert third == second
    assert (second["id"], second["outrider"]["seed"]) == (first["id"], first["outrider"]["seed"])


async def test_nothing_unverified_is_kept(executor: ThreadPoolExecutor, tmp_path: Path) -> None:
    serving = a_daemon(executor, WeakLink([Absence(4, FOR_EVER)]), verify_s=0)
    async with keeping(serving, tmp_path) as journal:
        events = events_of((await ask(serving, STREAM, **KEY)).text)
    num_verified = events[-2]["outrider"]["choices"][0]["num_tokens"]
    assert kept(journal).count(b'"kind":"token"') == num_verified > 0
    assert b'"kind":"ended"' not in kept(journal)


async def test_an_answer_whose_client_has_gone_is_corrected_and_kept(
    executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    link = WeakLink([Absence(0, FOR_EVER)])
    serving = a_daemon(executor, link, with_errors([7]))
    async with keeping(serving, tmp_path) as journal:
        asking = asyncio.create_task(ask(serving, ASKED, **KEY))
        while not serving.offline or not serving.offline.num_waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        link.num_refusals = 0
        while b'"kind":"ended"' not in kept(journal):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    serving = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]), verify_s=0)
    async with keeping(serving, tmp_path):
        again = (await ask(serving, ASKED, **KEY)).json()
    assert again["choices"][0]["message"]["content"] == TEXT
    assert again["outrider"]["verified"] is True


async def test_a_daemon_that_was_killed_offline_goes_on_behind_what_was_verified(
    executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    serving = a_daemon(executor, WeakLink([Absence(4, FOR_EVER)]), verify_s=0)
    async with keeping(serving, tmp_path):
        first = (await ask(serving, ASKED, **KEY)).json()
    another = a_daemon(executor, WeakLink([Absence(0, FOR_EVER)]), verify_s=0)
    async with keeping(another, tmp_path):
        second = (await ask(another, ASKED, **KEY)).json()
    assert second["choices"] == first["choices"]
    one, other = (said["outrider"]["choices"][0] for said in (first, second))
    assert one["unverified"] == other["unverified"]
    assert one["unverified"]["from_character"] > 0


async def test_who_joins_late_hears_of_nothing_that_was_taken_back(
    executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """A plain client that asks again while the answer is being corrected reads no error."""
    link = WeakLink([Absence(0, 200)])
    serving = a_daemon(executor, link, with_errors([7]))
    async with keeping(serving, tmp_path):
        first = events_of((await ask(serving, STREAM, **KEY)).text)
        second = events_of((await ask(serving, STREAM, **KEY)).text)
    assert first[-1]["error"]["code"] == "text_taken_back"
    assert second[-1] == "[DONE]"
    assert text_of(second) == TEXT
