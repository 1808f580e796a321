"""Who gets how many rows of the next pass, and what is offered to edges.

Examples, properties of single passes, and random histories of sessions that come, wait, prefill,
decode and go.
"""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from outrider_cloud.node_value import NodeValue
from outrider_cloud.pass_cost import PassCost
from outrider_cloud.scheduler import (
    PREFILL_SHARE_DIVISOR,
    Grant,
    Load,
    Offer,
    PackingLimits,
    PackingScheduler,
    PassOutcome,
    Schedule,
    Scheduler,
    SchedulingPolicy,
    TurnScheduler,
)
from outrider_common.errors import ConfigError

MakeScheduler = Callable[[], Scheduler]
MAX_WAIT_S = 0.05


def decoding(key: Hashable, num_nodes: int = 0, tenant: Hashable = "") -> Load:
    """A session with so many draft nodes that are all but certain."""
    return Load(key, 1, (0.99,) * num_nodes, tenant)


def prefilling(key: Hashable, num_tokens: int, tenant: Hashable = "") -> Load:
    """A session with so many uncached tokens before its frontier."""
    return Load(key, num_tokens + 1, tenant=tenant)


def hopeful(key: Hashable, waiting_s: float = 0.0) -> Load:
    """A session without drafts whose edge is drafting."""
    return Load(key, 1, waiting_s=waiting_s, expects_drafts=True)


def limits(rows: int, max_nodes: int = 8, chunk: int = 256) -> PackingLimits:
    return PackingLimits(rows, max_nodes, chunk, max_credit=16, max_draft_wait_s=MAX_WAIT_S)


def packing(rows: int, max_nodes: int = 8, chunk: int = 256) -> PackingScheduler:
    return PackingScheduler(limits(rows, max_nodes, chunk))


def waiting_for_drafts(rows: int) -> PackingScheduler:
    return PackingScheduler(limits(rows), SchedulingPolicy.THROUGHPUT)


def linear_cost(fixed_s: float, row_s: float) -> PassCost:
    """What has been learnt from many passes of that cost."""
    cost = PassCost()
    for number in range(400):
        num_rows = 1 + 7 * number % 64
        cost.observe(num_rows, fixed_s + row_s * num_rows)
    return cost


def at_price_of_a_half(scheduler: PackingScheduler) -> PackingScheduler:
    """Passes were observed in which half of the time went into rows, all of which committed."""
    for number in range(400):
        num_rows = 1 + 7 * number % 64
        scheduler.observe(PassOutcome(num_rows, 0, 0.032 + 0.002 * num_rows))
    scheduler.observe(PassOutcome(16, 16, 0.064))
    assert scheduler.offer.price == pytest.approx(0.5, abs=0.05)
    return scheduler


def coins(random_: random.Random, chance: float, number: int) -> Iterator[bool]:
    return (random_.random() < chance for _ in range(number))


def num_rows(grant: Grant) -> int:
    return grant.prefill_tokens or 1 + grant.max_nodes


def keys(schedule: Schedule) -> list[Hashable]:
    return [grant.key for grant in schedule.grants]


def by_key(schedule: Schedule) -> dict[Hashable, Grant]:
    return {grant.key: grant for grant in schedule.grants}


def ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


any_load = st.builds(
    Load,
    key=st.none(),
    num_uncached=st.just(1) | st.integers(2, 40),
    node_values=st.lists(st.floats(0, 1), max_size=12),
    tenant=st.integers(0, 3),
    waiting_s=st.floats(0, 0.1),
    expects_drafts=st.booleans(),
)
many_loads = st.lists(any_load, max_size=12).map(
    lambda loads: [replace(load, key=key) for key, load in enumerate(loads)]
)

packing_limits = st.builds(
    limits, rows=st.integers(1, 48), max_nodes=st.integers(0, 8), chunk=st.integers(1, 24)
)

any_scheduler = st.one_of(
    st.tuples(packing_limits, st.sampled_from(SchedulingPolicy)).map(
        lambda arguments: lambda: PackingScheduler(*arguments)
    ),
    st.tuples(st.integers(0, 8), st.integers(1, 24)).map(
        lambda arguments: lambda: TurnScheduler(*arguments)
    ),
)


