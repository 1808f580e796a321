"""Several verifiers in memory: which is chosen, what becomes of one that fails, who is of use."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fake_link import FakeLink, FakeSession, an_info
from generating import ANSWER, Oracle, Silent, generate

from outrider_common.errors import (
    CapacityError,
    DrainingError,
    MismatchError,
    OutriderError,
    UnavailableError,
    UnknownModelError,
)
from outrider_common.messages import GoAway, ModelInfo, Occupancy, OpenSession, ServerEvent
from outrider_common.sampling import SamplingParams
from outrider_edge import verifier_pool
from outrider_edge.resuming import Patience
from outrider_edge.verifier_pool import VerifierPool

TEXT = "It rides ahead of the convoy and signals back."
SOON = Patience(open_s=0.3, resume_s=0.3, heartbeat_s=0)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Verifier(FakeLink):
    """One that can be made to fail, drain or be busy."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(ANSWER, self.session)
        self.info = replace(an_info(), **changes)
        self.error: OutriderError | None = None
        self.breaks_after: int | None = None
        self.breaks_with: OutriderError | GoAway = UnavailableError("it broke")
        self.is_closed = False
        self.num_probes = 0

    def session(
        self, message: OpenSession, text: Sequence[int], pause: asyncio.Event
    ) -> FakeSession:
        return _Session(message, text, pause, self)

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        self.num_probes += 1
        if self.error is not None:
            raise self.error
        return self.info

    async def close(self) -> None:
        self.is_closed = True


class _Session(FakeSession):
    def __init__(
        self, message: OpenSession, text: Sequence[int], pause: asyncio.Event, verifier: Verifier
    ) -> None:
        super().__init__(message, text, pause)
        self.verifier = verifier
        self.num_events = 0

    async def receive(self) -> ServerEvent | None:
        if self.verifier.error is not None:
            raise self.verifier.error
        self.num_events += 1
        if self.num_events == self.verifier.breaks_after:
            if isinstance(self.verifier.breaks_with, OutriderError):
                raise self.verifier.breaks_with
            return self.verifier.breaks_with
        return await super().receive()


def unfit(info: ModelInfo) -> str | None:
    return None if info.tokenizer_fingerprint == "v1:fake" else f"'{info.model}' does not fit."


async def a_pool(**verifiers: Verifier) -> VerifierPool:
    async def resolve() -> list[str]:
        return list(verifiers)

    pool = VerifierPool(resolve, verifiers.__getitem__, unfit)
    await pool.meet()
    return pool


def states(pool: VerifierPool) -> list[str]:
    return [report["state"] for report in pool.report()]


async def test_a_session_goes_to_the_best_one(executor: ThreadPoolExecutor) -> None:
    busy, idle = Verifier(occupancy=Occupancy(60, 8)), Verifier()
    pool = await a_pool(busy=busy, idle=idle)
    for _ in range(4):
        await generate(executor, pool.serving("fake"), Oracle())
    assert (len(busy.sessions), len(idle.sessions)) == (0, 4)


async def test_sessions_of_ones_own_count_until_the_verifier_counts_them() -> None:
    verifier = Verifier(occupancy=Occupancy(5, 0))
    pool = await a_pool(a=verifier)
    (member,) = pool.members
    streams = [await pool.serving("fake").open(an_open(), 4096) for _ in range(3)]
    assert member.choice.num_running == 8
    verifier.info = replace(verifier.info, occupancy=Occupancy(9, 1))
    await member.probe()
    assert (member.choice.num_running, member.choice.num_waiting) == (9, 1)
    for stream in streams:
        stream.close()
        stream.close()
    assert member.num_open == 0


async def test_what_it_says_of_its_passes_is_believed_before_what_was_seen_of_them() -> None:
    pool = await a_pool(silent=Verifier(), says=Verifier(occupancy=Occupancy(pass_us=20_000)))
    silent, says = pool.members
    assert silent.choice.pass_s is None
    for member in (silent, says):
        member.estimators.passed(0.5, 0.0, 1)
    assert (silent.choice.pass_s, says.choice.pass_s) == (0.5, 0.02)


