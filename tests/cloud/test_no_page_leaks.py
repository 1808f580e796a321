"""Thousands of random sessions on one engine: every text exact, and every page given back.

The engine is stepped by hand, over a target without a model whose pages hold real tokens. Nothing
depends on the time that passes take, so a seed that fails fails again.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.pass_cost import PassCost
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.synthetic_target import SyntheticPass, SyntheticTarget
from outrider_cloud.target import Segment
from outrider_common.errors import CapacityError, OutriderError
from outrider_common.messages import FinishReason, Limits, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, guess, next_token
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree

SPEC = SyntheticSpec(vocab=100, c0_s=0, c1_s=0)
PAGE_TOKENS = 16
MAX_PROMPT_TOKENS = 200
MAX_OUTSTANDING = 24


class CheckedTarget(SyntheticTarget):
    """Fails if a page that a pass writes to is anyone else's, too; and now and then by chance.

    Args:
        num_pages: of the KV cache.
        failure_chance: of each pass.
    """

    def __init__(self, num_pages: int, failure_chance: float) -> None:
        super().__init__(SPEC, num_pages, PAGE_TOKENS)
        self.written_by_two: list[int] = []
        self._failure_chance = failure_chance
        self._chance = random.Random(num_pages)

    def begin(self, segments: Sequence[Segment]) -> SyntheticPass:
        num_holders = Counter(page for segment in segments for page in segment.pages)
        for segment in segments:
            end = segment.length + len(segment.rows.tokens)
            written = segment.pages[segment.length // PAGE_TOKENS : pages_of(end)]
            self.written_by_two += [page for page in written if num_holders[page] > 1]
        if self._chance.random() < self._failure_chance:
            raise MemoryError("no room")
        return super().begin(segments)


class FreeRows(PassCost):
    """Learns nothing of time, so that every draft is worth a row in every run of a test."""

    def observe(self, num_rows: int, seconds: float) -> None:
        pass


def make_engine(target: SyntheticTarget, max_running: int = 24) -> BatchingEngine:
    return BatchingEngine(
        target,
        PackingScheduler(
            PackingLimits(
                rows_per_pass=256,
                max_nodes_per_session=16,
                prefill_chunk_tokens=96,
                max_credit=MAX_OUTSTANDING,
                max_draft_wait_s=0.0,
            ),
            cost=FreeRows(),
        ),
        model="synthetic",
        tokenizer_fingerprint="v1:synthetic",
        limits=Limits(
            max_message_bytes=2**20,
            max_outstanding_nodes=MAX_OUTSTANDING,
            committed_id_window=32,
            max_sessions=max_running,
        ),
        max_waiting_sessions=24,
    )


class Edge:
    """One session's client: checks every token that it is told, drafts, and may cancel.

    Args:
        engine: where it opens its session.
        prefix: the prompt, and what was committed before if the session is resumed.
        num_prompt_tokens: how many tokens of the prefix are the prompt.
        max_tokens: the most tokens after the prompt.
        chance: decides what it does.
    """

    def __init__(
        self,
        engine: BatchingEngine,
        prefix: Sequence[int],
        num_prompt_tokens: int,
        max_tokens: int,
        chance: random.Random,
    ) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.most = min(num_prompt_tokens + max_tokens, engine.info.max_positions)
        self.tree = SpeculationTree(prefix)
        self.finish_reason: FinishReason | None = None
        self.has_failed = False
        self.is_cancelled = False
        self._chance = chance
        self._drafter = replace(SPEC, acceptance=chance.choice([0.0, 0.5, 0.8, 1.0]))
        message = OpenSession(
            prefix=tuple(prefix),
            num_prompt_tokens=num_prompt_tokens,
            max_tokens=max_tokens,
            sampling=SamplingParams(temperature=chance.choice([0.0] * 9 + [1.0])),
            tokenizer_fingerprint="v1:synthetic",
        )
        self.session = engine.open(message, self._receive)

    @property
    def length(self) -> int:
        """Tokens of the text."""
        return self.tree.num_committed

    @property
    def is_over(self) -> bool:
        """Whether its session has ended."""
        return self.finish_reason is not None or self.has_failed

    def act(self) -> None:
        """Draft a chain or a branch somewhere, or do nothing, or cancel."""
        if self._chance.random() < 0.004:
            self.cancel()
        elif self._chance.random() < 0.5:
            self._draft(self._chance.randrange(1, 9))

    def cancel(self) -> None:
        self.is_cancelled = True
        self.session.cancel()

    def _draft(self, num_nodes: int) -> None:
        parent = self._chance.choice([self.tree.frontier, *self.tree.nodes()])
        text = [*self.tree.tokens, *(node.token for node in parent.path())]
        name = AtNode(parent.ids[0]) if parent.parent else AtPosition(parent.position)
        nodes: list[DraftNode] = []
        coin_seed = self._chance.randrange(2**32)  # another for each draft, so that branches differ
        room = MAX_OUTSTANDING - self.tree.num_outstanding
        for node_id in range(self.tree.last_id + 1, self.tree.last_id + 1 + min(num_nodes, room)):
            text.append(guess(self._drafter, text, coin_seed))
            nodes.append(DraftNode(node_id, text[-1], name))
            name = AtNode(node_id)
        self.tree.extend(nodes)
        self.session.extend(nodes)

    def _receive(self, event: EngineEvent) -> None:
        assert not self.is_over, "an event after the last"
        if isinstance(event, OutriderError):
            self.has_failed = True
            return
        assert event.start == self.length
        for token in event.tokens:
            assert token == next_token(SPEC, self.tree.tokens)
            self.tree.commit(self.length, [token])
        self.finish_reason = event.finish_reason
        if self.finish_reason is FinishReason.CANCELLED:
            assert self.is_cancelled
        else:
            assert (self.finish_reason is FinishReason.LENGTH) == (self.length == self.most)


def pages_of(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS)


def check_pages(engine: BatchingEngine, open_edges: Sequence[Edge], num_pages: int) -> None:
    """Between two passes every held page is some session's, and no session has a page too many.

    A text of n tokens has its frontier uncached, so it needs at most ceil((n - 1) / page_tokens)
    pages, whatever its drafts; those held are at most the sum over the open sessions.
    """
    usage = engine.stats.pages
    assert usage.num_pages == num_pages
    assert usage.num_held == len({page for edge in open_edges for page in edge.session.pages})
    for edge in open_edges:
        assert len(edge.session.pages) == pages_of(edge.session.num_cached_tokens)
        assert edge.session.num_cached_tokens < edge.length
    assert usage.num_held <= sum(pages_of(edge.length - 1) for edge in open_edges)


class Crowd:
    """Opens sessions on an engine at random, lets them act, and looks at the pages all the time.

    Args:
        engine: runs them.
        num_pages: of its KV cache.
        chance: decides everything.
    """

    def __init__(self, engine: BatchingEngine, num_pages: int, chance: random.Random) -> None:
        self.num_resumed = 0
        self.num_cancelled = 0
        self.num_failed = 0
        self._engine = engine
        self._num_pages = num_pages
        self._chance = chance
        self._stems = [self._tokens(chance.randrange(1, 180)) for _ in range(8)]
        self._open_edges: list[Edge] = []
        self._ended: list[Edge] = []
        self._num_opened = 0

    def run(self, num_sessions: int) -> None:
        """Until so many sessions were opened, and all have ended."""
        for _ in range(200 * num_sessions):
            self._arrive(num_sessions)
            for edge in self._open_edges:
                edge.act()
            worked = self._engine.step()
            self._part()
            check_pages(self._engine, self._open_edges, self._num_pages)
            if not self._open_edges and self._num_opened == num_sessions:
                return
            assert worked or not self._open_edges, "the engine stands still"
        raise AssertionError(f"{len(self._open_edges)} sessions never came to an end")

    def _arrive(self, num_sessions: int) -> None:
        for _ in range(min(self._chance.randrange(6), num_sessions - self._num_opened)):
            try:
                self._open_edges.append(self._new_edge())
            except CapacityError:
                return
            self._num_opened += 1

    def _new_edge(self) -> Edge:
        if self._ended and self._chance.random() < 0.15:
            return self._resumed(self._ended.pop(self._chance.randrange(len(self._ended))))
        prompt = self._prompt()
        return Edge(self._engine, prompt, len(prompt), self._chance.randrange(1, 25), self._chance)

    def _resumed(self, before: Edge) -> Edge:
        num_more = self._chance.randrange(1, 25)
        max_tokens = before.length - before.num_prompt_tokens + num_more
        edge = Edge(
            self._engine, before.tree.tokens, before.num_prompt_tokens, max_tokens, self._chance
        )
        self.num_resumed += 1
        return edge

    def _prompt(self) -> list[int]:
        if self._chance.random() < 0.01:
            return self._tokens(self._engine.info.max_positions - 1)  # barely fits
        stem = self._chance.choice(self._stems) if self._chance.random() < 0.7 else []
        rest = self._tokens(self._chance.randrange(1, MAX_PROMPT_TOKENS + 1 - len(stem)))
        return [*stem, *rest]

    def _tokens(self, count: int) -> list[int]:
        return self._chance.choices(range(SPEC.vocab), k=count)

    def _part(self) -> None:
        ended = [edge for edge in self._open_edges if edge.is_over]
        self._open_edges = [edge for edge in self._open_edges if not edge.is_over]
        self.num_cancelled += sum(edge.is_cancelled for edge in ended)
        self.num_failed += sum(edge.has_failed for edge in ended)
        self._ended += [edge for edge in ended if edge.length < self._engine.info.max_positions]
        del self._ended[:-50]


@pytest.mark.parametrize(
    ("num_pages", "failure_chance", "seed"),
    [(20, 0, 1), (20, 0, 2), (40, 0, 3), (120, 0, 4), (1000, 0, 5), (60, 0.02, 6)],
)
def test_after_thousands_of_random_sessions_every_page_is_free(
    num_pages: int, failure_chance: float, seed: int
) -> None:
    target = CheckedTarget(num_pages, failure_chance)
    engine = make_engine(target)
    crowd = Crowd(engine, num_pages, random.Random(seed))
    crowd.run(600)

    stats = engine.stats
    assert stats.pages.num_held == 0
    assert stats.pages.num_cached + stats.pages.num_free == num_pages
    assert (engine.num_sessions, stats.num_running, stats.num_waiting) == (0, 0, 0)
    assert stats.num_held_tokens == 0
    assert not target.written_by_two

    counters = stats.counters  # was the crowd as wild as it should be?
    assert min(crowd.num_resumed, crowd.num_cancelled) > 20
    assert min(counters.num_prefix_hits, counters.num_accepted_tokens) > 1000
    assert (counters.num_preemptions > 0) == (num_pages < 1000)
    assert (crowd.num_failed > 0) == (failure_chance > 0)


def test_a_thousand_sessions_hold_the_pages_of_their_common_prompt_once() -> None:
    """There is room for the 62 full pages of the prompt, and two of its own for each session."""
    chance = random.Random(7)
    common = chance.choices(range(SPEC.vocab), k=1000)
    num_common_pages = len(common) // PAGE_TOKENS
    engine = make_engine(SyntheticTarget(SPEC, num_common_pages + 2000), max_running=1000)
    prompts = [[*common, *chance.choices(range(SPEC.vocab), k=1 + i % 10)] for i in range(1000)]
    edges = [Edge(engine, prompt, len(prompt), 8, chance) for prompt in prompts]

    most_running = 0
    while open_edges := [edge for edge in edges if not edge.is_over]:
        assert engine.step()
        stats = engine.stats
        most_running = max(most_running, stats.num_running)
        own_tokens = (edge.length - 1 - num_common_pages * PAGE_TOKENS for edge in open_edges)
        assert stats.pages.num_held <= num_common_pages + sum(map(pages_of, own_tokens))
        beginnings = {page for edge in edges for page in edge.session.pages[:num_common_pages]}
        assert len(beginnings) <= num_common_pages

    counters = engine.stats.counters
    assert most_running > 900
    assert engine.stats.pages.num_held == counters.num_preemptions == 0
    num_own_tokens = sum(len(prompt) - 1 - num_common_pages * PAGE_TOKENS for prompt in prompts)
    num_computed = counters.num_prefix_tokens - counters.num_prefix_hits
    assert num_computed == num_common_pages * PAGE_TOKENS + num_own_tokens
