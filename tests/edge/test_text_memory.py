"""Earlier texts and what followed in them, against texts that are searched one by one."""

import gc

from hypothesis import given
from hypothesis import strategies as st
from matches import matches_by_brute_force

from outrider_common.sampling import SamplingParams
from outrider_common.suffix_index import SuffixIndex
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.retrieval import RetrievalFactory
from outrider_edge.text_memory import TextMemory

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=1000)
TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=6)


def memory_of(texts: list[list[int]], max_tokens: int) -> TextMemory:
    memory = TextMemory(max_tokens, min_match=2)
    for text in texts:
        memory.keep(text)
    return memory


@given(texts=TEXTS, end=st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_it_finds_what_followed_in_any_of_the_texts(texts: list[list[int]], end: list[int]) -> None:
    expected = {
        (match.length, tuple(text[match.end : match.end + 3]))
        for text in texts
        for match in matches_by_brute_force(text, end, 2, is_own=False)
    }
    found = memory_of(texts, 1000).continuations(end, 1000, 3)
    assert {(match.length, tuple(tokens)) for match, tokens in found} <= expected
    if expected:
        assert found[0][0].length == max(length for length, _ in expected)


@given(texts=TEXTS, max_tokens=st.integers(1, 20))
def test_it_remembers_the_last_tokens_and_at_most_twice_as_many(
    texts: list[list[int]], max_tokens: int
) -> None:
    memory = memory_of(texts, max_tokens)
    memory.continuations([0], 1, 1)  # takes in what has arrived
    ended = [token for text in texts for token in (*text, -1)]
    kept = memory.tokens
    assert len(kept) <= 2 * max_tokens + 1
    assert len(kept) >= min(max_tokens, len(ended))


def test_a_generation_finds_what_an_ended_one_wrote() -> None:
    factory = RetrievalFactory(memory_tokens=100)
    first = factory.start(TASK)
    first.expand([1, 2, 3, 4, 5], [()], 1)
    second = factory.start(TASK)
    assert second.expand([9, 2, 3], [()], 3) == [Draft()], "the first one has not ended"
    del first
    gc.collect()
    assert second.expand([9, 2, 3], [()], 3)[0].tokens == (4, 5)


def test_without_a_memory_generations_share_nothing() -> None:
    factory = RetrievalFactory()
    factory.start(TASK).expand([1, 2, 3, 4, 5], [()], 1)
    gc.collect()
    assert factory.start(TASK).expand([9, 2, 3], [()], 3) == [Draft()]


def test_a_longer_match_in_memory_comes_before_a_shorter_one_in_the_text() -> None:
    factory = RetrievalFactory(memory_tokens=100)
    factory.start(TASK).expand([1, 2, 3, 4], [()], 1)
    gc.collect()
    draft = factory.start(TASK).expand([2, 3, 7, 1, 2, 3], [()], 1)[0]
    assert draft.tokens == (4, 7)


def test_of_equal_matches_the_one_in_the_text_itself_comes_first() -> None:
    factory = RetrievalFactory(memory_tokens=100)
    factory.start(TASK).expand([2, 3, 4], [()], 1)
    gc.collect()
    assert factory.start(TASK).expand([2, 3, 7, 2, 3], [()], 1)[0].tokens == (7, 4)


def test_an_index_is_made_anew_only_when_as_much_again_has_arrived() -> None:
    memory = TextMemory(50, min_match=2)
    seen: set[int] = set()
    indices: list[SuffixIndex] = []
    for i in range(40):
        memory.keep([i] * 9)
        memory.continuations([0], 1, 1)
        if id(memory._index) not in seen:
            indices.append(memory._index)  # kept alive, so that no two have the same id
            seen.add(id(memory._index))
    assert 2 <= len(indices) <= 1 + 40 * 10 // 50
