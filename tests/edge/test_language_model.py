"""The language-model proposer over a fake draft model."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from fake_draft_model import FakeDraftModel, FakeSequence
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_common.acceptance import exact_token
from outrider_common.sampling import SamplingParams
from outrider_edge.draft_cache import FEED_CHUNK_TOKENS, LONGEST_STEM
from outrider_edge.language_model import WIDTH, LanguageModelFactory, LanguageModelProposer
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.row_tree import MAX_ROWS

VOCAB_SIZE = 64
SAMPLED = SamplingParams(temperature=0.8, presence_penalty=1.0, seed=5)


def start(
    model: FakeDraftModel, sampling: SamplingParams = SAMPLED, num_prompt_tokens: int = 3
) -> tuple[LanguageModelProposer, FakeSequence]:
    task = DraftingTask(sampling, num_prompt_tokens, VOCAB_SIZE)
    return LanguageModelFactory(model).start(task), model.sequences[-1]


def draft(proposer: LanguageModelProposer, text: list[int], path: Sequence[int] = ()) -> Draft:
    (answer,) = proposer.expand(text, [path], 1)
    return answer


@pytest.mark.parametrize("sampling", [SamplingParams(), SAMPLED])
def test_it_guesses_what_the_target_would_choose_from_the_same_logits(
    sampling: SamplingParams,
) -> None:
    model = FakeDraftModel(vocab_size=8)
    proposer, _ = start(model, sampling)
    context = [1, 2, 3]
    for _ in range(30):
        logits = model.new_sequence().forward(context)[-1]
        expected = exact_token(logits, sampling, len(context), context[:3], context[3:])
        assert draft(proposer, context).tokens[0] == expected
        context.append(expected)


def test_a_growing_text_is_fed_token_by_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    text = [1, 2, 3]
    for token in range(2 * LONGEST_STEM):
        draft(proposer, text)
        assert sequence.num_fed == len(text)
        text.append(token % VOCAB_SIZE)


def test_a_growing_path_is_fed_token_by_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    for length in range(20):
        draft(proposer, [1, 2, 3], range(length))
        assert sequence.num_fed == 3 + length


def test_asking_again_costs_one_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    first = draft(proposer, [1, 2, 3], [4, 5])
    assert draft(proposer, [1, 2, 3], [4, 5]) == first
    assert sequence.num_fed == 6


def test_there_are_several_guesses_after_each_leaf_and_they_differ() -> None:
    answer = draft(start(FakeDraftModel(VOCAB_SIZE))[0], [1, 2, 3])
    assert len(set(answer.tokens)) == WIDTH
    assert answer.depth == 1


def test_a_long_prompt_is_fed_in_chunks() -> None:
    model = FakeDraftModel(VOCAB_SIZE, max_positions=2000)
    proposer, sequence = start(model)
    context = [i % VOCAB_SIZE for i in range(2 * FEED_CHUNK_TOKENS + 1)]
    draft(proposer, context)
    assert sequence.num_fed == len(context)
    assert sequence.longest_input == FEED_CHUNK_TOKENS


def test_a_text_as_long_as_the_drafter_can_read_is_read_and_a_longer_one_is_not() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE, max_positions=4))
    for _ in range(3):
        assert draft(proposer, [1, 2, 3, 4]) != Draft()
        assert draft(proposer, [1, 2, 3, 4, 5]) == Draft()
    assert sequence.num_fed == 6


def test_a_text_with_a_token_that_the_drafter_lacks_drafts_nothing() -> None:
    proposer, sequence = start(FakeDraftModel(vocab_size=32))
    assert draft(proposer, [1, 2, 40]) == Draft()
    assert draft(proposer, [1, 2], [40, 3]) == Draft()
    assert sequence.num_fed == 0


def test_logits_beyond_the_targets_vocabulary_are_not_guessed() -> None:
    proposer, _ = start(FakeDraftModel(vocab_size=VOCAB_SIZE * 50))
    guesses = [draft(proposer, [i]).tokens for i in range(VOCAB_SIZE)]
    assert all(0 <= token < VOCAB_SIZE for token in itertools.chain(*guesses))


def expanded_alone(sampling: SamplingParams, text: list[int], path: list[int]) -> Draft:
    """What a fresh proposer says of one leaf."""
    proposer, _ = start(FakeDraftModel(VOCAB_SIZE), sampling)
    return draft(proposer, [*text, *path])


@pytest.mark.parametrize("sampling", [SAMPLED, SamplingParams()])
def test_a_drafter_of_few_tokens_guesses_the_ids_of_the_target(sampling: SamplingParams) -> None:
    few = np.arange(1, VOCAB_SIZE + 10, 3)
    proposer, _ = start(FakeDraftModel(VOCAB_SIZE + 10, token_ids=few), sampling)
    known = few[few < VOCAB_SIZE]
    text = [4, 5, 6, 7]
    for _ in range(20):
        guess = draft(proposer, text).tokens[0]
        logits = np.full(VOCAB_SIZE, -np.inf, np.float32)
        whole = FakeDraftModel(VOCAB_SIZE + 10).new_sequence()
        logits[known] = whole.forward(text)[-1][known]
        assert guess == exact_token(logits, sampling, len(text), text[:3], text[3:])
        text.append(guess)


def test_several_leaves_are_expanded_in_one_pass_over_what_is_new() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    text = [1, 2, 3]
    proposer.expand(text, [[]], 3)
    fed, passes = sequence.num_fed, sequence.num_passes
    paths = [[4], [5], [4, 6], [4, 7, 8]]
    guesses = proposer.expand(text, paths, 3)
    assert guesses == [expanded_alone(SAMPLED, text, path) for path in paths]
    assert (sequence.num_fed - fed, sequence.num_passes - passes) == (5, 1)


def test_what_the_target_commits_of_the_tree_is_not_computed_again() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    proposer.expand([1, 2, 3], [[4], [5], [5, 6], [5, 7]], 1)
    fed = sequence.num_fed
    proposer.expand([1, 2, 3, 5], [[6, 9], [7, 9]], 1)
    assert sequence.num_fed - fed == 2


def test_a_correction_drops_the_tree_and_costs_one_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    proposer.expand([1, 2, 3], [[4], [5], [5, 6]], 1)
    fed, passes = sequence.num_fed, sequence.num_passes
    guesses = proposer.expand([1, 2, 3, 8], [[]], 3)
    assert guesses == [expanded_alone(SAMPLED, [1, 2, 3], [8])]
    assert (sequence.num_fed - fed, sequence.num_passes - passes) == (1, 1)


def test_tokens_that_were_committed_without_drafts_go_along_with_the_leaves() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    proposer.expand([1, 2, 3], [[]], 1)
    passes = sequence.num_passes
    guesses = proposer.expand([1, 2, 3, 4, 5, 6], [[7], [8]], 3)
    assert guesses == [expanded_alone(SAMPLED, [1, 2, 3, 4, 5, 6], path) for path in ([7], [8])]
    assert sequence.num_passes - passes == 1


def test_a_leaf_that_cannot_be_read_does_not_silence_the_others() -> None:
    proposer, _ = start(FakeDraftModel(VOCAB_SIZE, max_positions=5))
    guesses = proposer.expand([1, 2, 3], [[4], [VOCAB_SIZE], [4, 5, 6], [4, 5]], 2)
    assert [bool(g.tokens) for g in guesses] == [True, False, False, True]


def test_leaves_beyond_the_room_for_rows_are_left_out_and_the_rest_is_right() -> None:
    proposer, _ = start(FakeDraftModel(VOCAB_SIZE))
    paths = [[i % VOCAB_SIZE] * (1 + i // VOCAB_SIZE) for i in range(MAX_ROWS + 4)]
    guesses = proposer.expand([1, 2, 3], paths, 1)
    assert [bool(g.tokens) for g in guesses].count(True) == MAX_ROWS - 1  # one is the text's end
    again = proposer.expand([1, 2, 3], paths[-3:], 1)
    assert all(g.tokens for g in again)


TREES = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6)
MOVES = st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=4), TREES), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(9, 40), MOVES)
def test_for_any_commits_and_leaves_the_guesses_are_those_of_a_fresh_proposer(
    num_prompt_tokens: int,
    max_positions: int,
    moves: list[tuple[list[int], list[list[int]]]],
) -> None:
    model = FakeDraftModel(VOCAB_SIZE, max_positions)
    proposer, _ = start(model)
    text = [1] * num_prompt_tokens
    for committed, paths in moves:
        text += committed
        for path, guesses in zip(paths, proposer.expand(text, paths, 3), strict=True):
            fits = len(text) + len(path) <= max_positions
            assert guesses in (expanded_alone(SAMPLED, text, path), Draft())
            assert fits or not guesses.tokens
        longest = max(paths, key=len)
        fits = len(text) + len(longest) <= max_positions
        assert bool(draft(proposer, text, longest).tokens) == fits
