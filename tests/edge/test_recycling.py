"""Drafts from what followed each token, against every path that the table knows."""

import threading
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from hypothesis import given
from hypothesis import strategies as st

from outrider_common.sampling import SamplingParams
from outrider_edge.growing_text import GrowingText
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask, Learner
from outrider_edge.recycling import MAX_GUESSES, RecyclingFactory, RecyclingProposer
from outrider_edge.successor_table import FOLLOWED, RUNNER_UPS, SuccessorTable

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=100)
TEXTS = st.lists(st.integers(0, 4), min_size=1, max_size=30)

Path = tuple[int, ...]


def fresh_proposer() -> RecyclingProposer:
    return RecyclingFactory().start(TASK)


def values_of(draft: Draft) -> dict[Path, float]:
    """Of each guess the path to it, and the product of the probabilities along it."""
    paths: list[Path] = []
    values: list[float] = []
    for token, parent, p in zip(draft.tokens, draft.parents, draft.probabilities, strict=True):
        paths.append((token,) if parent == CONTEXT_END else (*paths[parent], token))
        values.append(p if parent == CONTEXT_END else values[parent] * p)
    assert len(set(paths)) == len(paths), "no two guesses are the same"
    return dict(zip(paths, values, strict=True))


def values_by_brute_force(text: Sequence[int], max_depth: int) -> dict[Path, float]:
    """All paths with their products."""
    table = SuccessorTable()
    for token, successor in pairwise(text):
        table.follow(token, successor)
    paths: dict[Path, tuple[float, ...]] = {(): ()}
    level = dict(paths)
    for _ in range(max_depth):
        level = {
            (*path, token): (*chances, chance)
            for path, chances in level.items()
            for token, chance in table.successors(path[-1] if path else text[-1])
        }
        paths |= level
    return {path: prod(chances) for path, chances in paths.items() if path}


@given(text=TEXTS, max_depth=st.integers(1, 4))
def test_it_drafts_the_likeliest_paths(text: list[int], max_depth: int) -> None:
    drafted = values_of(fresh_proposer().expand(text, [()], max_depth)[0])
    known = values_by_brute_force(text, max_depth)
    assert len(drafted) == min(MAX_GUESSES, len(known))
    assert drafted == {path: known[path] for path in drafted}
    best = sorted(known.values(), reverse=True)[:MAX_GUESSES]
    assert list(drafted.values()) == best, "the likeliest first, and no likelier one is left out"


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), is_copied=st.booleans())
def test_a_text_that_grows_is_learnt_from_once(texts: list[list[int]], is_copied: bool) -> None:
    growing: list[int] = []
    proposer = fresh_proposer()
    for more in texts:
        growing += more
        text: Sequence[int] = tuple(growing) if is_copied else GrowingText(growing)
        drafts = proposer.expand(text, [()], 3)
    assert drafts == fresh_proposer().expand(growing, [()], 3)


def test_each_leaf_is_drafted_from_by_its_last_token() -> None:
    drafts = fresh_proposer().expand([1, 2, 3, 1], [(), (9, 2), (8,)], 1)
    assert [draft.tokens for draft in drafts] == [(2,), (3,), ()]


def test_runner_ups_are_guesses_after_the_token_before_theirs() -> None:
    proposer = fresh_proposer()
    proposer.learn(1, [2, 3], [(7, 8), (9,)])
    drafts = proposer.expand([1, 2, 3], [(), (1,), (2,)], 1)
    assert [draft.tokens for draft in drafts] == [(), (2, 7, 8), (3, 9)]
    assert drafts[1].probabilities == (FOLLOWED[0], *RUNNER_UPS[:2])


def test_runner_ups_that_the_target_lacks_or_that_are_too_many_do_no_harm() -> None:
    proposer = fresh_proposer()
    proposer.learn(1, [2], [(10**9, *range(20, 60))])
    proposer.learn(2, [3], [(5,), (6,)])  # more than there are tokens
    proposer.learn(3, [4, 5], [])
    tokens = proposer.expand([1, 2, 3, 1], [()], 1)[0].tokens
    assert tokens[0] == 2
    assert set(tokens[1:]) <= set(range(20, 60))


def test_it_asks_for_runner_ups() -> None:
    proposer = fresh_proposer()
    assert isinstance(proposer, Learner)
    assert proposer.num_runner_ups == len(RUNNER_UPS)


def test_commits_may_come_while_it_drafts() -> None:
    proposer = fresh_proposer()
    text = [token for token in range(50) for _ in range(2)]

    def commit() -> None:
        for i in range(2000):
            proposer.learn(i % 50, [1, 2], [(3, 4), (5, 6)])

    thread = threading.Thread(target=commit)
    thread.start()
    while thread.is_alive():
        proposer.expand(text, [()], 2)
    thread.join()
    assert set(proposer.expand(text, [(1,)], 1)[0].tokens) == {1, 2, 5, 6}