# Both schedulers


@given(any_scheduler, st.lists(many_loads, max_size=6))
def test_a_session_gets_at_most_one_grant_and_never_more_than_it_can_use(
    make: MakeScheduler, passes: list[list[Load]]
) -> None:
    scheduler = make()
    for loads in passes:
        schedule = scheduler.schedule(loads)
        granted = by_key(schedule)
        assert keys(schedule) == [load.key for load in loads if load.key in granted]
        for load in loads:
            if grant := granted.get(load.key):
                assert bool(grant.prefill_tokens) == (load.num_uncached > 1)
                assert 0 <= grant.prefill_tokens <= load.num_uncached - 1
                most_nodes = 0 if grant.prefill_tokens else len(load.node_values)
                assert 0 <= grant.max_nodes <= most_nodes


@given(any_scheduler, st.lists(many_loads, max_size=6))
def test_a_pass_is_empty_only_if_nobody_is_there_or_all_wait_for_drafts(
    make: MakeScheduler, passes: list[list[Load]]
) -> None:
    scheduler = make()
    for loads in passes:
        schedule = scheduler.schedule(loads)
        if not schedule.grants and loads:
            due = [MAX_WAIT_S - load.waiting_s for load in loads]
            assert schedule.wait_s == min(due) > 0
            assert all(load.num_uncached == 1 and load.expects_drafts for load in loads)
        else:
            assert schedule.wait_s is None


@given(any_scheduler, st.lists(many_loads, max_size=6))
def test_the_same_history_yields_the_same_grants(
    make: MakeScheduler, passes: list[list[Load]]
) -> None:
    one, other = make(), make()
    for loads in passes:
        assert one.schedule(loads) == other.schedule(loads)


# In turn


def test_in_turn_means_one_session_a_pass_and_round_again() -> None:
    scheduler = TurnScheduler(max_nodes=4, prefill_chunk_tokens=10)
    loads = [decoding("a", 9), prefilling("b", 25), decoding("c", 2)]
    grants = [scheduler.schedule(loads).grants for _ in range(4)]
    assert grants == [
        [Grant("a", 0, 4)],
        [Grant("b", 10, 0)],
        [Grant("c", 0, 2)],
        [Grant("a", 0, 4)],
    ]


def test_a_departure_does_not_cost_the_next_session_its_turn() -> None:
    scheduler = TurnScheduler(max_nodes=0, prefill_chunk_tokens=1)
    a, b, c = (decoding(key) for key in "abc")
    assert keys(scheduler.schedule([a, b, c])) == ["a"]
    assert keys(scheduler.schedule([b, c])) == ["b"]
    assert keys(scheduler.schedule([c])) == ["c"]


def test_a_newcomer_waits_behind_those_who_are_there() -> None:
    scheduler = TurnScheduler(max_nodes=0, prefill_chunk_tokens=1)
    a, b, c = (decoding(key) for key in "abc")
    assert keys(scheduler.schedule([a, b])) == ["a"]
    assert [keys(scheduler.schedule([a, b, c])) for _ in range(4)] == [["b"], ["a"], ["c"], ["b"]]


def test_the_reference_offers_the_same_whatever_passes_cost() -> None:
    scheduler = TurnScheduler(4, 10, max_credit=7)
    scheduler.observe(PassOutcome(1, 1, 0.1))
    assert scheduler.offer == Offer(7, 0.0)
    assert TurnScheduler(4, 10).offer.credit == 4


# Packing: examples


def test_everybody_gets_all_they_want_where_the_budget_allows() -> None:
    loads = [decoding("a", 3), prefilling("b", 100), decoding("c", 20)]
    assert packing(rows=200).schedule(loads).grants == [
        Grant("a", 0, 3),
        Grant("b", 100, 0),
        Grant("c", 0, 8),
    ]


def test_frontier_rows_come_before_draft_rows() -> None:
    loads = [decoding(key, 5) for key in "abc"]
    assert packing(rows=3).schedule(loads).grants == [Grant(key, 0, 0) for key in "abc"]


