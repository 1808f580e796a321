"""Slots of KV memory: what is free costs nothing, but for the first, and nobody else is touched."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.kv_slots import KvSlots
from outrider_models.bundle import KvLayout

LAYOUT = KvLayout(num_layers=2, num_kv_heads=1, head_size=64)
NO_SESSION: Any = None  # nothing is computed here


def test_a_slot_that_is_free_gives_its_memory_back() -> None:
    slots = KvSlots(NO_SESSION, LAYOUT, 512)
    first, second = slots.take(), slots.take()
    for slot in (first, second):
        slots.cache(slot)[...] = 1
    slots.give(second)
    assert not slots.cache(second).any()
    assert slots.cache(first).all()


def test_the_first_slot_stays_as_it_is_for_who_comes_next() -> None:
    slots = KvSlots(NO_SESSION, LAYOUT, 512)
    slots.cache(slots.take())[...] = 1
    slots.give(0)
    assert slots.cache(0).all()
    assert slots.take() == 0


@given(st.lists(st.integers(-1, 7), max_size=30))
def test_a_slot_keeps_what_was_written_until_it_is_given(deeds: list[int]) -> None:
    """Any order of taking (-1) and giving, and of the growing that comes with it."""
    slots = KvSlots(NO_SESSION, LAYOUT, 512)
    written: dict[int, int] = {}
    for number, deed in enumerate(deeds, start=1):
        if deed in written:
            del written[deed]
            slots.give(deed)
        elif deed < 0 and len(written) < 8:
            slot = slots.take()
            assert slot not in written
            written[slot] = number
            slots.cache(slot)[...] = number
        assert all((slots.cache(slot) == value).all() for slot, value in written.items())
