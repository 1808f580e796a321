"""A text that grows, as it was at one moment, without a copy.

Knows tokens only.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload


class GrowingText(Sequence[int]):
    """The tokens that a list holds now, also when it has grown later.

    Of two such texts it is known without a look at their tokens whether one goes on where the other
    ends. That makes following a text of 8,192 tokens as cheap as following one of eight.

    Args:
        tokens: nothing in it may be changed or dropped from now on; it may only grow.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._length = len(tokens)

    def is_of_the_list_of(self, other: object) -> bool:
        """Whether both are beginnings of one list, so that the longer one begins with the other."""
        return isinstance(other, GrowingText) and other._tokens is self._tokens

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return islice(self._tokens, self._length)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        """A token, or a list of some."""
        places = range(self._length)[index]
        if isinstance(places, int):
            return self._tokens[places]
        if places.step == 1:
            return list(self._tokens[places.start : places.stop])
        return [self._tokens[place] for place in places]