def test_frontiers_that_do_not_fit_go_first_in_the_next_pass() -> None:
    scheduler = packing(rows=2)
    loads = [decoding(key) for key in "abc"]
    passes = [keys(scheduler.schedule(loads)) for _ in range(3)]
    assert passes == [["a", "b"], ["a", "c"], ["b", "c"]]


def test_a_modest_want_is_filled_before_a_large_one_is_topped_up() -> None:
    loads = [decoding("a", 8), decoding("b", 1), decoding("c", 8)]
    grants = packing(rows=3 + 7).schedule(loads).grants
    assert [grant.max_nodes for grant in grants] == [3, 1, 3]


def test_an_odd_draft_row_goes_round() -> None:
    scheduler = packing(rows=4)
    loads = [decoding(key, 5) for key in "abc"]
    passes = [[grant.max_nodes for grant in scheduler.schedule(loads).grants] for _ in range(4)]
    assert passes == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_who_has_no_drafts_for_one_pass_keeps_its_place_for_the_odd_row() -> None:
    scheduler = packing(rows=4)
    a, b, c = (decoding(key, 5) for key in "abc")
    scheduler.schedule([a, b, c])
    assert scheduler.schedule([a, decoding("b"), c]).grants[2].max_nodes == 1
    assert scheduler.schedule([a, b, c]).grants[1].max_nodes == 1


def test_prefill_keeps_a_quarter_of_the_rows_however_many_frontiers_there_are() -> None:
    loads = [*(decoding(key, 8) for key in range(20)), prefilling("e", 1000)]
    grants = by_key(packing(rows=16).schedule(loads))
    assert grants.pop("e").prefill_tokens == 4
    assert [grant.max_nodes for grant in grants.values()] == [0] * 12


def test_drafts_are_refused_before_prefill() -> None:
    loads = [*(decoding(key, 8) for key in "abcd"), prefilling("e", 10)]
    nodes = [grant.max_nodes for grant in packing(rows=16).schedule(loads).grants]
    assert sorted(nodes[:4]) == [0, 0, 1, 1]


def test_decoding_uses_what_prefill_cannot() -> None:
    loads = [decoding("a", 8), decoding("b", 8), prefilling("c", 1)]
    assert [num_rows(grant) for grant in packing(rows=16).schedule(loads).grants] == [8, 7, 1]


def test_prompts_share_their_rows_and_a_short_one_does_not_wait_for_long_ones() -> None:
    loads = [prefilling("a", 100), prefilling("b", 5), prefilling("c", 100), prefilling("d", 9)]
    assert packing(rows=40, chunk=20).schedule(loads).grants == [
        Grant("a", 13, 0),
        Grant("b", 5, 0),
        Grant("c", 13, 0),
        Grant("d", 9, 0),
    ]


def test_with_one_row_a_pass_prefill_gets_every_fourth() -> None:
    scheduler = packing(rows=1)
    loads = [decoding("a"), prefilling("b", 100)]
    assert [keys(scheduler.schedule(loads))[0] for _ in range(8)] == [*"aaab", *"aaab"]


# Packing: tenants


