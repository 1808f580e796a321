"""Rejection from end to end: edge session, wire, engine. The text has the target's distribution.

By statistical test, over links that delay both directions at random. Seeds are fixed, so a test
passes or fails for good; with other seeds each would fail by chance with a probability below
`P_LIMIT`. Edges with a known fault must fail the same test, hostile ones must not where the
verifier can know.
"""

import functools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from fake_target import VOCAB_SIZE, FakeTarget, logits_after
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.scheduler import PackingLimits, PackingScheduler, TurnScheduler
from outrider_common.acceptance import Acceptance, AcceptanceMode, SparseDistribution
from outrider_common.messages import Commit, Limits, OpenSession
from outrider_common.sampling import SamplingParams, distribution
from outrider_common.tree import DraftNode
from outrider_common.wire_nodes import NodeDecoder, NodeEncoder
from outrider_edge.drawn import drawn_draft
from outrider_edge.language_model import WIDTH
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask, Proposer
from outrider_edge.session import EdgeSession
from outrider_edge.simple_proposers import GarbageProposer, NoneProposer

P_LIMIT = 1e-6 / 20
"""Bonferroni: at most 20 tests, so that all together err with a probability below 1e-6."""

NUM_SESSIONS = 1000
NUM_TOKENS = 4
PROMPT = (1, 2, 3)
REPEATING = (5, 4, 8, 9, 5, 4)
"""What it suggests by its own example is among what the target may say; 8 with a chance of 0.9."""
LIMITS = Limits(
    max_message_bytes=4096, max_outstanding_nodes=12, committed_id_window=64, max_sessions=4
)

Outbox = Callable[[list[DraftNode]], list[DraftNode]]


def sampling(seed: int) -> SamplingParams:
    return SamplingParams(temperature=1.5, top_k=3, seed=seed)


def drafters_logits(context: Sequence[int]) -> NDArray[np.float32]:
    """The target's, disturbed: TV distances of the truncated distributions from 0.0 to 0.9."""
    disturbance = np.random.default_rng(sum(context) + len(context)).normal(0, 1.5, VOCAB_SIZE)
    return (logits_after(context) + disturbance).astype(np.float32)


@dataclass(frozen=True)
class Drawing:
    """What a language model does in the mode `rejection`, with several draws for each parent."""

    task: DraftingTask
    num_draws: ClassVar[int] = 2

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        return [self.draft([*text, *path]) for path in paths]

    def draft(self, context: list[int]) -> Draft:
        logits, sampling = drafters_logits(context), self.task.sampling
        prompt = context[: self.task.num_prompt_tokens]
        output = context[self.task.num_prompt_tokens :]
        return drawn_draft(logits, sampling, len(context), prompt, output, self.num_draws)


class DrawingOnce(Drawing):
    """One draw for each parent: a chain."""

    num_draws = 1


class DrawingAsTheProduct(Drawing):
    """As many draws as the language model makes."""

    num_draws = WIDTH


class GuessingAllOf(Drawing):
    """Deterministic guesses beside each other, as retrieval has them: nothing is drawn."""

    def draft(self, context: list[int]) -> Draft:
        best = np.argsort(-drafters_logits(context))[:3].tolist()
        return Draft(tuple(best), (CONTEXT_END,) * len(best), (0.5,) * len(best))


class Picking(DrawingOnce):
    """A fault: it takes the likeliest token instead of drawing one."""

    def draft(self, context: list[int]) -> Draft:
        draft = super().draft(context)
        source = draft.drawn_from[0]
        assert source is not None
        return replace(draft, tokens=(source.token_ids[int(np.argmax(source.weights))],))


class SayingAnother(Drawing):
    """A fault: it does not draw from what it sends."""

    def draft(self, context: list[int]) -> Draft:
        draft = super().draft(context)
        source = draft.drawn_from[0]
        assert source is not None
        flat = replace(source, weights=(1,) * len(source.weights))
        return replace(draft, drawn_from=(flat,) * len(draft.tokens))


class OutsideItsSupport(Drawing):
    """Hostile: sends tokens that could not have been drawn from what it sends."""

    def draft(self, context: list[int]) -> Draft:
        source = SparseDistribution((int(logits_after(context).argmin()),), (1,))
        best = np.argsort(-logits_after(context))[:2].tolist()
        siblings = (CONTEXT_END,) * len(best)
        return Draft(tuple(best), siblings, (0.5,) * len(best), drawn_from=(source,) * len(best))


def without_distributions(nodes: list[DraftNode]) -> list[DraftNode]:
    """Hostile: draws, and does not say from what."""
    return [replace(node, draft=None) for node in nodes]


