"""What an engine has done and what it holds, as values to be read from any thread.

Counters bear vLLM's names and meanings where it has them. Knows nothing of how they are exported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from outrider_cloud.pages import PageUsage
from outrider_cloud.scheduler import Offer
from outrider_cloud.shadow import ShadowStats


@dataclass(slots=True)
class EngineCounters:
    """Sums since the engine was made; they only grow.

    Attributes:
        num_passes: forward passes.
        num_rows: rows that they computed.
        num_tokens: tokens that were committed.
        pass_s: seconds that passes took.
        num_drafts: passes of a session that checked draft nodes.
        num_draft_tokens: draft nodes that were checked.
        num_accepted_tokens: draft nodes that were committed.
        num_own_guesses: guesses of the verifier's own that were checked.
        num_right_own_guesses: those of them that were committed.
        num_prefix_tokens: tokens before the frontier of sessions that were let in.
        num_prefix_hits: those of them that were cached already.
        num_preemptions: sessions that had to make room for older ones.
    """

    num_passes: int = 0
    num_rows: int = 0
    num_tokens: int = 0
    pass_s: float = 0.0
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_own_guesses: int = 0
    num_right_own_guesses: int = 0
    num_prefix_tokens: int = 0
    num_prefix_hits: int = 0
    num_preemptions: int = 0

    def add_pass(self, num_rows: int, num_tokens: int, seconds: float) -> None:
        """One more pass."""
        self.num_passes += 1
        self.num_rows += num_rows
        self.num_tokens += num_tokens
        self.pass_s += seconds

    def snapshot(self) -> "EngineCounters":
        """The sums as they are now."""
        return replace(self)


@dataclass(frozen=True, slots=True)
class EngineHoldings:
    """What an engine holds at one moment.

    Attributes:
        num_running: sessions that run.
        num_waiting: sessions that wait for room.
        pages: what the pages of the KV cache are used for.
        offer: what edges were told last.
    """

    num_running: int
    num_waiting: int
    pages: PageUsage
    offer: Offer

    @property
    def kv_cache_usage(self) -> float:
        """The share of the pages that sessions hold."""
        return self.pages.num_held / self.pages.num_pages


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An engine at one moment.

    Attributes:
        counters: what it has done.
        shadow: what the shadow decode has found.
        num_running: sessions that run.
        num_waiting: sessions that wait for room.
        pages: what the pages of the KV cache are used for.
        num_held_tokens: tokens of text that sessions hold in the cache, shared ones counted once.
        page_tokens: tokens that a page has room for.
        bytes_per_page: keys and values of all layers.
    """

    counters: EngineCounters
    shadow: ShadowStats
    num_running: int
    num_waiting: int
    pages: PageUsage
    num_held_tokens: int
    page_tokens: int
    bytes_per_page: int

    @property
    def kv_bytes_held(self) -> int:
        """Memory of the pages that sessions hold."""
        return self.pages.num_held * self.bytes_per_page


def num_held_tokens(
    lengths: Sequence[int], page_tables: Sequence[Sequence[int]], page_tokens: int
) -> int:
    """Tokens of text in the pages of several sequences, those of a shared page counted once."""
    in_page: dict[int, int] = {}
    for length, pages in zip(lengths, page_tables, strict=True):
        for index, page in enumerate(pages):
            tokens = min(max(length - index * page_tokens, 0), page_tokens)
            in_page[page] = max(in_page.get(page, 0), tokens)
    return sum(in_page.values())