def test_a_tenant_with_a_thousand_sessions_leaves_a_single_session_its_rows() -> None:
    crowd = [decoding(number, 4, "crowd") for number in range(1000)]
    grants = by_key(packing(rows=32).schedule([*crowd, decoding("single", 4, "single")]))
    assert "single" in grants
    assert len(grants) == 32


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 20))
def test_a_single_session_runs_in_every_pass_that_has_a_row_for_each_tenant(
    rows: int, num_crowd: int, num_passes: int
) -> None:
    scheduler = packing(rows)
    loads = [*(decoding(key, 2, "crowd") for key in range(num_crowd)), decoding("single")]
    loads[-1] = replace(loads[-1], tenant="single")
    served = sum("single" in keys(scheduler.schedule(loads)) for _ in range(num_passes))
    assert served >= (num_passes if rows > 1 else num_passes // 2)


def test_tenants_share_prefill_and_drafts_too() -> None:
    prompts = [prefilling(number, 50, "crowd") for number in range(9)]
    grants = packing(rows=40).schedule([*prompts, prefilling("single", 50, "single")]).grants
    assert grants[-1] == Grant("single", 20, 0)

    crowd = [decoding(number, 8, "crowd") for number in range(9)]
    grants = packing(rows=22).schedule([*crowd, decoding("single", 8, "single")]).grants
    assert grants[-1] == Grant("single", 0, 6)


# Packing: price, credit and time


@given(packing_limits, many_loads)
def test_only_nodes_worth_the_price_get_rows(limits: PackingLimits, loads: list[Load]) -> None:
    scheduler = at_price_of_a_half(PackingScheduler(limits))
    price = scheduler.offer.price
    grants = by_key(scheduler.schedule(loads))
    for load in loads:
        if grant := grants.get(load.key):
            assert all(value >= price for value in load.node_values[: grant.max_nodes])


def test_a_dear_pass_checks_the_likely_nodes_and_no_others() -> None:
    scheduler = at_price_of_a_half(packing(rows=16))
    loads = [Load("a", 1, (0.9, 0.7, 0.4, 0.3)), Load("b", 1, (0.3, 0.2))]
    assert scheduler.schedule(loads).grants == [Grant("a", 0, 2), Grant("b", 0, 0)]


def test_a_flat_pass_checks_all_that_fit() -> None:
    scheduler = packing(rows=64)
    for number in range(100):
        scheduler.observe(PassOutcome(1 + 7 * number % 64, 1, 0.05))
    assert scheduler.schedule([Load("a", 1, (0.9, 0.5, 0.01))]).grants == [Grant("a", 0, 3)]


@pytest.mark.parametrize("num_sessions", [1, 4, 16])
@pytest.mark.parametrize(("acceptance", "least_gain"), [(0.0, 0.9), (0.3, 0.9), (0.9, 1.3)])
def test_drafting_at_the_price_loses_little_and_wins_much(
    num_sessions: int, acceptance: float, least_gain: float
) -> None:
    # Chains of 4 are always there, so all passes are alike until the price refuses some.
    random_, fixed_s, row_s = random.Random(5), 0.028, 0.0015
    scheduler = packing(rows=128)
    values = [NodeValue() for _ in range(num_sessions)]
    num_tokens, seconds = 0, 0.0
    for _ in range(1500):
        loads = [
            Load(key, 1, [value.acceptance**depth for depth in range(1, 5)])
            for key, value in enumerate(values)
        ]
        num_committed = 0
        grants = scheduler.schedule(loads).grants
        for value, grant in zip(values, grants, strict=True):
            accepted = list(takewhile(bool, coins(random_, acceptance, grant.max_nodes)))
            num_committed += 1 + len(accepted)
            if grant.max_nodes:
                value.observe(len(accepted), grant.max_nodes)
            else:
                value.rest()
        rows = sum(map(num_rows, grants))
        took = (fixed_s + row_s * rows) * random_.gauss(1, 0.03)
        scheduler.observe(PassOutcome(rows, num_committed, took))
        num_tokens += num_committed
        seconds += took
    undrafted = num_sessions / (fixed_s + row_s * num_sessions)
    assert num_tokens / seconds >= least_gain * undrafted


def test_an_experiment_without_drafts_is_rare() -> None:
    scheduler = waiting_for_drafts(rows=64)
    loads = [replace(decoding("a", 8), expects_drafts=True)]  # which it does not wait for then
    num_experiments = 0
    for _ in range(640):
        (grant,) = scheduler.schedule(loads).grants
        num_experiments += not grant.max_nodes
        scheduler.observe(PassOutcome(num_rows(grant), num_rows(grant), 0.05))
    assert 1 <= num_experiments <= 10


def test_the_credit_shrinks_as_sessions_come_and_is_gone_when_frontiers_fill_the_pass() -> None:
    scheduler = packing(rows=16)
    offered = []
    for num_sessions in (0, 1, 2, 4, 8, 12, 15, 16, 40):
        scheduler.schedule([decoding(key) for key in range(num_sessions)])
        offered.append(scheduler.offer.credit)
    assert offered == [16, 16, 14, 6, 2, 1, 1, 0, 0]


@given(packing_limits, many_loads)
def test_an_offer_is_within_its_bounds(limits: PackingLimits, loads: list[Load]) -> None:
    scheduler = PackingScheduler(limits)
    scheduler.schedule(loads)
    scheduler.observe(PassOutcome(8, 4, 0.01))
    scheduler.observe(PassOutcome(64, 60, 0.08))
    assert 0 <= scheduler.offer.credit <= limits.max_credit
    assert 0 <= scheduler.offer.price <= 1


def test_nothing_may_be_outstanding_when_no_node_can_be_worth_its_row() -> None:
    scheduler = packing(rows=64)
    scheduler.observe(PassOutcome(1, 0, 1e-9))
    for number in range(400):
        scheduler.observe(PassOutcome(1 + number % 64, 0, 0.002 * (1 + number % 64)))
    scheduler.observe(PassOutcome(16, 64, 0.032))
    assert scheduler.offer == Offer(0, 1.0)


def test_a_long_prompt_does_not_make_passes_too_long_for_those_who_decode() -> None:
    bounded = replace(limits(64), max_pass_s=0.100)  # 40 rows at 20 ms + 2 ms a row
    scheduler = PackingScheduler(bounded, cost=linear_cost(0.020, 0.002))
    prompt = prefilling("p", 1000)
    granted = by_key(scheduler.schedule([*(decoding(key, 2) for key in "abc"), prompt]))
    assert granted["p"].prefill_tokens == pytest.approx(40 - 9, abs=1)
    assert [granted[key].max_nodes for key in "abc"] == [2, 2, 2]
    assert by_key(scheduler.schedule([prompt]))["p"].prefill_tokens == 64


@given(packing_limits, many_loads, st.floats(0, 0.3))
def test_prefill_makes_no_pass_longer_than_allowed_but_has_its_quarter(
    base: PackingLimits, loads: list[Load], max_pass_s: float
) -> None:
    cost = linear_cost(0.020, 0.002)
    scheduler = PackingScheduler(replace(base, max_pass_s=max_pass_s), cost=cost)
    grants = scheduler.schedule(loads).grants
    wanted = sum(min(load.num_uncached - 1, base.prefill_chunk_tokens) for load in loads)
    prefilled = sum(grant.prefill_tokens for grant in grants)
    quarter = min(wanted, base.rows_per_pass // PREFILL_SHARE_DIVISOR)
    assert prefilled >= quarter
    if prefilled > quarter and any(load.num_uncached == 1 for load in loads):
        assert cost.seconds(sum(map(num_rows, grants))) <= max_pass_s + 1e-9


# Packing: waiting for drafts


def test_for_latency_a_session_is_decoded_at_once() -> None:
    assert packing(rows=4).schedule([hopeful("a")]).grants == [Grant("a", 0, 0)]


def test_for_throughput_it_waits_for_drafts_until_it_has_waited_long_enough() -> None:
    scheduler = waiting_for_drafts(rows=8)
    waiting = scheduler.schedule([hopeful("a", 0.01), hopeful("b", 0.03)])
    assert waiting.grants == []
    assert waiting.wait_s == pytest.approx(0.02)
    assert keys(scheduler.schedule([hopeful("a", 0.03), hopeful("b", 0.05)])) == ["b"]


def test_who_has_a_worthy_node_or_expects_none_does_not_wait() -> None:
    loads = [decoding("a", 1), decoding("b"), hopeful("c"), prefilling("d", 2)]
    assert keys(waiting_for_drafts(rows=8).schedule(loads)) == ["a", "b", "d"]


def test_a_node_that_is_not_worth_its_row_does_not_end_the_wait() -> None:
    scheduler = at_price_of_a_half(waiting_for_drafts(rows=8))
    load = Load("a", 1, (0.2,), expects_drafts=True)
    assert scheduler.schedule([load]) == Schedule([], MAX_WAIT_S)


@pytest.mark.parametrize(
    "make",
    [
        lambda: packing(8),
        lambda: waiting_for_drafts(8),
        lambda: TurnScheduler(max_nodes=4, prefill_chunk_tokens=16),
    ],
    ids=["latency", "throughput", "turn"],
)
def test_who_holds_off_is_passed_over_and_looked_at_again_in_time(make: MakeScheduler) -> None:
    holding = Load("a", 1, holds_off_s=7.0)
    assert make().schedule([holding]) == Schedule([], wait_s=7.0)
    assert keys(make().schedule([holding, decoding("b")])) == ["b"]


def test_nobody_waits_for_drafts_that_may_not_be_sent() -> None:
    loads = [hopeful(key) for key in "abcd"]
    assert len(waiting_for_drafts(rows=4).schedule(loads).grants) == 4


# Packing: any single pass


@given(packing_limits, many_loads)
def test_a_pass_computes_all_that_is_wanted_or_as_much_as_fits(
    limits: PackingLimits, loads: list[Load]
) -> None:
    wanted = sum(
        min(load.num_uncached - 1, limits.prefill_chunk_tokens)
        if load.num_uncached > 1
        else 1 + min(len(load.node_values), limits.max_nodes_per_session)
        for load in loads
    )
    grants = PackingScheduler(limits).schedule(loads).grants
    assert sum(num_rows(grant) for grant in grants) == min(limits.rows_per_pass, wanted)


def is_fair(rows: Sequence[int], wants: Sequence[int]) -> bool:
    """Whether nobody has a second row more than one who wants more."""
    short = [got for got, want in zip(rows, wants, strict=True) if got < want]
    return max(rows, default=0) <= min(short, default=max(rows, default=0)) + 1


@given(packing_limits, many_loads)
def test_nobody_gets_a_second_helping_while_another_of_its_tenant_has_had_fewer(
    limits: PackingLimits, loads: list[Load]
) -> None:
    grants = by_key(PackingScheduler(limits).schedule(loads))
    served = sorted(
        (load for load in loads if load.key in grants), key=lambda load: str(load.tenant)
    )
    for _, group in groupby(served, key=lambda load: (load.tenant, load.num_uncached > 1)):
        own = list(group)
        chunks = [min(load.num_uncached - 1, limits.prefill_chunk_tokens) for load in own]
        assert is_fair([grants[load.key].prefill_tokens for load in own], chunks)
        nodes = [min(len(load.node_values), limits.max_nodes_per_session) for load in own]
        if not any(chunks):
            assert is_fair([grants[load.key].max_nodes for load in own], nodes)


@given(packing_limits, many_loads)
def test_nobody_checks_drafts_while_a_frontier_or_a_prompt_waits(
    limits: PackingLimits, loads: list[Load]
) -> None:
    grants = by_key(PackingScheduler(limits).schedule(loads))
    if any(grant.max_nodes for grant in grants.values()):
        assert len(grants) == len(loads)


@given(st.integers(1, 20), st.integers(0, 30), st.integers(1, 40))
def test_over_many_passes_prefill_gets_its_share_of_the_rows_and_frontiers_the_rest(
    rows: int, num_more: int, num_passes: int
) -> None:
    scheduler = packing(rows, max_nodes=rows, chunk=rows)
    loads = [*(decoding(key, rows) for key in range(rows + num_more)), prefilling("p", 10**6)]
    passes = [scheduler.schedule(loads).grants for _ in range(num_passes)]
    prefilled = sum(grant.prefill_tokens for grants in passes for grant in grants)
    assert prefilled == rows * num_passes // PREFILL_SHARE_DIVISOR


@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 40))
def test_equal_sessions_are_served_equally_often(
    rows: int, num_sessions: int, num_passes: int
) -> None:
    scheduler = packing(rows)
    loads = [decoding(key, 3) for key in range(num_sessions)]
    frontiers: Counter[Hashable] = Counter(dict.fromkeys(range(num_sessions), 0))
    for _ in range(num_passes):
        frontiers.update(keys(scheduler.schedule(loads)))
    assert max(frontiers.values()) - min(frontiers.values()) <= 1


