"""The synthetic proposer: the contract, and how often it is right."""

import pytest
from proposer_contract import VOCAB_SIZE, FaithfulProposerContract

from outrider_common.errors import ConfigError
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_edge.proposer import DraftingTask, ProposerFactory
from outrider_edge.synthetic_proposer import SyntheticFactory

SPEC = SyntheticSpec(vocab=500, acceptance=0.7)
TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=500)


class TestSyntheticProposer(FaithfulProposerContract):
    @pytest.fixture(params=[0.0, 0.6, 1.0])
    def factory(self, request: pytest.FixtureRequest) -> ProposerFactory:
        return SyntheticFactory(SyntheticSpec(vocab=VOCAB_SIZE, acceptance=request.param))


def num_right(context: list[int], coin_seed: int = 0) -> int:
    """How many guesses of a chain of eight the target would accept."""
    (draft,) = SyntheticFactory(SPEC, coin_seed).start(TASK).expand(context, [()], 8)
    text = list(context)
    for token in draft.tokens:
        if token != next_token(SPEC, text):
            break
        text.append(token)
    return len(text) - len(context)


def test_it_drafts_a_chain_with_its_acceptance_as_the_probability_of_each_token() -> None:
    (draft,) = SyntheticFactory(SPEC).start(TASK).expand([1, 2, 3], [()], 5)
    assert draft.parents == (-1, 0, 1, 2, 3)
    assert draft.probabilities == (0.7,) * 5


def test_chains_are_accepted_as_far_as_the_acceptance_says() -> None:
    """Five standard deviations: wrong once in a million seeds, and this one is fixed."""
    lengths = [num_right([1 + i % 499, 1 + i // 499]) for i in range(4000)]
    for depth in range(1, 9):
        chance = 0.7**depth
        share = sum(length >= depth for length in lengths) / 4000
        assert abs(share - chance) < 5 * (chance * (1 - chance) / 4000) ** 0.5


def test_runners_up_stand_beside_each_guess_and_the_chain_goes_on_from_the_best() -> None:
    factory = SyntheticFactory(SPEC, num_ranks=3)
    (draft,) = factory.start(TASK).expand([1, 2, 3], [()], 2)
    (chain,) = SyntheticFactory(SPEC).start(TASK).expand([1, 2, 3], [()], 2)
    assert draft.parents == (-1, -1, -1, 0, 0, 0)
    assert (draft.tokens[0], draft.tokens[3]) == chain.tokens
    assert draft.probabilities == pytest.approx((0.7, 0.15, 0.075) * 2)


def test_a_draft_has_no_more_levels_than_it_may() -> None:
    (draft,) = SyntheticFactory(SPEC, most_levels=1).start(TASK).expand([1, 2, 3], [()], 8)
    assert draft.parents == (-1,)


def test_another_coin_seed_makes_other_mistakes() -> None:
    contexts = [[1 + i] for i in range(50)]
    assert [num_right(c, 1) for c in contexts] != [num_right(c, 2) for c in contexts]


def test_a_target_with_another_vocabulary_is_refused() -> None:
    task = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=400)
    with pytest.raises(ConfigError, match="vocab=500, but the verifier's model has 400"):
        SyntheticFactory(SPEC).start(task)
