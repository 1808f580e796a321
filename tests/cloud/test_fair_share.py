"""Who gets how many rows of a budget, at one level and at two."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.fair_share import MaxMinShare, TenantShare, Turns, water_level

any_wants = st.dictionaries(st.integers(0, 9), st.integers(0, 12), max_size=8)
any_budget = st.integers(0, 40)
IT = 99


def row_by_row(wants: Mapping[int, int], budget: int) -> list[int]:
    """The plain version: one row after the other to whoever has fewest and wants more."""
    shares = dict.fromkeys(wants, 0)
    for _ in range(min(budget, sum(wants.values()))):
        hungry = [key for key in wants if shares[key] < wants[key]]
        shares[min(hungry, key=shares.__getitem__)] += 1
    return sorted(shares.values())


# One level


@given(any_wants, any_budget)
def test_shares_are_what_giving_row_by_row_to_the_poorest_would_make_them(
    wants: dict[int, int], budget: int
) -> None:
    shares = MaxMinShare().share(wants, budget)
    assert shares.keys() == wants.keys()
    assert all(shares[key] <= want for key, want in wants.items())
    assert sorted(shares.values()) == row_by_row(wants, budget)


@given(any_wants, any_budget)
def test_the_level_fits_and_the_next_one_would_not(wants: dict[int, int], budget: int) -> None:
    level = water_level(wants.values(), budget)
    assert sum(min(want, level) for want in wants.values()) <= budget
    more = sum(min(want, level + 1) for want in wants.values())
    assert more > budget or level == max(wants.values(), default=0)


@given(st.lists(st.tuples(any_wants, st.integers(1, 5), any_budget), max_size=30))
def test_whoever_is_left_short_has_been_given_its_part_whoever_comes_and_goes(
    calls: list[tuple[dict[int, int], int, int]],
) -> None:
    share = MaxMinShare()
    most_present = num_given = budget_when_short = 0
    for others, want, budget in calls:
        wants = {**others, IT: want}
        rows = share.share(wants, budget)[IT]
        num_given += rows
        budget_when_short += budget if rows < want else 0
        most_present = max(most_present, len(wants))
        assert num_given >= budget_when_short // most_present


def test_odd_rows_go_round_and_whoever_wants_none_for_once_keeps_its_place() -> None:
    share = MaxMinShare()
    a, b, c = "abc"
    assert share.share({a: 5, b: 5, c: 5}, 4) == {a: 2, b: 1, c: 1}
    assert share.share({a: 5, b: 0, c: 5}, 3) == {a: 1, b: 0, c: 2}
    assert share.share({a: 5, b: 5, c: 5}, 4) == {a: 1, b: 2, c: 1}


def test_a_newcomer_takes_the_last_turn_and_so_does_one_that_returns() -> None:
    turns = Turns()
    turns.meet("ab")
    turns.meet("bca")
    assert turns.take(1, "abc") == ["a"]
    turns.meet("ac")
    turns.meet("abc")
    assert turns.take(3, "abc") == ["c", "a", "b"]


# Two levels


sessions_of_tenants = st.dictionaries(
    st.integers(0, 30), st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=20
)


@given(sessions_of_tenants, any_budget)
def test_tenants_share_the_budget_and_sessions_the_part_of_their_tenant(
    sessions: dict[int, tuple[int, int]], budget: int
) -> None:
    tenant_of = {key: tenant for key, (tenant, _) in sessions.items()}
    wants = {key: want for key, (_, want) in sessions.items()}
    shares = TenantShare().share(wants, tenant_of, budget)
    assert shares.keys() == wants.keys()

    totals: Counter[int] = Counter()
    parts: Counter[int] = Counter(dict.fromkeys(tenant_of.values(), 0))
    for key, tenant in tenant_of.items():
        totals[tenant] += wants[key]
        parts[tenant] += shares[key]
    assert sorted(parts.values()) == row_by_row({t: totals[t] for t in parts}, budget)
    for tenant, part in parts.items():
        own = {key: wants[key] for key in wants if tenant_of[key] == tenant}
        assert sorted(shares[key] for key in own) == row_by_row(own, part)


def test_a_thousand_sessions_get_no_more_than_one_that_wants_as_much() -> None:
    wants = {"single": 9} | {f"crowd {number}": 1 for number in range(1000)}
    tenant_of = {key: key.split()[0] for key in wants}
    shares = TenantShare().share(wants, tenant_of, 16)
    assert shares["single"] == 8
    assert sum(shares.values()) == 16


def test_the_sessions_of_a_tenant_take_turns_for_its_only_row() -> None:
    share = TenantShare()
    wants = dict.fromkeys("abc", 1)
    tenant_of = {"a": "one", "b": "one", "c": "other"}
    served = [
        {key for key, rows in share.share(wants, tenant_of, 2).items() if rows} for _ in range(3)
    ]
    assert served == [{"a", "c"}, {"b", "c"}, {"a", "c"}]
