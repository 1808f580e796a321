"""Who gets how many rows of the next pass.

Examples, properties of single passes, and random histories of sessions that come, wait, prefill,
decode and go.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from outrider_cloud.scheduler import (
    PREFILL_SHARE_DIVISOR,
    Grant,
    Load,
    PackingScheduler,
    Scheduler,
    TurnScheduler,
)
from outrider_common.errors import ConfigError

MakeScheduler = Callable[[], Scheduler]


def decoding(key: Hashable, num_draft_nodes: int = 0) -> Load:
    return Load(key, 1, num_draft_nodes)


def prefilling(key: Hashable, num_tokens: int) -> Load:
    """A session with so many uncached tokens before its frontier."""
    return Load(key, num_tokens + 1, 0)


def packing(rows: int, max_nodes: int = 8, chunk: int = 256) -> PackingScheduler:
    return PackingScheduler(rows, max_nodes, chunk)


def num_rows(grant: Grant) -> int:
    return grant.prefill_tokens or 1 + grant.max_nodes


def keys(grants: Sequence[Grant]) -> list[Hashable]:
    return [grant.key for grant in grants]


def ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


many_loads = st.lists(
    st.tuples(st.integers(1, 1) | st.integers(2, 40), st.integers(0, 12)), max_size=12
).map(lambda drawn: [Load(key, *numbers) for key, numbers in enumerate(drawn)])

packing_arguments = st.tuples(st.integers(1, 48), st.integers(0, 8), st.integers(1, 24))

any_scheduler = st.one_of(
    packing_arguments.map(lambda arguments: lambda: PackingScheduler(*arguments)),
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
        grants = scheduler.schedule(loads)
        granted = {grant.key: grant for grant in grants}
        assert keys(grants) == [load.key for load in loads if load.key in granted]
        for load in loads:
            if grant := granted.get(load.key):
                assert bool(grant.prefill_tokens) == (load.num_uncached > 1)
                assert 0 <= grant.prefill_tokens <= load.num_uncached - 1
                most_nodes = 0 if grant.prefill_tokens else load.num_draft_nodes
                assert 0 <= grant.max_nodes <= most_nodes


@given(any_scheduler, st.lists(many_loads, max_size=6))
def test_a_pass_is_empty_only_if_nobody_is_there(
    make: MakeScheduler, passes: list[list[Load]]
) -> None:
    scheduler = make()
    for loads in passes:
        assert bool(scheduler.schedule(loads)) == bool(loads)


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
    grants = [scheduler.schedule(loads) for _ in range(4)]
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


# Packing: examples


def test_everybody_gets_all_they_want_where_the_budget_allows() -> None:
    loads = [decoding("a", 3), prefilling("b", 100), decoding("c", 20)]
    assert packing(rows=200).schedule(loads) == [
        Grant("a", 0, 3),
        Grant("b", 100, 0),
        Grant("c", 0, 8),
    ]


def test_frontier_rows_come_before_draft_rows() -> None:
    loads = [decoding(key, 5) for key in "abc"]
    assert packing(rows=3).schedule(loads) == [Grant(key, 0, 0) for key in "abc"]


def test_frontiers_that_do_not_fit_go_first_in_the_next_pass() -> None:
    scheduler = packing(rows=2)
    loads = [decoding(key) for key in "abc"]
    passes = [keys(scheduler.schedule(loads)) for _ in range(3)]
    assert passes == [["a", "b"], ["a", "c"], ["b", "c"]]


def test_a_modest_want_is_filled_before_a_large_one_is_topped_up() -> None:
    loads = [decoding("a", 8), decoding("b", 1), decoding("c", 8)]
    grants = packing(rows=3 + 7).schedule(loads)
    assert [grant.max_nodes for grant in grants] == [3, 1, 3]


def test_an_odd_draft_row_goes_round() -> None:
    scheduler = packing(rows=4)
    loads = [decoding(key, 5) for key in "abc"]
    passes = [[grant.max_nodes for grant in scheduler.schedule(loads)] for _ in range(4)]
    assert passes == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_who_has_no_drafts_for_one_pass_keeps_its_place_for_the_odd_row() -> None:
    scheduler = packing(rows=4)
    a, b, c = (decoding(key, 5) for key in "abc")
    scheduler.schedule([a, b, c])
    assert scheduler.schedule([a, decoding("b"), c])[2].max_nodes == 1
    assert scheduler.schedule([a, b, c])[1].max_nodes == 1


def test_prefill_keeps_a_quarter_of_the_rows_however_many_drafts_there_are() -> None:
    loads = [*(decoding(key, 8) for key in "abcd"), prefilling("e", 1000)]
    grants = packing(rows=16).schedule(loads)
    assert grants == [*(Grant(key, 0, 2) for key in "abcd"), Grant("e", 4, 0)]


def test_decoding_uses_what_prefill_cannot() -> None:
    loads = [decoding("a", 8), decoding("b", 8), prefilling("c", 1)]
    assert [num_rows(grant) for grant in packing(rows=16).schedule(loads)] == [8, 7, 1]


def test_prefill_goes_in_order_of_opening_chunk_by_chunk() -> None:
    loads = [prefilling("a", 100), prefilling("b", 5), prefilling("c", 100), prefilling("d", 9)]
    assert packing(rows=40, chunk=20).schedule(loads) == [
        Grant("a", 20, 0),
        Grant("b", 5, 0),
        Grant("c", 15, 0),
    ]


def test_with_one_row_a_pass_prefill_gets_every_fourth() -> None:
    scheduler = packing(rows=1)
    loads = [decoding("a"), prefilling("b", 100)]
    assert [keys(scheduler.schedule(loads))[0] for _ in range(8)] == [*"aaab", *"aaab"]


# Packing: any single pass


@given(packing_arguments, many_loads)
def test_a_pass_computes_all_that_is_wanted_or_as_much_as_fits(
    arguments: tuple[int, int, int], loads: list[Load]
) -> None:
    rows, max_nodes, chunk = arguments
    wanted = sum(
        min(load.num_uncached - 1, chunk)
        if load.num_uncached > 1
        else 1 + min(load.num_draft_nodes, max_nodes)
        for load in loads
    )
    grants = PackingScheduler(*arguments).schedule(loads)
    assert sum(num_rows(grant) for grant in grants) == min(rows, wanted)


@given(packing_arguments, many_loads)
def test_nobody_gets_a_second_helping_while_another_who_wants_one_has_had_fewer(
    arguments: tuple[int, int, int], loads: list[Load]
) -> None:
    _, max_nodes, _ = arguments
    wants = {load.key: min(load.num_draft_nodes, max_nodes) for load in loads}
    grants = [g for g in PackingScheduler(*arguments).schedule(loads) if not g.prefill_tokens]
    hungry = [grant.max_nodes for grant in grants if grant.max_nodes < wants[grant.key]]
    most = max((grant.max_nodes for grant in grants), default=0)
    assert most <= min(hungry, default=most) + 1


@given(packing_arguments, many_loads)
def test_nobody_checks_drafts_while_a_frontier_waits(
    arguments: tuple[int, int, int], loads: list[Load]
) -> None:
    grants = [g for g in PackingScheduler(*arguments).schedule(loads) if not g.prefill_tokens]
    num_decoding = sum(load.num_uncached == 1 for load in loads)
    assert len(grants) == num_decoding or not any(grant.max_nodes for grant in grants)


@given(packing_arguments, many_loads)
def test_a_later_prompt_gets_rows_only_when_earlier_ones_have_had_their_chunk(
    arguments: tuple[int, int, int], loads: list[Load]
) -> None:
    _, _, chunk = arguments
    grants = {grant.key: grant for grant in PackingScheduler(*arguments).schedule(loads)}
    prompts = [load for load in loads if load.num_uncached > 1]
    served = [load for load in prompts if load.key in grants]
    assert served == prompts[: len(served)]
    for load in served[:-1]:
        assert grants[load.key].prefill_tokens == min(load.num_uncached - 1, chunk)


@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 40))
def test_over_many_passes_prefill_gets_its_share_of_the_rows_and_decoding_the_rest(
    rows: int, num_decoding: int, num_passes: int
) -> None:
    scheduler = packing(rows, max_nodes=rows, chunk=rows)
    loads = [*(decoding(key, rows) for key in range(num_decoding)), prefilling("p", 10**6)]
    passes = [scheduler.schedule(loads) for _ in range(num_passes)]
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


class Histories(RuleBasedStateMachine):
    """Sessions come, prefill, decode, and go; nobody waits longer than the scheduler promises."""

    def __init__(self) -> None:
        super().__init__()
        self.num_opened = 0
        self.loads: dict[Hashable, Load] = {}  # in the order of opening
        self.passes_left: dict[Hashable, int] = {}  # within which a session must be granted
        self.scheduler: Scheduler

    def bound(self, key: Hashable) -> int:
        """Within how many passes a session that starts to wait now must be granted."""
        raise NotImplementedError

    def check(self, grants: list[Grant]) -> None:
        """What holds for every pass of this scheduler."""
        raise NotImplementedError

    @rule(num_uncached=st.just(1) | st.integers(2, 30), num_draft_nodes=st.integers(0, 6))
    def open(self, num_uncached: int, num_draft_nodes: int) -> None:
        self.loads[self.num_opened] = Load(self.num_opened, num_uncached, num_draft_nodes)
        self.num_opened += 1

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.loads)))
        del self.loads[key]
        self.passes_left.pop(key, None)

    @precondition(lambda self: self.loads)
    @rule(data=st.data(), num_draft_nodes=st.integers(0, 6))
    def draft(self, data: st.DataObject, num_draft_nodes: int) -> None:
        key = data.draw(st.sampled_from(list(self.loads)))
        self.loads[key] = Load(key, self.loads[key].num_uncached, num_draft_nodes)

    @rule(num_passes=st.integers(1, 5))
    def run(self, num_passes: int) -> None:
        for _ in range(num_passes):
            for key in self.loads.keys() - self.passes_left.keys():
                self.passes_left[key] = self.bound(key)
            grants = self.scheduler.schedule(list(self.loads.values()))
            self.check(grants)
            self.compute(grants)

    def compute(self, grants: list[Grant]) -> None:
        for grant in grants:
            load = self.loads[grant.key]
            num_uncached = load.num_uncached - grant.prefill_tokens
            self.loads[grant.key] = Load(load.key, num_uncached, load.num_draft_nodes)
            del self.passes_left[grant.key]
        for key in self.passes_left:
            self.passes_left[key] -= 1
            assert self.passes_left[key] > 0, f"session {key} has waited too long"


class TurnHistories(Histories):
    @initialize()
    def begin(self) -> None:
        self.scheduler = TurnScheduler(max_nodes=4, prefill_chunk_tokens=7)

    def bound(self, key: Hashable) -> int:
        return len(self.loads)

    def check(self, grants: list[Grant]) -> None:
        assert len(grants) == min(1, len(self.loads))


class PackingHistories(Histories):
    @initialize(rows=st.integers(1, 20), max_nodes=st.integers(0, 4), chunk=st.integers(1, 12))
    def begin(self, rows: int, max_nodes: int, chunk: int) -> None:
        self.rows = rows
        self.scheduler = PackingScheduler(rows, max_nodes, chunk)

    def bound(self, key: Hashable) -> int:
        if self.loads[key].num_uncached == 1:
            num_decoding = sum(load.num_uncached == 1 for load in self.loads.values())
            return ceil_div(4 * num_decoding, 3 * self.rows)
        earlier = takewhile(lambda load: load.key != key, self.loads.values())
        num_tokens_before = sum(load.num_uncached - 1 for load in earlier)
        return ceil_div(4 * (num_tokens_before + 1), self.rows)

    def check(self, grants: list[Grant]) -> None:
        assert sum(num_rows(grant) for grant in grants) <= self.rows


TestTurnHistories = TurnHistories.TestCase
TestPackingHistories = PackingHistories.TestCase
TestTurnHistories.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestPackingHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


# Arguments


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: PackingScheduler(0, 1, 1), "rows_per_pass is 0"),
        (lambda: PackingScheduler(1, -1, 1), "max_nodes_per_session is -1"),
        (lambda: PackingScheduler(1, 1, 0), "prefill_chunk_tokens is 0"),
        (lambda: TurnScheduler(-1, 1), "max_nodes is -1"),
        (lambda: TurnScheduler(1, 0), "prefill_chunk_tokens is 0"),
    ],
)
def test_an_argument_that_is_too_small_is_refused_by_name(make: MakeScheduler, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


def test_a_load_without_a_frontier_or_with_negative_nodes_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="num_uncached is 0"):
        Load("a", 0, 0)
    with pytest.raises(ValueError, match="num_draft_nodes is -1"):
        Load("a", 1, -1)