# Histories


class Wait:
    """How long a session has waited, and beside how many others."""

    def __init__(self, num_of_tenant: int) -> None:
        self.num_of_tenant = num_of_tenant  # when it began to wait
        self.most_tenants = 0
        self.num_passes = 0


class Histories(RuleBasedStateMachine):
    """Sessions come, prefill, decode, and go; nobody waits longer than the scheduler promises."""

    def __init__(self) -> None:
        super().__init__()
        self.num_opened = 0
        self.loads: dict[Hashable, Load] = {}  # in the order of opening
        self.waits: dict[Hashable, Wait] = {}
        self.scheduler: Scheduler

    def bound(self, load: Load, wait: Wait) -> int:
        """Within how many passes a session that has waited like this must be granted."""
        raise NotImplementedError

    def check(self, schedule: Schedule) -> None:
        """What holds for every pass of this scheduler."""
        raise NotImplementedError

    @rule(
        num_uncached=st.just(1) | st.integers(2, 30),
        num_nodes=st.integers(0, 6),
        tenant=st.integers(0, 3),
    )
    def open(self, num_uncached: int, num_nodes: int, tenant: int) -> None:
        load = Load(self.num_opened, num_uncached, (0.9,) * num_nodes, tenant)
        self.loads[load.key] = load
        self.num_opened += 1

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.loads)))
        del self.loads[key]
        self.waits.pop(key, None)

    @precondition(lambda self: self.loads)
    @rule(data=st.data(), num_nodes=st.integers(0, 6))
    def draft(self, data: st.DataObject, num_nodes: int) -> None:
        key = data.draw(st.sampled_from(list(self.loads)))
        self.loads[key] = replace(self.loads[key], node_values=(0.9,) * num_nodes)

    @rule(num_passes=st.integers(1, 5))
    def run(self, num_passes: int) -> None:
        for _ in range(num_passes):
            self.count_a_pass()
            schedule = self.scheduler.schedule(list(self.loads.values()))
            self.check(schedule)
            self.compute(schedule.grants)

    def count_a_pass(self) -> None:
        for key, load in self.loads.items():
            alike = [
                other.tenant
                for other in self.loads.values()
                if (other.num_uncached > 1) == (load.num_uncached > 1)
            ]
            wait = self.waits.setdefault(key, Wait(alike.count(load.tenant)))
            wait.most_tenants = max(wait.most_tenants, len(set(alike)))
            wait.num_passes += 1

    def compute(self, grants: list[Grant]) -> None:
        waits: Mapping[Hashable, Wait] = dict(self.waits)
        for grant in grants:
            load = self.loads[grant.key]
            assert waits[grant.key].num_passes <= self.bound(load, waits[grant.key])
            self.loads[grant.key] = replace(
                load, num_uncached=load.num_uncached - grant.prefill_tokens
            )
            del self.waits[grant.key]
        for key, wait in self.waits.items():
            assert wait.num_passes < self.bound(self.loads[key], wait), f"{key} waits too long"


