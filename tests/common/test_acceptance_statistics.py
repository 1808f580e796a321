"""Acceptance: the lossless modes follow the target's distribution, by statistical test.

Seeds are fixed, so a test passes or fails for good; with other seeds each would fail by chance with
a probability below `P_LIMIT`. Rules with a known fault must fail the same tests.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from outrider_common.acceptance import (
    AcceptanceRule,
    ExactRule,
    RejectionRule,
    SparseDistribution,
    exact_token,
)
from outrider_common.noise import Purpose, uniform_scalar
from outrider_common.sampling import SamplingParams, distribution

P_LIMIT = 1e-6 / 50
"""Bonferroni: at most 50 tests, so that all together err with a probability below 1e-6."""

NUM_SESSIONS = 2000
FIRST_POSITION = 7

Floats = NDArray[np.float64]
Rule = Callable[[SamplingParams], AcceptanceRule]


@dataclass(frozen=True)
class Case:
    """Two positions over a small vocabulary: tables after the empty prefix and after each token.

    Attributes:
        p: the target's probabilities, [1 + vocab, vocab]; the last row is for the first position.
        q: the drafter's, likewise.
        num_children: how many children are drafted at each node.
        params: the sampling parameters, without the seed.
    """

    p: Floats
    q: Floats
    num_children: int = 1
    top_k: int = 0
    temperature: float = 1.0

    def params(self, seed: int) -> SamplingParams:
        return SamplingParams(temperature=self.temperature, top_k=self.top_k, seed=seed)

    def logits(self, path: Sequence[int]) -> Floats:
        with np.errstate(divide="ignore"):
            logits: Floats = np.log(self.p[path[-1] if path else -1])
        return logits

    def draft(self, path: Sequence[int]) -> SparseDistribution:
        q = self.q[path[-1] if path else -1]
        return SparseDistribution.quantise(range(len(q)), q)

    def expected(self) -> Floats:
        """The probability of each pair of tokens, [vocab, vocab]."""
        vocab = self.p.shape[1]
        table = np.zeros_like(self.p)
        for token in range(-1, vocab):
            path = [] if token < 0 else [token]
            sampled = distribution(self.logits(path), self.params(0), [], path)
            table[token, sampled.token_ids] = sampled.probabilities()
        joint: Floats = table[-1][:, None] * table[:-1]
        return joint


def decode(case: Case, rule: Rule, seed: int) -> tuple[int, ...]:
    """Two tokens of one session, each chosen among the children that were drafted after it."""
    params = case.params(seed)
    path: list[int] = []
    for position in (FIRST_POSITION, FIRST_POSITION + 1):
        draft = case.draft(path)
        children = draft.draw(seed, position, case.num_children)
        chooser = rule(params)
        path.append(chooser.choose(case.logits(path), position, children, draft, [], path))
    return tuple(path)


def p_value(case: Case, rule: Rule) -> float:
    """Chi-square of the pairs of all sessions against the target's joint distribution.

    Pairs that cannot occur make it zero when they do; pairs of which fewer than five are expected
    are counted together.
    """
    counts = Counter(decode(case, rule, seed) for seed in range(NUM_SESSIONS))
    expected = case.expected()
    observed = np.zeros_like(expected)
    for pair, count in counts.items():
        observed[pair] = count
    if observed[expected == 0].any():
        return 0.0
    return chi_square(observed.ravel(), expected.ravel() * NUM_SESSIONS)


def chi_square(observed: Floats, expected: Floats) -> float:
    is_rare = expected < 5
    observed = np.append(observed[~is_rare], observed[is_rare].sum())
    expected = np.append(expected[~is_rare], expected[is_rare].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    return 1.0 if len(expected) < 2 else float(stats.chisquare(observed, expected).pvalue)


def tables(seed: int, vocab: int, concentration: float = 0.7) -> Floats:
    """A random row of probabilities for each prefix, [1 + vocab, vocab]."""
    rng = np.random.default_rng(seed)
    rows: Floats = rng.dirichlet(np.full(vocab, concentration), size=vocab + 1)
    return rows


def one_hot(tokens: Sequence[int], vocab: int) -> Floats:
    return np.eye(vocab)[list(tokens)]


P = tables(1, 4)
P6 = tables(3, 6)
CASES = {
    "another q": Case(P, tables(2, 4)),
    "q equals p": Case(P, P),
    "two children": Case(P, tables(2, 4), num_children=2),
    "three children of six": Case(P6, tables(4, 6), num_children=3),
    "all tokens as children": Case(P, tables(2, 4), num_children=4),
    "q equals p, two children": Case(P, P, num_children=2),
    "disjoint supports": Case(
        np.tile([0.3, 0.7, 0.0, 0.0], (5, 1)), np.tile([0.0, 0.0, 0.4, 0.6], (5, 1)), 2
    ),
    "one-hot q": Case(P, one_hot([0, 1, 2, 3, 1], 4)),
    "one-hot q, two children asked for": Case(P, one_hot([3, 3, 0, 0, 2], 4), 2),
    "second child often rejected": Case(
        np.tile([0.0, 0.56, 0.44, 0.0], (5, 1)), np.tile([0.7, 0.135, 0.015, 0.15], (5, 1)), 2
    ),
    "truncated p": Case(P6, tables(4, 6), num_children=2, top_k=3),
    "low temperature": Case(P, tables(2, 4), num_children=2, temperature=0.3),
    "temperature near zero": Case(P, tables(2, 4), num_children=2, temperature=1e-6),
    "greedy": Case(P, tables(2, 4), num_children=2, temperature=0.0),
    "no children": Case(P, tables(2, 4), num_children=0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rejection_follows_the_target(case: Case) -> None:
    assert p_value(case, RejectionRule) > P_LIMIT


@pytest.mark.parametrize("name", ["another q", "truncated p", "low temperature", "greedy"])
def test_exact_follows_the_target(name: str) -> None:
    assert p_value(CASES[name], ExactRule) > P_LIMIT


@dataclass(frozen=True)
class WithoutResidual:
    """A fault: after a rejection it samples from p instead of the residual."""

    params: SamplingParams

    def choose(
        self,
        logits: Floats,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        rule = RejectionRule(self.params)
        chosen = rule.choose(logits, position, children, draft, prompt_tokens, output_tokens)
        if chosen in children:
            return chosen
        return rule.choose(logits, position, [], None, prompt_tokens, output_tokens)


@dataclass(frozen=True)
class InOrderOfIds(WithoutResidual):
    """A fault: it judges the children in another order than that of drawing."""

    def choose(
        self,
        logits: Floats,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        return RejectionRule(self.params).choose(
            logits, position, sorted(children), draft, prompt_tokens, output_tokens
        )


@dataclass(frozen=True)
class WithDraftersNoise(WithoutResidual):
    """A fault: it takes whatever the drafter drew first."""

    def choose(
        self,
        logits: Floats,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        return children[0]


@pytest.mark.parametrize(
    ("faulty", "name"),
    [
        (WithoutResidual, "another q"),
        (WithoutResidual, "two children"),
        (InOrderOfIds, "two children"),
        (WithDraftersNoise, "another q"),
    ],
)
def test_the_test_notices_a_faulty_rule(faulty: Rule, name: str) -> None:
    assert p_value(CASES[name], faulty) < P_LIMIT


def test_draws_without_replacement_have_the_probabilities_of_successive_draws() -> None:
    q = np.array([1, 2, 3, 4])
    draft = SparseDistribution((0, 1, 2, 3), tuple(q.tolist()))
    observed, expected = np.zeros((4, 4)), np.zeros((4, 4))
    for seed in range(NUM_SESSIONS):
        observed[draft.draw(seed, FIRST_POSITION, 2)] += 1
    for first in range(4):
        for second in set(range(4)) - {first}:
            expected[first, second] = q[first] / 10 * q[second] / (10 - q[first])
    assert not observed[expected == 0].any()
    assert chi_square(observed.ravel(), expected.ravel() * NUM_SESSIONS) > P_LIMIT


def acceptance_rate(p: Floats, q: Floats) -> float:
    """How often `rejection` takes the one child that was drawn from q."""
    draft = SparseDistribution.quantise(range(len(q)), q)
    num_accepted = 0
    for seed in range(NUM_SESSIONS):
        children = draft.draw(seed, 0, 1)
        rule = RejectionRule(SamplingParams(temperature=1.0, seed=seed))
        num_accepted += rule.choose(np.log(p), 0, children, draft, [], []) == children[0]
    return num_accepted / NUM_SESSIONS


def sampling_error() -> float:
    """Hoeffding: a mean over all sessions is off by more than this with a chance of `P_LIMIT`."""
    return math.sqrt(math.log(1 / P_LIMIT) / (2 * NUM_SESSIONS))


@pytest.mark.parametrize("seed", range(3))
def test_rejection_accepts_one_child_as_often_as_one_minus_the_total_variation(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.ones(8), size=2)
    overlap = float(np.minimum(p, q).sum())
    # Quantising moves q by less than 8 / 65535. What the residual yields is never the child.
    assert abs(acceptance_rate(p, q) - overlap) < sampling_error() + 8 / 65535


def agreement(p: Floats, q: Floats, seed_of_drafter: Callable[[int], int]) -> float:
    """How often target and drafter choose the same token in `exact` mode."""
    num_equal = 0
    for seed in range(NUM_SESSIONS):
        target = SamplingParams(temperature=1.0, seed=seed)
        drafter = SamplingParams(temperature=1.0, seed=seed_of_drafter(seed))
        token = exact_token(np.log(p), target, 3, [], [])
        num_equal += token == exact_token(np.log(q), drafter, 3, [], [])
    return num_equal / NUM_SESSIONS


def least_agreement(p: Floats, q: Floats) -> float:
    """(1 - TV) / (1 + TV), arXiv:2408.07978."""
    total_variation = float(np.abs(p - q).sum() / 2)
    return (1 - total_variation) / (1 + total_variation)


@pytest.mark.parametrize("seed", range(3))
def test_a_drafter_with_the_same_noise_agrees_at_least_as_often_as_proven(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.ones(8), size=2)
    assert agreement(p, q, lambda same: same) > least_agreement(p, q) - sampling_error()


def test_a_drafter_with_other_noise_agrees_less_often() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(8), size=2)
    other = agreement(p, q, lambda seed: seed + NUM_SESSIONS)
    assert other < least_agreement(p, q) - sampling_error()


def test_tokens_at_one_position_and_the_next_are_independent() -> None:
    row = np.zeros(4)
    table = np.zeros((4, 4))
    for seed in range(NUM_SESSIONS):
        params = SamplingParams(temperature=1.0, seed=seed)
        table[exact_token(row, params, 0, [], []), exact_token(row, params, 1, [], [])] += 1
    assert chi_square(table.ravel(), np.full(16, NUM_SESSIONS / 16)) > P_LIMIT


def test_the_drafters_noise_says_nothing_about_acceptance() -> None:
    accept = [uniform_scalar(seed, Purpose.ACCEPT, 0, 1) for seed in range(NUM_SESSIONS)]
    draft = [uniform_scalar(seed, Purpose.TOKEN, 0, 1) for seed in range(NUM_SESSIONS)]
    table = np.histogram2d(accept, draft, bins=8, range=[[0, 1], [0, 1]])[0]
    assert chi_square(table.ravel(), np.full(64, NUM_SESSIONS / 64)) > P_LIMIT
