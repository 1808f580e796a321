"""What the draft cache feeds and forgets, where no proposer's own tests say it."""

import numpy as np
from fake_draft_model import FakeDraftModel, FakeSequence

from outrider_edge.draft_cache import DraftCache, Logits
from outrider_edge.row_tree import MAX_ROWS

VOCAB_SIZE = 64
PROBES = (60, 61, 62)


def start(max_positions: int = 512) -> tuple[DraftCache, FakeSequence]:
    model = FakeDraftModel(VOCAB_SIZE, max_positions)
    return DraftCache(model, VOCAB_SIZE), model.sequences[-1]


def logits_of(text: list[int]) -> Logits:
    return FakeDraftModel(VOCAB_SIZE).new_sequence().forward(text)[-1]


def test_a_text_that_was_changed_in_place_is_compared_again() -> None:
    cache, _ = start()
    text = [1, 2, 3, 4]
    cache.next_logits(text, [[]])
    text[1] = 9
    (logits,) = cache.next_logits(text, [[5]]).at(0)
    np.testing.assert_array_equal(logits, logits_of([1, 9, 3, 4, 5]))


def test_a_tuple_that_comes_again_is_the_text_that_it_was() -> None:
    cache, sequence = start()
    text, other = (1, 2, 3, 4), (1, 7)
    for asked in (text, text, other, text, text):
        (logits,) = cache.next_logits(asked, [[5]]).at(0)
        np.testing.assert_array_equal(logits, logits_of([*asked, 5]))
    assert sequence.num_fed == 5 + 1 + 2 + 4 + 1


def test_a_probe_has_the_logits_of_what_precedes_it_below_its_own_leaf() -> None:
    cache, sequence = start()
    cache.next_logits([1, 2, 3], [[4]])
    paths = [[4, 5], [4], [6, 7], [4, 5]]
    passes = sequence.num_passes
    found = cache.next_logits([1, 2, 3], paths, PROBES)
    for level in range(1 + len(PROBES)):
        for path, logits in zip(paths, found.at(level), strict=True):
            np.testing.assert_array_equal(logits, logits_of([1, 2, 3, *path, *PROBES[:level]]))
    assert found.at(1 + len(PROBES)) == [None] * len(paths)
    assert sequence.num_passes - passes == 1


def test_probes_never_stay() -> None:
    cache, sequence = start()
    cache.next_logits([1, 2, 3], [[4], [5, 6]], PROBES)
    assert not {*PROBES} & {*sequence.tokens, *sequence.row_tokens}
    assert [sequence.path(row) for row in range(4)] == [[3], [3, 4], [3, 5], [3, 5, 6]]
    fed = sequence.num_fed
    (logits,) = cache.next_logits([1, 2, 3], [[4, PROBES[0]]]).at(0)  # a token like any other
    np.testing.assert_array_equal(logits, logits_of([1, 2, 3, 4, PROBES[0]]))
    assert sequence.num_fed - fed == 1


def test_probes_take_only_the_positions_that_are_left() -> None:
    cache, _ = start(max_positions=6)
    found = cache.next_logits([1, 2, 3], [[], [4], [5, 6], [7, 8, 9]], PROBES)
    assert [len(own) for own in found.of_path] == [1, 1, 1, 0]  # four rows behind the text [1, 2]
    found = cache.next_logits([1, 2, 3], [[4]], PROBES)
    assert [len(own) for own in found.of_path] == [3]


def test_leaves_come_before_probes_where_there_is_not_room_for_all() -> None:
    cache, sequence = start()
    paths = [[i % VOCAB_SIZE] * (1 + i // VOCAB_SIZE) for i in range(MAX_ROWS - 5)]
    found = cache.next_logits([1, 2, 3], paths, PROBES)
    assert all(own for own in found.of_path)
    assert sum(len(own) - 1 for own in found.of_path) == 4
    assert len(sequence.row_tokens) == MAX_ROWS - 4