class TurnHistories(Histories):
    @initialize()
    def begin(self) -> None:
        self.scheduler = TurnScheduler(max_nodes=4, prefill_chunk_tokens=7)

    def bound(self, load: Load, wait: Wait) -> int:
        return self.num_opened

    def check(self, schedule: Schedule) -> None:
        assert len(schedule.grants) == min(1, len(self.loads))


class PackingHistories(Histories):
    @initialize(rows=st.integers(1, 20), max_nodes=st.integers(0, 4), chunk=st.integers(1, 12))
    def begin(self, rows: int, max_nodes: int, chunk: int) -> None:
        self.rows = rows
        bounded = replace(limits(rows, max_nodes, chunk), max_pass_s=0.05)
        self.scheduler = PackingScheduler(bounded, cost=linear_cost(0.02, 0.002))

    def bound(self, load: Load, wait: Wait) -> int:
        share = 1 if load.num_uncached > 1 else PREFILL_SHARE_DIVISOR - 1
        turns = wait.num_of_tenant * wait.most_tenants
        return ceil_div(PREFILL_SHARE_DIVISOR * turns, share * self.rows)

    def check(self, schedule: Schedule) -> None:
        assert sum(num_rows(grant) for grant in schedule.grants) <= self.rows


TestTurnHistories = TurnHistories.TestCase
TestPackingHistories = PackingHistories.TestCase
TestTurnHistories.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestPackingHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


