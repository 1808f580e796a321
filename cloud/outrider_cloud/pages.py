"""The pages of the KV cache: who holds which, and which are kept in case their text comes again.

Pure accounting: a page is a number here. A page full of text can be published under a key; a
sequence that begins with the same text shares it. Published pages that nobody holds stay until
their room is needed, the least recently used first. Knows nothing of tensors or tokens.
"""

import hashlib
import secrets
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from outrider_common.errors import ConfigError

_DIGEST_BYTES: Final = 16
_TOKEN_TYPE: Final = "q"  # eight bytes, in the order of this machine: keys stay in the process


@dataclass(frozen=True, slots=True)
class PageUsage:
    """How many pages are used for what; the three make up the whole.

    Attributes:
        num_held: pages that sequences hold, a shared one counted once.
        num_cached: pages that nobody holds, kept because their text may come again.
        num_free: pages without content.
    """

    num_held: int
    num_cached: int
    num_free: int

    @property
    def num_pages(self) -> int:
        """All pages."""
        return self.num_held + self.num_cached + self.num_free


class PagePool:
    """Pages 0 to num_pages - 1. A page is held by any number of sequences, or by none.

    Args:
        num_pages: how many there are: the hard limit of the memory.
        page_tokens: tokens that a page has room for.
        shares: sequences that begin alike share pages; else nothing is published.

    Raises:
        ConfigError: an argument is below 1.
    """

    def __init__(self, num_pages: int, page_tokens: int, *, shares: bool = True) -> None:
        if num_pages < 1 or page_tokens < 1:
            raise ConfigError(
                f"The KV cache has {num_pages} pages of {page_tokens} tokens; give it at least "
                "one page: raise verifier.kv_cache_mib."
            )
        self.page_tokens = page_tokens
        self.shares = shares
        self._num_holders = [0] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))  # the next one to hand out is the last
        self._cached: dict[int, None] = {}  # the least recently used first
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    @property
    def num_tokens(self) -> int:
        """Tokens that all pages together have room for."""
        return len(self._num_holders) * self.page_tokens

    @property
    def num_available(self) -> int:
        """Pages that `allocate` can hand out."""
        return len(self._free) + len(self._cached)

    @property
    def usage(self) -> PageUsage:
        """What the pages are used for."""
        num_held = len(self._num_holders) - self.num_available
        return PageUsage(num_held, len(self._cached), len(self._free))

    def allocate(self) -> int | None:
        """A page to write on, held once; None if all are held."""
        if not self._free:
            self._evict()
        if not self._free:
            return None
        page = self._free.pop()
        self._num_holders[page] = 1
        return page

    def find(self, key: bytes) -> bool:
        """Whether a page is published under a key."""
        return key in self._page_of

    def share(self, key: bytes) -> int | None:
        """Hold the page that is published under a key once more; None if there is none."""
        page = self._page_of.get(key)
        if page is not None:
            self._cached.pop(page, None)
            self._num_holders[page] += 1
        return page

    def publish(self, page: int, key: bytes) -> int:
        """Offer a held page, never to be written again, to whoever asks for the key.

        Returns:
            The page that is published under the key: the given one, or another that was published
            before. Then the given one is released, and the other is held in its place.
        """
        if not self.shares:
            return page
        other = self._page_of.setdefault(key, page)
        if other == page:
            self._key_of[page] = key
            return page
        self.share(key)
        self.release(page)
        return other

    def release(self, page: int) -> None:
        """Hold a page once less; unless it is published, it is free when nobody holds it."""
        self._num_holders[page] -= 1
        if self._num_holders[page] > 0:
            return
        if page in self._key_of:
            self._cached[page] = None
        else:
            self._free.append(page)

    def _evict(self) -> None:
        page = next(iter(self._cached), None)
        if page is not None:
            del self._cached[page]
            del self._page_of[self._key_of.pop(page)]
            self._free.append(page)


class PageKeys:
    """The keys of a text's pages: each is a digest of the whole text up to the page's end.

    Keyed with a secret of this process, so that nobody outside can look for two texts with the
    same key.

    Args:
        text: the tokens; it may grow at its end while this is in use.
        page_tokens: tokens of a page.
        realm: sequences of different realms never share pages.
    """

    _SECRET: Final = secrets.token_bytes(_DIGEST_BYTES)

    def __init__(self, text: Sequence[int], page_tokens: int, realm: str = "") -> None:
        self._text = text
        self._page_tokens = page_tokens
        self._root = self._digest(realm.encode())
        self._keys: list[bytes] = []

    def __getitem__(self, index: int) -> bytes:
        """The key of page `index`, which lies within the text."""
        self.know(index + 1)
        return self._keys[index]

    def know(self, num_pages: int) -> None:
        """Compute the keys of the first pages, which lie within the text, unless they are known."""
        while len(self._keys) < num_pages:
            start = len(self._keys) * self._page_tokens
            tokens = self._text[start : start + self._page_tokens]
            assert len(tokens) == self._page_tokens, "a page has no key before its text is known"
            before = self._keys[-1] if self._keys else self._root
            self._keys.append(self._digest(before + array(_TOKEN_TYPE, tokens).tobytes()))

    def upto(self, num_tokens: int, start: int = 0) -> Iterator[bytes]:
        """The keys of the pages from `start` on that the first tokens fill."""
        return (self[index] for index in range(start, num_tokens // self._page_tokens))

    def _digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=self._SECRET).digest()
