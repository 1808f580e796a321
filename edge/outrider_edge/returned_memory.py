"""Arrays of zeros whose memory goes back to the system piece by piece, while the array stays.

Memory that was never written to costs nothing, and what was given back is zeros again. Knows
nothing of what is in an array.
"""

import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_PAGE: Final = mmap.PAGESIZE
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class ReturnedMemory:
    """One array.

    Args:
        shape: of the array; it has one element at least.
        dtype: likewise.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._map = mmap.mmap(-1, num_bytes, flags=_PRIVATE)
        self._array = np.frombuffer(self._map, dtype).reshape(shape)
        self._begin = self._array.ctypes.data

    @property
    def array(self) -> NDArray[Any]:
        """The array."""
        return self._array

    def give_back(self, piece: NDArray[Any]) -> None:
        """Have a part of the array forgotten, as far as whole pages go; others may not use it now.

        Args:
            piece: a view of the array without gaps.
        """
        begin = piece.ctypes.data - self._begin
        first = -(-begin // _PAGE) * _PAGE
        end = (begin + piece.nbytes) // _PAGE * _PAGE
        if first < end:
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)