def an_open() -> OpenSession:
    return OpenSession((1,), 1, 4, SamplingParams(), "v1:fake")


@pytest.mark.parametrize(
    ("how", "state"),
    [
        (UnavailableError("it broke"), "unreachable"),
        (OutriderError("it failed"), "unreachable"),
        (DrainingError("it ends", 9.0), "draining"),
        (GoAway("it ends", 9000), "draining"),
    ],
)
async def test_an_answer_goes_on_at_another_one(
    executor: ThreadPoolExecutor, how: OutriderError | GoAway, state: str
) -> None:
    near, far = Verifier(), Verifier(occupancy=Occupancy(0, 9))
    near.breaks_after, near.breaks_with = 5, how
    pool = await a_pool(near=near, far=far)
    result = await generate(executor, pool.serving("fake"), Silent(), patience=SOON)
    assert result.text == TEXT
    assert (len(near.sessions), len(far.sessions)) == (1, 1)
    assert result.stats.num_resumes == 1
    assert states(pool) == [state, "ready"]
    await generate(executor, pool.serving("fake"), Silent(), patience=SOON)
    assert len(near.sessions) == 1  # it is avoided


async def test_a_go_away_of_the_only_one_is_no_reason_to_leave(
    executor: ThreadPoolExecutor,
) -> None:
    only = Verifier()
    only.breaks_after, only.breaks_with = 5, GoAway("it ends", 9000)
    pool = await a_pool(only=only)
    result = await generate(executor, pool.serving("fake"), Silent(), patience=SOON)
    assert result.text == TEXT
    assert len(only.sessions) == 1


async def test_a_full_verifier_is_passed_over_by_a_new_request(
    executor: ThreadPoolExecutor,
) -> None:
    full, free = Verifier(), Verifier(occupancy=Occupancy(0, 9))
    pool = await a_pool(full=full, free=free)
    full.error = CapacityError("it is full", 30.0)
    assert (await generate(executor, pool.serving("fake"), Silent(), patience=SOON)).text == TEXT
    free.error = CapacityError("it is full, too", 30.0)
    with pytest.raises(CapacityError):
        await generate(executor, pool.serving("fake"), Silent(), patience=SOON)


async def test_one_that_is_back_is_used_again(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_pool, "PROBE_EVERY_S", 0.01)
    a, b = Verifier(), Verifier(occupancy=Occupancy(0, 9))
    pool = await a_pool(a=a, b=b)
    async with pool.kept():
        a.error = UnavailableError("gone")
        await until(lambda: states(pool) == ["unreachable", "ready"])
        a.error = None
        await until(lambda: states(pool) == ["ready", "ready"])
    await generate(executor, pool.serving("fake"), Silent())
    assert len(a.sessions) == 1


async def until(is_so: Any) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110  (what is waited for is no event)
            await asyncio.sleep(0.005)


async def test_a_single_verifier_is_not_asked_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifier_pool, "PROBE_EVERY_S", 0.001)
    only = Verifier()
    pool = await a_pool(only=only)
    async with pool.kept():
        await asyncio.sleep(0.05)
    assert only.num_probes == 1