# Arguments


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: limits(0), "rows_per_pass is 0"),
        (lambda: limits(1, -1), "max_nodes_per_session is -1"),
        (lambda: limits(1, 1, 0), "prefill_chunk_tokens is 0"),
        (lambda: PackingLimits(1, 1, 1, -1, 0.0), "max_credit is -1"),
        (lambda: PackingLimits(1, 1, 1, 1, -0.5), "max_draft_wait_s is -0.5"),
        (lambda: PackingLimits(1, 1, 1, 1, 0.0, float("nan")), "max_pass_s is nan"),
        (lambda: TurnScheduler(-1, 1), "max_nodes is -1"),
        (lambda: TurnScheduler(1, 0), "prefill_chunk_tokens is 0"),
        (lambda: TurnScheduler(1, 1, -1), "max_credit is -1"),
    ],
)
def test_an_argument_that_is_too_small_is_refused_by_name(
    make: Callable[[], object], name: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


def test_a_load_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="num_uncached is 0"):
        Load("a", 0)
    with pytest.raises(ValueError, match=r"a node value is 1\.5"):
        Load("a", 1, (0.5, 1.5))
    with pytest.raises(ValueError, match="waiting_s is -1"):
        Load("a", 1, waiting_s=-1)


CURVE = [(1, 0.021), (8, 0.023), (16, 0.035), (32, 0.056), (64, 0.1), (128, 0.2)]


