"""The pool of pages: nothing is held twice by mistake, lost, or handed out while it is held."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outrider_cloud.pages import PageKeys, PagePool
from outrider_common.errors import ConfigError

NUM_PAGES = 6


class AnyHistory(RuleBasedStateMachine):
    """Allocates, publishes, shares and releases at random, beside a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(NUM_PAGES, 4)
        self.held: list[int] = []  # one entry for each time that a page is held
        self.published: dict[int, bytes] = {}  # what the pool may still know

    @rule()
    def allocate(self) -> None:
        page = self.pool.allocate()
        if page is None:
            assert len(set(self.held)) == NUM_PAGES
            return
        assert page not in self.held
        self.published.pop(page, None)
        self.held.append(page)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), key=st.sampled_from([b"a", b"b", b"c"]))
    def publish(self, data: st.DataObject, key: bytes) -> None:
        page = data.draw(st.sampled_from(self.held))
        if page in self.published or self.held.count(page) > 1:
            return  # nobody publishes a page again, or one that others have got already
        known = [p for p, k in self.published.items() if k == key]
        now = self.pool.publish(page, key)
        assert now == (known[0] if known else page)
        self.held.remove(page)
        self.held.append(now)
        self.published[now] = key

    @rule(key=st.sampled_from([b"a", b"b", b"c"]))
    def share(self, key: bytes) -> None:
        known = [page for page, k in self.published.items() if k == key]
        assert self.pool.find(key) == bool(known)
        page = self.pool.share(key)
        assert page == (known[0] if known else None)
        if page is not None:
            self.held.append(page)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(self.held))
        self.held.remove(page)
        self.pool.release(page)

    @invariant()
    def counts_agree(self) -> None:
        usage = self.pool.usage
        assert usage.num_held == len(set(self.held))
        assert usage.num_cached == len(set(self.published) - set(self.held))
        assert usage.num_pages == NUM_PAGES
        assert self.pool.num_available == NUM_PAGES - usage.num_held


TestAnyHistory = AnyHistory.TestCase


def test_the_page_that_was_used_least_recently_is_evicted_first() -> None:
    pool = PagePool(3, 4)
    pages = [pool.allocate() for _ in range(3)]
    for page, key in zip(pages, (b"a", b"b", b"c"), strict=True):
        assert page is not None
        pool.publish(page, key)
        pool.release(page)
    again = pool.share(b"a")
    assert again is not None
    pool.release(again)
    pool.allocate()
    assert [pool.find(key) for key in (b"a", b"b", b"c")] == [True, False, True]


def test_a_page_that_was_published_before_takes_the_place_of_an_equal_one() -> None:
    pool = PagePool(3, 4)
    first, second = pool.allocate(), pool.allocate()
    assert first is not None
    assert second is not None
    assert pool.publish(first, b"a") == first
    assert pool.publish(second, b"a") == first
    assert pool.usage.num_held == 1
    pool.release(first)
    assert pool.usage.num_held == 1
    pool.release(first)
    assert pool.usage.num_held == 0


@pytest.mark.parametrize(("num_pages", "page_tokens"), [(0, 16), (3, 0)])
def test_a_pool_without_room_is_refused(num_pages: int, page_tokens: int) -> None:
    with pytest.raises(ConfigError, match="kv_cache_mib"):
        PagePool(num_pages, page_tokens)


TEXTS = st.lists(st.integers(0, 2), min_size=12, max_size=12)


@given(first=TEXTS, second=TEXTS)
def test_keys_are_equal_exactly_as_far_as_the_texts_are(
    first: list[int], second: list[int]
) -> None:
    keys = [list(PageKeys(text, 3).upto(12)) for text in (first, second)]
    equal = [first[: 3 * (i + 1)] == second[: 3 * (i + 1)] for i in range(4)]
    assert [a == b for a, b in zip(*keys, strict=True)] == equal


def test_keys_follow_a_text_that_grows() -> None:
    text = [1, 2, 3, 4]
    keys = PageKeys(text, 3)
    before = list(keys.upto(4))
    text += [5, 6, 7]
    assert list(keys.upto(7)) == [*before, keys[1]]
    assert list(keys.upto(7, 1)) == [keys[1]]


def test_realms_share_nothing() -> None:
    keys = {realm: PageKeys([1, 2, 3], 3, realm)[0] for realm in ("", "a", "b")}
    assert Counter(keys.values()).most_common(1)[0][1] == 1


def test_a_pool_that_does_not_share_publishes_nothing() -> None:
    pool = PagePool(2, 4, shares=False)
    page = pool.allocate()
    assert page is not None
    assert pool.publish(page, b"key") == page
    assert not pool.find(b"key")
    assert pool.share(b"key") is None
    pool.release(page)
    assert pool.usage.num_cached == 0
