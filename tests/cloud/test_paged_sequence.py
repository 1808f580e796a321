"""Page tables: every token is where the table says, whatever was kept, shared and released."""

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_cloud.paged_sequence import PagedSequence
from outrider_cloud.pages import PageKeys, PagePool

PAGE = 4
NUM_PAGES = 24


class Memory:
    """The slots of a cache, and the sequences that share them."""

    def __init__(self) -> None:
        self.pool = PagePool(NUM_PAGES, PAGE)
        self.slots = [-1] * (NUM_PAGES * PAGE)

    def sequence(self, text: list[int]) -> PagedSequence:
        return PagedSequence(self.pool, PageKeys(text, PAGE))

    def read(self, sequence: PagedSequence) -> list[int]:
        return [self.slots[self.slot(sequence, i)] for i in range(sequence.length)]

    def write(self, sequence: PagedSequence, rows: list[int]) -> None:
        for i, token in enumerate(rows):
            self.slots[self.slot(sequence, sequence.length + i)] = token

    def slot(self, sequence: PagedSequence, position: int) -> int:
        return sequence.pages[position // PAGE] * PAGE + position % PAGE

    def keep(self, sequence: PagedSequence, offsets: list[int]) -> None:
        for move in sequence.keep(offsets):
            self.slots[move.destination] = self.slots[move.source]


@settings(max_examples=300)
@given(data=st.data())
def test_after_any_history_every_sequence_holds_its_own_text(data: st.DataObject) -> None:
    memory = Memory()
    texts: list[list[int]] = [[], [], []]
    sequences = [memory.sequence(text) for text in texts]
    for _ in range(data.draw(st.integers(1, 25))):
        i = data.draw(st.integers(0, 2))
        text, sequence = texts[i], sequences[i]
        if data.draw(st.integers(0, 7)) == 0:
            sequence.release()
            text.clear()  # its keys would remember it, so this is another sequence
            sequences[i] = memory.sequence(text)
            continue
        rows = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=9))
        kept = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True).map(sorted))
        if not sequence.reserve(len(rows)):
            continue
        memory.write(sequence, rows)
        text += [rows[offset] for offset in kept]
        memory.keep(sequence, kept)
        for text, sequence in zip(texts, sequences, strict=True):
            assert memory.read(sequence) == text
            assert len(sequence.pages) == -(-len(text) // PAGE)
    for sequence in sequences:
        sequence.release()
    assert memory.pool.usage.num_held == 0


def test_rows_that_are_kept_in_their_places_are_not_copied() -> None:
    memory = Memory()
    text = [1, 2, 3]
    sequence = memory.sequence(text)
    sequence.reserve(5)
    assert sequence.keep([0, 1, 2]) == []


def test_a_page_is_adopted_only_if_it_is_full_of_the_same_text() -> None:
    memory = Memory()
    first = memory.sequence([1, 2, 3, 4, 5, 6, 7, 8, 9])
    first.reserve(9)
    memory.write(first, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    first.keep(range(9))
    second = memory.sequence([1, 2, 3, 4, 5, 6, 7, 0, 9])
    assert second.num_missing(9) == 2
    assert second.adopt(9) == PAGE
    assert list(second.pages) == list(first.pages[:1])
    same = memory.sequence([1, 2, 3, 4, 5, 6, 7, 8])
    assert same.adopt(7) == PAGE  # the second page would hold the frontier, too
    assert memory.pool.usage.num_held == 3


def test_without_room_nothing_is_reserved() -> None:
    memory = Memory()
    first, second = memory.sequence([]), memory.sequence([])
    assert first.reserve(NUM_PAGES * PAGE - 3)
    assert not second.reserve(1)
    assert second.pages == []
    assert first.room == NUM_PAGES * PAGE
    assert second.room == 0


def test_what_is_released_stays_until_its_room_is_needed_the_end_of_the_text_goes_first() -> None:
    memory = Memory()
    text = list(range(12))
    first = memory.sequence(text)
    first.reserve(12)
    first.keep(range(12))
    first.release()
    assert memory.sequence(text).num_missing(13) == 1
    other = memory.sequence([])
    other.reserve((NUM_PAGES - 2) * PAGE)
    assert memory.sequence(text).num_missing(13) == 2


def test_the_next_page_has_a_key_only_if_prefill_fills_it() -> None:
    memory = Memory()
    text = [1, 2, 3, 4, 5]
    sequence = memory.sequence(text)
    keys = PageKeys(text, PAGE)
    assert sequence.next_key(4) == keys[0]
    assert sequence.next_key(3) is None
    sequence.reserve(2)
    sequence.keep(range(2))
    assert not sequence.is_aligned
    assert sequence.next_key(4) == keys[0]
