"""What tenants use: sessions, openings and tokens, each up to what its tenant may have."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.authentication import Caller
from outrider_cloud.tenant_usage import TenantUsage
from outrider_cloud.tenants import Quotas
from outrider_common.errors import QuotaError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_caller(tenant: str = "acme", **quotas: float) -> Caller:
    return Caller(tenant, "", Quotas.model_validate(quotas))


def test_a_tenant_has_so_many_sessions_at_a_time() -> None:
    usage, caller = TenantUsage(), a_caller(max_sessions=2)
    with usage.session(caller):
        with usage.session(caller):
            with pytest.raises(QuotaError, match="all 2 sessions") as caught, usage.session(caller):
                pass
            assert caught.value.retry_after_s is not None
            with usage.session(a_caller("other", max_sessions=1)):
                pass
        with usage.session(caller):
            pass


def test_a_session_that_fails_gives_its_place_back() -> None:
    usage, caller = TenantUsage(), a_caller(max_sessions=1)
    for _ in range(3):
        with contextlib.suppress(ValueError), usage.session(caller):
            raise ValueError


def test_sessions_are_opened_no_faster_than_allowed() -> None:
    clock = Clock()
    usage, caller = TenantUsage(clock), a_caller(sessions_per_s=2)
    for _ in range(2):
        with usage.session(caller):
            pass
    with pytest.raises(QuotaError, match="2 sessions a second") as caught, usage.session(caller):
        pass
    assert caught.value.retry_after_s == 0.5
    clock.now += 0.5
    with usage.session(caller):
        pass


def test_another_rate_holds_from_the_next_session_on() -> None:
    usage = TenantUsage(Clock())
    slow, fast = a_caller(sessions_per_s=0.1), a_caller(sessions_per_s=5)
    with usage.session(slow):
        pass
    with pytest.raises(QuotaError), usage.session(slow):
        pass
    with usage.session(fast):
        pass


def test_who_is_turned_away_for_want_of_places_has_opened_nothing() -> None:
    usage, caller = TenantUsage(Clock()), a_caller(max_sessions=1, sessions_per_s=2)
    with usage.session(caller):
        for _ in range(5):
            with pytest.raises(QuotaError, match="all 1 sessions"), usage.session(caller):
                pass
    with usage.session(caller):
        pass


def test_a_session_larger_than_the_whole_quota_is_not_told_to_come_again() -> None:
    usage, caller = TenantUsage(), a_caller(max_held_tokens=100)
    with pytest.raises(QuotaError, match="max_tokens") as caught, usage.held(caller, 101):
        pass
    assert caught.value.retry_after_s is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 60), st.booleans()), max_size=40))
def test_tokens_that_sessions_may_hold_never_exceed_the_quota(
    events: list[tuple[str, int, bool]],
) -> None:
    usage, most = TenantUsage(), 100
    open_now: dict[str, list[tuple[int, contextlib.ExitStack]]] = {"a": [], "b": []}
    for tenant, size, opens in events:
        own = open_now[tenant]
        used = sum(one for one, _ in own)
        if not opens:
            if own:
                own.pop(0)[1].close()
            continue
        stack = contextlib.ExitStack()
        try:
            stack.enter_context(usage.held(a_caller(tenant, max_held_tokens=most), size))
        except QuotaError:
            assert used + size > most
        else:
            assert used + size <= most
            own.append((size, stack))
