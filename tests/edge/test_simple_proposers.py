"""The proposers without a model."""

from collections.abc import Sequence

from outrider_common.sampling import SamplingParams
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.simple_proposers import GarbageFactory, NoneFactory

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=50_000)


def garbage_drafts(seed: int = 0, context: Sequence[int] = (11, 12, 13)) -> list[Draft]:
    proposer = GarbageFactory(seed).start(TASK)
    return proposer.expand(context, [()] * 300, 8)


def siblings(draft: Draft) -> list[tuple[int, int]]:
    return list(zip(draft.parents, draft.tokens, strict=True))


def test_none_has_nothing_to_say() -> None:
    assert NoneFactory().start(TASK).expand([1, 2, 3], [(), (4,)], 100) == [Draft(), Draft()]


def test_garbage_comes_in_every_size() -> None:
    assert {len(draft.tokens) for draft in garbage_drafts()} == set(range(9))


def test_garbage_branches_and_runs_deep() -> None:
    drafts = garbage_drafts()
    assert any(len(set(draft.parents)) < len(draft.parents) for draft in drafts)
    assert any(draft.parents == tuple(range(-1, 7)) for draft in drafts)


def test_garbage_has_twins_among_siblings() -> None:
    drafts = garbage_drafts(context=range(20_000))  # where no two are alike by chance
    assert sum(len(set(siblings(draft))) < len(draft.tokens) for draft in drafts) > 30


def test_garbage_takes_tokens_from_all_over_the_vocabulary_and_from_the_context() -> None:
    tokens = {token for draft in garbage_drafts() for token in draft.tokens}
    assert {11, 12, 13} <= tokens
    assert max(tokens) > 45_000


def test_another_seed_talks_other_garbage() -> None:
    assert garbage_drafts(seed=1) != garbage_drafts(seed=2)
