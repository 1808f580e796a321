"""Saying again what was written alone, as long as it may be right."""

from outrider_edge.proposer import Draft, Proposer
from outrider_edge.recall import CHANCE, Recall

RECALL = Recall(start=2, tokens=(5, 6, 7, 8))


def draft(text: list[int], path: tuple[int, ...] = (), max_depth: int = 9) -> tuple[int, ...]:
    (said,) = RECALL.expand(text, [path], max_depth)
    assert said == Draft.chain(said.tokens, [CHANCE] * len(said.tokens))
    return said.tokens


def test_it_is_a_proposer() -> None:
    assert isinstance(RECALL, Proposer)


def test_the_rest_of_the_text_follows_what_is_known_of_it() -> None:
    assert draft([1, 1]) == (5, 6, 7, 8)
    assert draft([1, 1, 5]) == (6, 7, 8)
    assert draft([1, 1, 5], (6, 7)) == (8,)
    assert draft([1, 1, 5, 6, 7, 8]) == ()


def test_no_more_is_said_than_is_wanted() -> None:
    assert draft([1, 1], max_depth=2) == (5, 6)


def test_once_it_was_wrong_it_says_nothing_more() -> None:
    assert draft([1, 1, 9]) == ()
    assert draft([1, 1, 9, 6]) == ()
    assert draft([1, 1, 5], (9,)) == ()


def test_each_leaf_has_a_draft_of_its_own() -> None:
    drafts = RECALL.expand([1, 1], [(), (5,), (4,)], 1)
    assert [one.tokens for one in drafts] == [(5,), (6,), ()]
