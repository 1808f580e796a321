"""The synthetic target: the spec's text out of the pages, and the spec's time for a pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_cloud.choice import ArrayLogits, ChoicePoint
from outrider_cloud.paged_sequence import Move
from outrider_cloud.synthetic_target import PEAK, SyntheticLogits, SyntheticTarget
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_common.acceptance import AcceptanceMode, acceptance_rule
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import EOS, SyntheticSpec, next_token

SPEC = SyntheticSpec(vocab=50, c0_s=0, c1_s=0)
PAGE_TOKENS = 4


class Clock:
    """Time that passes only while somebody sleeps, or by `busy_s` between two looks."""

    def __init__(self, busy_s: float = 0.0) -> None:
        self.now = 100.0
        self.busy_s = busy_s
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        self.now += self.busy_s
        return self.now


def next_tokens(target: SyntheticTarget, segments: list[Segment]) -> list[int]:
    return [int(row.argmax()) for row in target.forward(segments).numpy()]


def paths(rows: Rows) -> list[list[int]]:
    """For each row the tokens from the cached text down to it."""
    found: list[list[int]] = []
    for token, parent in zip(rows.tokens, rows.parents, strict=True):
        found.append([*(found[parent] if parent != CACHED_TEXT else []), token])
    return found


@st.composite
def trees(draw: st.DrawFn) -> Rows:
    tokens = draw(st.lists(st.integers(0, 49), min_size=1, max_size=12))
    parents = [draw(st.integers(CACHED_TEXT, i - 1)) for i in range(len(tokens))]
    first = draw(st.integers(0, len(tokens)))
    return Rows(tuple(tokens), tuple(parents), first)


@settings(deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(0, 49), max_size=20), min_size=1, max_size=4),
    data=st.data(),
)
def test_each_row_is_followed_by_the_specs_next_token_of_its_own_path(
    texts: list[list[int]], data: st.DataObject
) -> None:
    target = SyntheticTarget(SPEC, num_pages=64, page_tokens=PAGE_TOKENS)
    pages = data.draw(st.permutations(range(64)))
    tables = [pages[16 * i : 16 * i + 16] for i in range(len(texts))]
    trees_ = [data.draw(trees()) for _ in texts]
    for text, table in zip(texts, tables, strict=True):
        if text:
            target.forward([Segment(table, 0, Rows.chain(text, first_logits_row=len(text)))])
    segments = [
        Segment(table, len(text), tree)
        for text, table, tree in zip(texts, tables, trees_, strict=True)
    ]
    assert next_tokens(target, segments) == [
        next_token(SPEC, [*text, *path])
        for text, tree in zip(texts, trees_, strict=True)
        for path in paths(tree)[tree.first_logits_row :]
    ]


def test_text_that_is_read_through_a_wrong_page_table_goes_on_differently() -> None:
    target = SyntheticTarget(SPEC, num_pages=8, page_tokens=PAGE_TOKENS)
    text = list(range(1, 9))
    target.forward([Segment([3, 5], 0, Rows.chain(text, first_logits_row=8))])
    row = Rows.chain([9])
    assert next_tokens(target, [Segment([3, 5, 1], 8, row)]) == [next_token(SPEC, [*text, 9])]
    assert next_tokens(target, [Segment([5, 3, 1], 8, row)]) != [next_token(SPEC, [*text, 9])]
    assert next_tokens(target, [Segment([3, 6, 1], 8, row)]) != [next_token(SPEC, [*text, 9])]


def test_moves_are_made_one_after_the_other() -> None:
    target = SyntheticTarget(SPEC, num_pages=2, page_tokens=PAGE_TOKENS)
    target.forward([Segment([1], 0, Rows((7, 8, 9), (CACHED_TEXT,) * 3, 3))])
    target.move([Move(6, 5), Move(5, 4)])
    row = Rows.chain([1])
    assert next_tokens(target, [Segment([1], 2, row)]) == [next_token(SPEC, [9, 9, 1])]


def test_a_target_says_what_the_spec_says() -> None:
    spec = SyntheticSpec(vocab=77, positions=300, kv_bytes=10)
    target = SyntheticTarget(spec, num_pages=9, page_tokens=5)
    assert (target.vocab_size, target.max_positions, target.eos_token_ids) == (77, 300, (EOS,))
    shape = target.cache_shape
    assert (shape.num_pages, shape.page_tokens, shape.bytes_per_page) == (9, 5, 50)


# --- time -------------------------------------------------------------------------------------


def a_pass(clock: Clock, num_rows: int) -> None:
    spec = SyntheticSpec(c0_s=2.0, c1_s=0.5)
    target = SyntheticTarget(spec, num_pages=20, sleep=clock.sleep, clock=clock)
    chain = Rows.chain([1] * num_rows, first_logits_row=num_rows - 1)
    target.forward([Segment(range(10), 0, chain), Segment(range(10, 20), 0, Rows.chain([2]))])


@pytest.mark.parametrize("num_rows", [1, 4, 100])
def test_a_pass_takes_c0_and_c1_for_every_row_of_all_segments(num_rows: int) -> None:
    clock = Clock()
    a_pass(clock, num_rows)
    assert clock.slept == [2.0 + 0.5 * (num_rows + 1)]


def test_what_the_computing_took_is_not_slept_again() -> None:
    clock = Clock(busy_s=1.0)
    a_pass(clock, 3)
    assert clock.slept == [3.0]


def test_a_pass_whose_time_is_used_up_already_does_not_sleep() -> None:
    clock = Clock(busy_s=4.0)
    a_pass(clock, 3)
    assert clock.slept == []


# --- logits -----------------------------------------------------------------------------------

MODES = st.sampled_from([AcceptanceMode.EXACT, AcceptanceMode.TYPICAL, AcceptanceMode.RELAXED])
SAMPLINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 2.0, 40.0]),
    top_p=st.sampled_from([1.0, 0.9]),
    repetition_penalty=st.sampled_from([1.0, 100.0]),
    frequency_penalty=st.sampled_from([0.0, 2.0]),
    seed=st.integers(0, 100),
)


@settings(deadline=None)
@given(
    peaks=st.lists(st.integers(1, 49), min_size=1, max_size=5),
    mode=MODES,
    sampling=SAMPLINGS,
    output=st.lists(st.integers(0, 49), max_size=8),
    data=st.data(),
)
def test_every_rule_chooses_as_it_would_from_the_whole_rows(
    peaks: list[int],
    mode: AcceptanceMode,
    sampling: SamplingParams,
    output: list[int],
    data: st.DataObject,
) -> None:
    logits = SyntheticLogits(np.array(peaks), 50)
    points = [
        ChoicePoint(
            row=data.draw(st.integers(0, len(peaks) - 1)),
            position=position,
            rule=acceptance_rule(mode, sampling),
            children=data.draw(st.lists(st.integers(0, 49), max_size=3, unique=True)),
            prompt_tokens=(1,),
            output_tokens=output,
        )
        for position in range(4)
    ]
    assert logits.choose(points) == ArrayLogits(logits.numpy()).choose(points)


def test_a_row_has_one_peak_and_no_end() -> None:
    (row,) = SyntheticLogits(np.array([3]), 6).numpy()
    assert row.tolist() == [-np.inf, 0, 0, PEAK, 0, 0]
    assert row.dtype == np.float32


@given(seed=st.integers(0, 2**64 - 1), position=st.integers(0, 10**6))
def test_up_to_a_temperature_of_two_the_sampled_token_is_the_greedy_one(
    seed: int, position: int
) -> None:
    rule = acceptance_rule(AcceptanceMode.EXACT, SamplingParams(temperature=2.0, seed=seed))
    assert SyntheticLogits(np.array([7]), 50).choose([ChoicePoint(0, position, rule)]) == [7]


def test_the_end_is_never_chosen_however_hot_the_sampling() -> None:
    rule = acceptance_rule(AcceptanceMode.EXACT, SamplingParams(temperature=1000.0))
    points = [ChoicePoint(0, position, rule) for position in range(500)]
    chosen = SyntheticLogits(np.array([2]), 4).choose(points)
    assert set(chosen) == {1, 2, 3}


def test_runner_ups_are_those_of_the_whole_rows() -> None:
    logits = SyntheticLogits(np.array([3, 7]), 50)
    expected = ArrayLogits(logits.numpy()).runner_ups([1, 0, 1], [7, 5, 9], 4)
    assert logits.runner_ups([1, 0, 1], [7, 5, 9], 4) == expected
    assert expected[1][0] == 3


def test_the_host_is_free_while_a_pass_runs_and_what_it_does_then_is_not_slept_again() -> None:
    clock = Clock()
    spec = SyntheticSpec(c0_s=2.0, c1_s=0.5)
    target = SyntheticTarget(spec, num_pages=20, sleep=clock.sleep, clock=clock)
    running = target.begin([Segment(range(10), 0, Rows.chain([1, 2]))])
    assert clock.slept == []
    clock.now += 1.25
    running.result()
    assert clock.slept == [3.0 - 1.25]


def test_log_probabilities_are_those_of_the_whole_rows() -> None:
    logits = SyntheticLogits(np.array([3, 7]), 50)
    expected = ArrayLogits(logits.numpy()).logprobs([1, 0, 1], [7, 5, 9], 4)
    assert logits.logprobs([1, 0, 1], [7, 5, 9], 4) == expected
    assert expected[0].logprob == pytest.approx(0, abs=1e-9)