@given(st.lists(st.floats(0.05, 0.99), min_size=1, max_size=20))
def test_with_a_measured_curve_the_drafts_that_are_checked_make_the_rate_the_largest(
    acceptances: list[float],
) -> None:
    cost = PassCost()
    cost.calibrate(CURVE)
    scheduler = PackingScheduler(PackingLimits(1000, 16, 64, 64, 0.0), cost=cost)
    loads = [
        Load(i, 1, tuple(a**depth for depth in range(1, 5))) for i, a in enumerate(acceptances)
    ]
    grants = scheduler.schedule(loads).grants

    def rate(numbers: list[int]) -> float:
        tokens = sum(1 + sum(load.node_values[:n]) for load, n in zip(loads, numbers, strict=True))
        return tokens / cost.seconds(len(loads) + sum(numbers))

    values = sorted(value for load in loads for value in load.node_values)
    candidates = [[sum(v >= least for v in load.node_values) for load in loads] for least in values]
    best = max(rate(numbers) for numbers in [*candidates, [0] * len(loads)])
    assert rate([grant.max_nodes for grant in grants]) >= 0.98 * best


def test_alone_on_a_flat_curve_every_draft_is_checked_and_the_price_is_low() -> None:
    cost = PassCost()
    cost.calibrate(CURVE)
    scheduler = PackingScheduler(PackingLimits(128, 16, 64, 64, 0.0), cost=cost)
    (grant,) = scheduler.schedule([Load("a", 1, (0.7, 0.49, 0.34, 0.24))]).grants
    assert grant.max_nodes == 4
    assert scheduler.offer.price < 0.05
    assert scheduler.offer.credit == 64


def test_in_a_crowd_on_a_steep_curve_doubtful_drafts_are_refused_and_the_price_is_high() -> None:
    cost = PassCost()
    cost.calibrate(CURVE)
    scheduler = PackingScheduler(PackingLimits(128, 16, 64, 64, 0.0), cost=cost)
    grants = scheduler.schedule([Load(i, 1, (0.5, 0.3)) for i in range(64)]).grants
    assert [grant.max_nodes for grant in grants] == [0] * 64
    assert scheduler.offer.price > 0.8
