"""The page table of one sequence: where in the paged KV cache its tokens are.

Token i stands in page `pages[i // page_tokens]`. A pass writes its rows behind the text; what is
kept of them becomes text, and the rest is written over. Pure accounting: what has to be copied is
returned as moves. Knows nothing of tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from outrider_cloud.pages import PageKeys, PagePool


@dataclass(frozen=True, slots=True)
class Move:
    """Copy the keys and values of one slot, `page * page_tokens + offset`, to another."""

    source: int
    destination: int


class PagedSequence:
    """Holds pages of a pool for the text of one session.

    Args:
        pool: where the pages come from.
        keys: of the session's text, under which full pages are shared.
    """

    def __init__(self, pool: PagePool, keys: PageKeys) -> None:
        self._pool = pool
        self._keys = keys
        self._pages: list[int] = []
        self._length = 0
        self._num_published = 0

    @property
    def pages(self) -> Sequence[int]:
        """The page table. The sequence's own list: read it, never change it."""
        return self._pages

    @property
    def length(self) -> int:
        """How many tokens of text are cached."""
        return self._length

    @property
    def room(self) -> int:
        """How many rows a pass could write now, at most, if no one else took a page."""
        return self._spare + self._pool.num_available * self._pool.page_tokens

    def next_key(self, num_tokens: int) -> bytes | None:
        """The key of the page that is computed next, if the first tokens fill it, and to share."""
        index = self._length // self._pool.page_tokens
        is_filled = (index + 1) * self._pool.page_tokens <= num_tokens
        return self._keys[index] if is_filled and self._pool.shares else None

    @property
    def is_aligned(self) -> bool:
        """Whether the text ends with a page, so that the next one could be shared."""
        return not self._spare

    def num_missing(self, num_tokens: int) -> int:
        """How many pages so many tokens need beside those held here and those to share."""
        num_pages = -(-num_tokens // self._pool.page_tokens)
        num_there = len(self._pages)
        if self.is_aligned:
            keys = self._keys.upto(num_tokens - 1, num_there)
            num_there += sum(1 for _ in takewhile(self._pool.find, keys))
        return max(num_pages - num_there, 0)

    def adopt(self, num_tokens: int) -> int:
        """Share pages that hold what comes next, as far as whole pages of the first tokens go.

        Returns:
            How many tokens need not be computed.
        """
        if not self.is_aligned:
            return 0
        before = self._length
        for key in self._keys.upto(num_tokens, len(self._pages)):
            page = self._pool.share(key)
            if page is None:
                break
            self._pages.append(page)
            self._num_published += 1
        self._length = len(self._pages) * self._pool.page_tokens
        return self._length - before

    def reserve(self, num_rows: int) -> bool:
        """Hold pages for the rows of a pass; False, and nothing changes, if there are too few."""
        if self._spare >= num_rows:
            return True  # most often
        if num_rows > self.room:
            return False
        while self._spare < num_rows:
            page = self._pool.allocate()
            assert page is not None  # there is room
            self._pages.append(page)
        return True

    def keep(self, offsets: Sequence[int]) -> list[Move]:
        """Of the rows behind the text keep these as text, in this rising order; drop the others.

        Pages without text go back to the pool, full ones are shared with whoever has the same text.

        Returns:
            What has to be copied, one after the other, before anything is written to the cache:
            nothing for rows that are in their places.
        """
        moves = [
            Move(self._slot(self._length + offset), self._slot(self._length + place))
            for place, offset in enumerate(offsets)
            if offset != place
        ]
        self._length += len(offsets)
        self._trim()
        self._publish()
        return moves

    def release(self) -> None:
        """Give all pages back; the sequence is empty then, and may be filled again."""
        self._length = 0
        self._num_published = 0
        self._trim()

    @property
    def _spare(self) -> int:
        return len(self._pages) * self._pool.page_tokens - self._length

    def _slot(self, position: int) -> int:
        index, offset = divmod(position, self._pool.page_tokens)
        return self._pages[index] * self._pool.page_tokens + offset

    def _trim(self) -> None:
        """Give back pages without text, the last one first: so it is evicted first, too."""
        while self._spare >= self._pool.page_tokens:
            self._pool.release(self._pages.pop())

    def _publish(self) -> None:
        while (self._num_published + 1) * self._pool.page_tokens <= self._length:
            index = self._num_published
            self._pages[index] = self._pool.publish(self._pages[index], self._keys[index])
            self._num_published += 1