async def test_what_a_name_stands_for_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier_pool, "PROBE_EVERY_S", 0.01)
    monkeypatch.setattr(verifier_pool, "RESOLVE_EVERY_S", 0.0)
    there = {"a": Verifier(), "b": Verifier()}

    async def resolve() -> list[str]:
        if not there:
            raise UnavailableError("the name server is away")
        return list(there)

    known = {**there, "c": Verifier()}
    pool = VerifierPool(resolve, known.__getitem__, unfit, is_dynamic=True)
    await pool.meet()
    stream = await next(m for m in pool.members if m.address == "a").open(an_open(), 4096)
    async with pool.kept():
        there["c"] = known["c"]
        del there["a"]
        await until(lambda: [member.address for member in pool.members] == ["b", "c"])
        await until(lambda: states(pool) == ["ready", "ready"])
        assert not known["a"].is_closed  # it still has a session
        stream.close()
        await until(lambda: known["a"].is_closed)
        there.clear()
        await asyncio.sleep(0.05)
        assert len(pool.members) == 2  # those that are known stay
    await pool.close()
    assert known["b"].is_closed


async def test_models_are_told_apart_by_name(executor: ThreadPoolExecutor) -> None:
    small, large = Verifier(), Verifier(model="large", vocab_size=300)
    pool = await a_pool(small=small, large=large)
    assert {name: info.vocab_size for name, info in pool.infos.items()} == {
        "fake": 256,
        "large": 300,
    }
    stream = await pool.serving("large").open(an_open(), 4096)
    stream.close()
    assert (len(small.sessions), len(large.sessions)) == (0, 1)
    with pytest.raises(UnknownModelError, match="'gone'"):
        await pool.serving("gone").open(an_open(), 4096)


async def test_one_that_does_not_fit_is_left_out_and_said() -> None:
    pool = await a_pool(good=Verifier(), other=Verifier(tokenizer_fingerprint="v1:x", model="x"))
    assert list(pool.infos) == ["fake"]
    assert pool.report()[1]["why"] == "'x' does not fit."


async def test_none_that_fits_is_one_sentence() -> None:
    with pytest.raises(MismatchError, match="'x' does not fit"):
        await a_pool(other=Verifier(tokenizer_fingerprint="v1:x", model="x"))


async def test_one_of_several_is_enough_to_begin_with() -> None:
    gone = Verifier()
    gone.error = UnavailableError("gone")
    pool = await a_pool(gone=gone, there=Verifier())
    assert states(pool) == ["unreachable", "ready"]


async def test_none_that_answers_is_one_sentence() -> None:
    gone = Verifier()
    gone.error = UnavailableError("It is gone.")
    with pytest.raises(UnavailableError, match=r"^It is gone\.$"):
        await a_pool(gone=gone)
    with pytest.raises(UnavailableError, match=r"None of 2 verifiers answers: It is gone\."):
        await a_pool(gone=gone, too=gone)


async def test_one_that_was_met_before_is_taken_for_the_same_until_it_answers() -> None:
    away = Verifier()
    away.error = UnavailableError("gone")
    links = {"a": away}

    async def resolve() -> list[str]:
        return list(links)

    pool = VerifierPool(resolve, links.__getitem__, unfit)
    with pytest.raises(UnavailableError):
        await pool.meet()
    before = replace(an_info(), max_positions=7)
    pool.presume(before)
    link = pool.serving("fake")
    assert pool.infos == {"fake": before}
    assert not link.has_alternative
    away.error = None
    assert await link.model_info() == an_info()
    assert pool.infos == {"fake": an_info()}
    assert link.has_alternative


async def test_readiness_is_that_of_any() -> None:
    a, b = Verifier(), Verifier()
    pool = await a_pool(a=a, b=b)
    a.error = UnavailableError("a is gone")
    assert (await pool.serving("fake").model_info()).model == "fake"
    b.error = UnavailableError("b is gone")
    with pytest.raises(UnavailableError, match="is gone"):
        await pool.serving("fake").model_info()


async def test_each_verifier_has_its_own_pace_and_all_have_one_drafter() -> None:
    pool = await a_pool(a=Verifier(), b=Verifier())
    first, second = (member.estimators for member in pool.members)
    first.passed(0.5, 0.0, 1)
    first.drafted(0.1, 1, 1)
    assert first is pool.estimators
    assert second.estimates().pass_s is None
    assert second.estimates().draft_s == 0.1