def with_another_distribution_later(nodes: list[DraftNode]) -> list[DraftNode]:
    """Hostile: says first one thing and then, with the second child, another."""
    said: dict[object, SparseDistribution] = {}
    sent: list[DraftNode] = []
    for node in nodes:
        if node.draft is not None:
            said[node.parent] = node.draft
            sent.append(node)
        elif node.parent in said:
            flat = replace(said[node.parent], weights=(7,) * len(said[node.parent].weights))
            sent.append(replace(node, draft=flat))
        else:
            sent.append(node)
    return sent


def with_the_distribution_after_its_children(nodes: list[DraftNode]) -> list[DraftNode]:
    """Hostile: says with the second child from what the first was drawn."""
    later: dict[object, SparseDistribution] = {}
    sent: list[DraftNode] = []
    for node in nodes:
        if node.draft is not None:
            later[node.parent] = node.draft
            sent.append(replace(node, draft=None))
        else:
            sent.append(replace(node, draft=later.pop(node.parent, None)))
    return sent


class Pair:
    """One generation: an edge's session and the engine's, and the messages between them.

    Args:
        engine: the verifier's.
        make: the proposer.
        seed: of the sampling and, independently, of all delays.
        outbox: what becomes of nodes on their way.
        prompt: what the text begins with.
        own_guesses: whether the verifier may guess, too.
    """

    def __init__(
        self,
        engine: BatchingEngine,
        make: Callable[[DraftingTask], Proposer],
        seed: int,
        outbox: Outbox = list,
        prompt: tuple[int, ...] = PROMPT,
        own_guesses: bool = False,
    ) -> None:
        self.prompt = prompt
        self.sampling = sampling(seed)
        self.engine = engine
        self.outbox = outbox
        self.own_guesses = own_guesses
        self.random = random.Random(seed + 1_000_000)
        mode = AcceptanceMode.REJECTION
        self.proposer = make(DraftingTask(self.sampling, len(prompt), VOCAB_SIZE, mode))
        self.num_accepted = 0
        self.num_guessed = 0
        self.open(prompt)

    def open(self, prefix: tuple[int, ...]) -> None:
        """Begin a session on both sides."""
        self.edge = EdgeSession(
            prefix,
            max_outstanding_nodes=12,
            max_depth=4,
            max_length=len(self.prompt) + NUM_TOKENS,
            clock=lambda: 0.0,
        )
        self.downlink: deque[EngineEvent] = deque()
        message = OpenSession(
            prefix,
            len(self.prompt),
            NUM_TOKENS,
            self.sampling,
            "v1:fake",
            acceptance=Acceptance(AcceptanceMode.REJECTION),
            ignore_eos=True,
            own_guesses=self.own_guesses,
        )
        self.cloud = self.engine.open(message, self.downlink.append)
        self.encoder, self.decoder = NodeEncoder(), NodeDecoder()

    def run(self) -> tuple[int, ...]:
        """The answer."""
        steps = [self.draft, self.draft, self.send, self.verify, self.deliver]
        while self.edge.tree.num_committed < len(self.prompt) + NUM_TOKENS:
            self.random.choice(steps)()
        return tuple(self.edge.tree.tokens[len(self.prompt) :])

    def draft(self) -> None:
        run = self.edge.next_run()
        if run is not None:
            drafts = self.proposer.expand(run.text, run.paths, run.max_depth)
            self.edge.add(run, drafts, "test")

    def send(self) -> None:
        nodes = self.outbox(self.edge.take_unsent())
        for request in self.encoder.encode(nodes):
            self.cloud.extend(self.decoder.decode(request.extend).nodes)

    def verify(self) -> None:
        self.engine.step()

    def deliver(self) -> None:
        if self.downlink:
            event = self.downlink.popleft()
            assert isinstance(event, Commit)
            self.num_accepted += event.num_accepted
            self.num_guessed += event.num_guessed
            self.edge.receive(event)


class BreakingPair(Pair):
    """One whose session breaks now and then, and is gone on with; what was under way is lost."""

    num_breaks = 0

    def run(self) -> tuple[int, ...]:
        """The answer."""
        steps = [self.draft, self.draft, self.send, self.verify, self.verify, self.deliver]
        while self.edge.tree.num_committed < len(self.prompt) + NUM_TOKENS:
            self.random.choice(steps)()
            if self.random.random() < 0.05:
                self.break_off()
        return tuple(self.edge.tree.tokens[len(self.prompt) :])

    def break_off(self) -> None:
        if self.edge.tree.num_committed < len(self.prompt) + NUM_TOKENS:
            self.num_breaks += 1
            self.cloud.cancel()
            self.engine.step()
            self.open(tuple(self.edge.tree.tokens))


@dataclass(frozen=True)
class Outcome:
    """What many sessions wrote, and how many of their tokens drafts carried."""

    counts: Counter[tuple[int, ...]]
    num_accepted: int
    num_guessed: int


def unthrifty() -> TurnScheduler:
    """Checks every node whatever passes cost: how many, does not depend on the machine."""
    return TurnScheduler(max_nodes=8, prefill_chunk_tokens=8)


