"""Memory that is given back while its array stays."""

import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.returned_memory import ReturnedMemory

PAGE = mmap.PAGESIZE


def resident_kib(memory: ReturnedMemory) -> int:
    """What the system holds of an array, by its own account."""
    address = memory.array.ctypes.data
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        begin, _, rest = line.partition("-")
        if rest and int(begin, 16) <= address < int(rest.split()[0], 16):
            return next(int(one.split()[1]) for one in lines if one.startswith("Rss:"))
    raise AssertionError("there is no such memory")


def test_what_was_never_written_to_costs_nothing_and_what_is_given_back_is_returned() -> None:
    memory = ReturnedMemory((4, 64 * PAGE), np.uint8)
    before = resident_kib(memory)
    memory.array[1] = 7
    written = resident_kib(memory)
    memory.give_back(memory.array[1])
    assert written - before >= 64 * PAGE // 1024
    assert resident_kib(memory) <= written - 64 * PAGE // 1024
    assert not memory.array.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_it_is_an_array_of_zeros_of_any_kind(dtype: type) -> None:
    array = ReturnedMemory((2, 3, 5), dtype).array  # and keeps its memory
    assert array.shape == (2, 3, 5)
    assert array.dtype == dtype
    assert not array.any()
    array[...] = 1
    assert array.sum() == 30


@given(rows=st.integers(1, 6), columns=st.integers(1, 3 * PAGE), data=st.data())
def test_nothing_but_the_piece_is_forgotten(rows: int, columns: int, data: st.DataObject) -> None:
    memory = ReturnedMemory((rows, columns), np.uint8)
    memory.array[...] = 1
    row = data.draw(st.integers(0, rows - 1))
    begin = data.draw(st.integers(0, columns - 1))
    piece = memory.array[row, begin:]
    memory.give_back(piece)
    assert piece.sum() <= 2 * (PAGE - 1)  # whole pages go
    piece[...] = 1
    assert memory.array.all()
