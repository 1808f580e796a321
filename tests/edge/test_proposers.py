"""Every proposer against the contract suite."""

import pytest
from fake_draft_model import FakeDraftModel
from proposer_contract import VOCAB_SIZE, FaithfulProposerContract, ProposerContract

from outrider_edge.block_proposer import BlockFactory
from outrider_edge.combined import CombinedFactory
from outrider_edge.language_model import LanguageModelFactory
from outrider_edge.proposer import ProposerFactory
from outrider_edge.recycling import RecyclingFactory
from outrider_edge.retrieval import RetrievalFactory
from outrider_edge.simple_proposers import GarbageFactory, NoneFactory

MASKS = (3, 4, 5)

FAITHFUL: dict[str, ProposerFactory] = {
    "none": NoneFactory(),
    "retrieval": RetrievalFactory(),
    "eager-retrieval": RetrievalFactory(min_match=1),
    "lm": LanguageModelFactory(FakeDraftModel(VOCAB_SIZE)),
    "lm-with-a-small-vocabulary": LanguageModelFactory(FakeDraftModel(VOCAB_SIZE // 2)),
    "lm-with-a-large-vocabulary": LanguageModelFactory(FakeDraftModel(VOCAB_SIZE * 3)),
    "block": BlockFactory(FakeDraftModel(VOCAB_SIZE), MASKS),
    "block-with-a-small-vocabulary": BlockFactory(FakeDraftModel(VOCAB_SIZE // 2), MASKS),
    "block-with-masks-beyond-the-target": BlockFactory(
        FakeDraftModel(VOCAB_SIZE * 3), (VOCAB_SIZE, VOCAB_SIZE + 1)
    ),
    "combined": CombinedFactory(
        [RetrievalFactory(), LanguageModelFactory(FakeDraftModel(VOCAB_SIZE))]
    ),
}
ERRATIC: dict[str, ProposerFactory] = {
    "recycling": RecyclingFactory(),  # it learns from what it is asked
    "lm-with-few-positions": LanguageModelFactory(
        FakeDraftModel(VOCAB_SIZE, max_positions=16)
    ),  # how much it can read of a leaf depends on the others
    "garbage": GarbageFactory(seed=3),
    # Its leaves share what room for masks is left, so that one alone may be drafted from deeper.
    "block-with-few-positions": BlockFactory(FakeDraftModel(VOCAB_SIZE, max_positions=16), MASKS),
    "combined-garbage": CombinedFactory([RetrievalFactory(), GarbageFactory()]),
}


class TestFaithfulProposers(FaithfulProposerContract):
    @pytest.fixture(params=FAITHFUL)
    def factory(self, request: pytest.FixtureRequest) -> ProposerFactory:
        return FAITHFUL[request.param]


class TestErraticProposers(ProposerContract):
    @pytest.fixture(params=ERRATIC)
    def factory(self, request: pytest.FixtureRequest) -> ProposerFactory:
        return ERRATIC[request.param]