def packing() -> PackingScheduler:
    return PackingScheduler(
        PackingLimits(
            rows_per_pass=17,
            max_nodes_per_session=8,
            prefill_chunk_tokens=8,
            max_credit=12,
            max_draft_wait_s=0.0,
        )
    )


@functools.cache
def decode(
    make: Callable[[DraftingTask], Proposer],
    outbox: Outbox = list,
    prompt: tuple[int, ...] = PROMPT,
    own_guesses: bool = False,
    kind: type[Pair] = Pair,
) -> Outcome:
    engine = BatchingEngine(
        FakeTarget(),
        unthrifty() if own_guesses else packing(),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        max_own_guesses=4,
    )
    counts: Counter[tuple[int, ...]] = Counter()
    num_accepted = num_guessed = 0
    for seed in range(NUM_SESSIONS):
        pair = kind(engine, make, seed, outbox, prompt, own_guesses)
        counts[pair.run()] += 1
        num_accepted += pair.num_accepted
        num_guessed += pair.num_guessed
    return Outcome(counts, num_accepted, num_guessed)


def expected(prompt: tuple[int, ...], path: tuple[int, ...] = ()) -> dict[tuple[int, ...], float]:
    """The target's own probability of each answer."""
    if len(path) == NUM_TOKENS:
        return {path: 1.0}
    own = distribution(logits_after([*prompt, *path]), sampling(0), prompt, path)
    return {
        answer: share * p
        for token, p in zip(own.token_ids.tolist(), own.probabilities(), strict=True)
        for answer, share in expected(prompt, (*path, token)).items()
    }


def p_value(counts: Counter[tuple[int, ...]], prompt: tuple[int, ...] = PROMPT) -> float:
    """Chi-square against the target; answers of which fewer than five are expected are one."""
    shares = expected(prompt)
    if not counts.keys() <= shares.keys():
        return 0.0
    answers = list(shares)
    wanted = np.array([shares[answer] for answer in answers]) * NUM_SESSIONS
    seen = np.array([counts[answer] for answer in answers], dtype=np.float64)
    is_rare = wanted < 5
    wanted = np.append(wanted[~is_rare], wanted[is_rare].sum())
    seen = np.append(seen[~is_rare], seen[is_rare].sum())
    return float(stats.chisquare(seen, wanted).pvalue)


@pytest.mark.parametrize(
    "make",
    [
        Drawing,
        DrawingOnce,
        DrawingAsTheProduct,
        GuessingAllOf,
        lambda task: GarbageProposer(task, seed=task.sampling.seed),
        lambda task: NoneProposer(),
    ],
    ids=[
        "two draws",
        "one draw",
        "as many as the product",
        "guesses that were not drawn",
        "garbage",
        "none",
    ],
)
def test_the_text_has_the_targets_distribution(make: Callable[[DraftingTask], Proposer]) -> None:
    assert p_value(decode(make).counts) > P_LIMIT


@pytest.mark.parametrize(
    ("make", "outbox"),
    [
        (OutsideItsSupport, list),
        (Drawing, without_distributions),
        (Drawing, with_another_distribution_later),
        (Drawing, with_the_distribution_after_its_children),
    ],
    ids=["tokens outside the support", "none said", "another one said later", "said too late"],
)
def test_a_hostile_edge_that_can_be_seen_through_does_not_bias_the_text(
    make: Callable[[DraftingTask], Proposer], outbox: Outbox
) -> None:
    assert p_value(decode(make, outbox).counts) > P_LIMIT


@pytest.mark.parametrize("make", [Picking, SayingAnother])
def test_the_test_notices_an_edge_that_does_not_draw_from_what_it_sends(
    make: Callable[[DraftingTask], Proposer],
) -> None:
    assert p_value(decode(make).counts) < P_LIMIT


def test_a_distribution_lets_more_drafts_pass_than_the_same_drafts_without_one() -> None:
    assert (
        decode(DrawingOnce).num_accepted
        > 1.05 * decode(DrawingOnce, without_distributions).num_accepted
    )


@pytest.mark.parametrize(
    "make", [Drawing, GuessingAllOf, lambda task: NoneProposer()], ids=["draws", "guesses", "none"]
)
def test_guesses_of_the_verifier_do_not_bias_the_text(
    make: Callable[[DraftingTask], Proposer],
) -> None:
    outcome = decode(make, prompt=REPEATING, own_guesses=True)
    assert p_value(outcome.counts, REPEATING) > P_LIMIT
    assert outcome.num_guessed > NUM_SESSIONS / 10


def test_sessions_that_break_do_not_bias_the_text() -> None:
    outcome = decode(Drawing, kind=BreakingPair)
    assert p_value(outcome.counts) > P_LIMIT
    assert outcome.num_accepted > NUM_SESSIONS / 10
