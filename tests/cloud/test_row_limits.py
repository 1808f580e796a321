"""Rows a second of each tenant: what is over the limit waits, and nobody else does."""

from fake_target import FakeTarget, greedy_text
from hypothesis import given, settings
from hypothesis import strategies as st
from secured_verifier import OPEN, PROMPT, an_engine

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.row_limits import RowLimits
from outrider_common.messages import Commit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_has_used_up_its_rows_waits_until_one_has_come_back() -> None:
    clock = Clock()
    limits = RowLimits(clock)
    limits.limit("acme", 10.0)
    limits.charge("acme", 30)
    assert not limits.may_run("acme")
    assert limits.may_run("other")
    assert limits.soonest(["acme", "other"]) == 2.1
    assert limits.soonest(["acme"], 0.5) == 0.5
    assert limits.soonest(["other"]) is None
    clock.now += 2.1
    assert limits.may_run("acme")
    assert limits.soonest(["acme"]) is None


def test_a_limit_that_is_taken_away_holds_no_more() -> None:
    limits = RowLimits(Clock())
    limits.limit("acme", 1.0)
    limits.charge("acme", 1000)
    limits.limit("acme", 1.0)  # the same again is no new allowance
    assert not limits.may_run("acme")
    limits.limit("acme", None)
    assert limits.may_run("acme")


class Open:
    """A session that was opened, and what it has written."""

    def __init__(self, engine: BatchingEngine, tenant: str) -> None:
        self.tokens: list[int] = []
        engine.open(OPEN, self.receive, tenant)

    def receive(self, event: EngineEvent) -> None:
        assert isinstance(event, Commit)
        self.tokens += event.tokens


@settings(deadline=None, max_examples=30)
@given(
    rate=st.floats(0.5, 40.0),
    tenants=st.lists(st.sampled_from(["limited", "free"]), min_size=1, max_size=6),
    step_s=st.floats(0.01, 0.5),
)
def test_a_tenant_uses_no_more_rows_than_it_may_and_the_texts_stay_the_same(
    rate: float, tenants: list[str], step_s: float
) -> None:
    clock = Clock()
    engine = an_engine()
    engine.row_limits = RowLimits(clock)
    engine.row_limits.limit("limited", rate)
    charged = {"limited": 0, "free": 0}
    charge = engine.row_limits.charge

    def counting(tenant: str, num_rows: int) -> None:
        charged[tenant] += num_rows
        charge(tenant, num_rows)

    engine.row_limits.charge = counting  # type: ignore[method-assign]
    sessions = [Open(engine, tenant) for tenant in tenants]
    largest_pass = 32
    while engine.num_sessions:
        engine.step()
        assert charged["limited"] <= max(1.0, rate) + rate * clock.now + largest_pass
        clock.now += step_s
    text = greedy_text(PROMPT, OPEN.max_tokens, stop=())
    assert all(session.tokens == text for session in sessions)
    assert charged["free"] == 0 or "free" in tenants


def test_a_tenant_without_rows_holds_nobody_up() -> None:
    engine = an_engine()
    engine.row_limits = RowLimits(Clock())  # nothing ever comes back
    engine.row_limits.limit("limited", 1.0)
    limited, free = Open(engine, "limited"), Open(engine, "free")
    while engine.step():
        pass
    assert free.tokens == greedy_text(PROMPT, OPEN.max_tokens, stop=())
    assert len(limited.tokens) < OPEN.max_tokens
    assert engine.num_sessions == 1


def test_sessions_of_two_tenants_do_not_share_pages() -> None:
    """So that nobody can tell from the time of a first token what other tenants have asked."""
    prompt = tuple(i % 9 + 1 for i in range(40))
    rows = {}
    for tenants in (("a", "a"), ("a", "b")):
        target = FakeTarget()
        engine = an_engine(target=target)
        for tenant in tenants:
            message = OPEN.__class__(prompt, 40, 1, OPEN.sampling, "v1:fake", ignore_eos=True)
            engine.open(message, lambda _event: None, tenant)
            while engine.step():
                pass
        rows[tenants] = sum(target.num_rows)
    assert rows["a", "b"] == 2 * 40
    assert rows["a", "a"] < 2 * 40
