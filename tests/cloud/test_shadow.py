"""The shadow decode: it finds what a pass got wrong, and nothing else, and never keeps a page."""

import logging
from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np
import pytest
from fake_target import VOCAB_SIZE, FakeTarget, greedy_text, logits_after
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions  # type: ignore[import-untyped]

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.choice import ArrayLogits
from outrider_cloud.engine import EngineEvent
from outrider_cloud.paged_sequence import PagedSequence
from outrider_cloud.pages import PageKeys, PagePool
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.session import VerifierSession
from outrider_cloud.shadow import FinishedText, ShadowDecoder, ShadowStats
from outrider_cloud.target import Segment, Target
from outrider_cloud.torch_target import TorchTarget
from outrider_common import noise
from outrider_common.acceptance import (
    AcceptanceRule,
    ExactRule,
    RejectionRule,
    RelaxedRule,
    TypicalRule,
)
from outrider_common.messages import Commit, Limits, OpenSession
from outrider_common.noise import Purpose
from outrider_common.sampling import SamplingParams, penalise
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.tokenizer import EdgeTokenizer

GREEDY = ExactRule(SamplingParams())


def a_pool(target: Target) -> PagePool:
    return PagePool(target.cache_shape.num_pages, target.cache_shape.page_tokens)


def a_text(
    prompt: Sequence[int] = (1, 2, 3), num_committed: int = 6, rule: AcceptanceRule = GREEDY
) -> FinishedText:
    """What the fake target writes after a prompt."""
    tokens = list(prompt)
    for position in range(len(prompt), len(prompt) + num_committed):
        output = tokens[len(prompt) :]
        tokens.append(rule.choose(logits_after(tokens), position, (), None, prompt, output))
    return FinishedText(tuple(tokens), len(prompt), len(prompt), rule)


def with_wrong_token(text: FinishedText, position: int, token: int) -> FinishedText:
    """The same, but for one token and what the target writes after it."""
    tokens = [*text.tokens[:position], token]
    tokens += greedy_text(tokens, len(text.tokens) - len(tokens), stop=())
    return FinishedText(tuple(tokens), text.num_prompt_tokens, text.num_given, text.rule)


def margin_after(text: Sequence[int]) -> float:
    second, best = np.sort(logits_after(text).astype(np.float64))[-2:]
    return float(best - second)


def run_to_the_end(shadow: ShadowDecoder) -> ShadowStats:
    for _ in range(5000):
        if not shadow.step():
            return shadow.stats
    raise AssertionError("the shadow never came to an end")


def decode_again(*texts: FinishedText, target: Target | None = None) -> ShadowStats:
    target = target or FakeTarget()
    shadow = ShadowDecoder(target, a_pool(target), 1.0, prefill_chunk_tokens=3)
    for text in texts:
        shadow.offer(text)
    return run_to_the_end(shadow)


# --- what it finds ----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    prompt=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=9),
    num_committed=st.integers(1, 12),
    num_resumed=st.integers(0, 11),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 1, 4]),
    top_p=st.sampled_from([1.0, 0.8]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    repetition_penalty=st.sampled_from([1.0, 1.7]),
    seed=st.integers(0, 2**64 - 1),
)
def test_whatever_the_rule_says_after_its_own_tokens_is_no_mismatch(
    prompt: list[int], num_committed: int, num_resumed: int, seed: int, **params: float
) -> None:
    sampling = SamplingParams(seed=seed, **params)  # type: ignore[arg-type]
    text = a_text(prompt, num_committed, ExactRule(sampling))
    num_given = len(prompt) + min(num_resumed, num_committed - 1)
    stats = decode_again(FinishedText(text.tokens, len(prompt), num_given, text.rule))
    assert (stats.num_texts, stats.num_mismatches, stats.num_dropped) == (1, 0, 0)
    assert stats.num_tokens == len(text.tokens) - num_given
    assert stats.largest_gap == 0


def test_a_wrong_token_is_one_mismatch_and_the_decode_goes_on_behind_it() -> None:
    text = a_text()
    logits = logits_after(text.tokens[:5]).astype(np.float64)
    wrong = int(logits.argmin())
    stats = decode_again(with_wrong_token(text, 5, wrong))
    assert (stats.num_texts, stats.num_tokens, stats.num_mismatches) == (1, 6, 1)
    assert stats.largest_gap == pytest.approx(logits.max() - logits[wrong])


@pytest.mark.parametrize("position", [3, 8])
def test_the_first_and_the_last_committed_token_are_compared(position: int) -> None:
    text = a_text()
    wrong = (text.tokens[position] + 1) % VOCAB_SIZE
    assert decode_again(with_wrong_token(text, position, wrong)).num_mismatches == 1


def test_given_tokens_are_not_compared() -> None:
    tokens = (1, 2, 3, *greedy_text([1, 2, 3], 6, stop=()))
    stats = decode_again(FinishedText(tokens, 1, 4, GREEDY))
    assert (stats.num_tokens, stats.num_mismatches) == (5, 0)


def test_the_gap_of_a_sampled_token_is_that_of_its_penalised_logits_with_their_noise() -> None:
    params = SamplingParams(temperature=0.7, presence_penalty=1.0, seed=11)
    right = a_text((1, 2), 5, ExactRule(params))
    tokens = right.tokens
    logits = penalise(logits_after(tokens[:-1]), params, tokens[:2], tokens[2:-1])
    uniforms = noise.uniform(np, 11, Purpose.TOKEN, 6, np.arange(VOCAB_SIZE))
    scores = logits.astype(np.float64) + 0.7 * noise.gumbel(np, uniforms)
    assert scores.argmax() == tokens[-1]
    wrong = int(scores.argmin())
    stats = decode_again(FinishedText((*tokens[:-1], wrong), 2, 2, right.rule))
    assert stats.num_mismatches == 1
    assert stats.largest_gap == pytest.approx(scores.max() - scores.min())


def test_the_smallest_margin_is_that_of_the_nearest_tie() -> None:
    text = a_text(num_committed=20)
    margins = [margin_after(text.tokens[:position]) for position in range(3, 23)]
    assert decode_again(text).smallest_margin == pytest.approx(min(margins))


def test_where_only_one_token_may_be_sampled_there_is_no_margin() -> None:
    rule = ExactRule(SamplingParams(temperature=1.0, top_k=1))
    assert decode_again(a_text(rule=rule)).smallest_margin == inf


def test_the_largest_gap_and_the_smallest_margin_are_over_all_texts() -> None:
    rights = [a_text([first]) for first in range(4)]
    texts = [
        with_wrong_token(right, 2, int(logits_after(right.tokens[:2]).argmin())) for right in rights
    ]
    alone = [decode_again(text) for text in texts]
    together = decode_again(*texts)
    assert together.largest_gap == max(stats.largest_gap for stats in alone)
    assert together.smallest_margin == min(stats.smallest_margin for stats in alone)
    assert together.num_mismatches == sum(stats.num_mismatches for stats in alone)


class ErringTarget(FakeTarget):
    """Turns the logits over wherever a pass serves more than one sequence."""

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        logits = super().forward(segments)
        return ArrayLogits(-logits.numpy()) if len(segments) > 1 else logits


class Client:
    """Sends drafts of a known answer, of which some are wrong, behind every commit."""

    def __init__(
        self, engine: BatchingEngine, message: OpenSession, known: Sequence[int] = ()
    ) -> None:
        self.text = list(message.prefix)
        self.num_given = len(message.prefix)
        self.known = [*message.prefix, *known]
        self.rule = ExactRule(message.sampling)
        self.num_accepted = 0
        self.next_id = 1
        self.session: VerifierSession = engine.open(message, self.receive)

    def receive(self, event: EngineEvent) -> None:
        assert isinstance(event, Commit)
        self.text += event.tokens
        self.num_accepted += event.num_accepted
        if event.finish_reason is None:
            self.draft(self.known[len(self.text) :][:4])

    def draft(self, guesses: Sequence[int]) -> None:
        parent: AtPosition | AtNode = AtPosition(len(self.text) - 1)
        for guess in guesses:
            token = 7 if self.next_id % 9 == 0 else guess
            self.session.extend([DraftNode(self.next_id, token, parent)])
            parent = AtNode(self.next_id)
            self.next_id += 1

    @property
    def finished(self) -> FinishedText:
        return FinishedText(tuple(self.text), self.num_given, self.num_given, self.rule)


def serve(
    target: Target, messages: Sequence[OpenSession], known: Sequence[Sequence[int]]
) -> list[Client]:
    """All sessions packed into the same passes."""
    engine = BatchingEngine(
        target,
        PackingScheduler(PackingLimits(24, 6, 16, 64, 0.0)),
        model="m",
        tokenizer_fingerprint="v1:any",
        limits=Limits(65536, 64, 4096, 64),
    )
    pairs = zip(messages, known, strict=True)
    clients = [Client(engine, message, answer) for message, answer in pairs]
    for _ in range(5000):
        if not engine.step():
            return clients
    raise AssertionError("the engine never came to an end")


def a_message(prompt: Sequence[int], max_tokens: int, sampling: SamplingParams) -> OpenSession:
    return OpenSession(tuple(prompt), len(prompt), max_tokens, sampling, "v1:any", ignore_eos=True)


def test_what_a_target_got_wrong_in_packed_passes_is_counted_with_its_gap() -> None:
    target = ErringTarget()
    messages = [a_message([i, i + 1, 5], 12, SamplingParams()) for i in range(2)]
    texts = [client.finished for client in serve(target, messages, [(), ()])]
    gaps = [
        float(logits.max() - logits[text.tokens[position]])
        for text in texts
        for position in range(text.num_given, len(text.tokens))
        for logits in [logits_after(text.tokens[:position]).astype(np.float64)]
        if logits.argmax() != text.tokens[position]
    ]
    assert gaps, "the target never erred"
    stats = decode_again(*texts, target=target)
    assert stats.num_mismatches == len(gaps)
    assert stats.largest_gap == pytest.approx(max(gaps))
    assert stats.num_tokens == 24


def test_a_mismatch_is_logged_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    text = a_text()
    wrong = (text.tokens[5] + 1) % VOCAB_SIZE
    with caplog.at_level(logging.WARNING, "outrider_cloud.shadow"):
        stats = decode_again(with_wrong_token(text, 5, wrong))
    (record,) = caplog.records
    assert record.getMessage() == "shadow_mismatch"
    assert record.__dict__["fields"] == {
        "position": 5,
        "committed_token": wrong,
        "shadow_token": text.tokens[5],
        "gap": stats.largest_gap,
    }


# --- how it decodes ---------------------------------------------------------------------------


def test_given_tokens_are_computed_in_chunks_and_all_others_one_row_a_pass() -> None:
    target = FakeTarget()
    decode_again(a_text((1, 2, 3, 4, 5, 6, 7), 4), target=target)
    assert target.num_rows == [3, 3, 1, 1, 1, 1]  # the seventh yields the first logits


def test_every_pass_is_of_one_sequence_even_if_several_texts_wait() -> None:
    target = ErringTarget()
    stats = decode_again(a_text([1]), a_text([2]), a_text([3]), target=target)
    assert (stats.num_texts, stats.num_mismatches) == (3, 0)


def test_pages_that_others_filled_with_the_same_text_are_never_read() -> None:
    target = FakeTarget()
    pool = a_pool(target)
    text = a_text(num_committed=20)
    served = PagedSequence(pool, PageKeys(text.tokens, pool.page_tokens))
    assert served.reserve(20)
    served.keep(range(20))
    served.release()  # published, and their slots hold nothing of the text
    num_cached = pool.usage.num_cached
    shadow = ShadowDecoder(target, pool, 1.0)
    shadow.offer(text)
    assert run_to_the_end(shadow).num_mismatches == 0
    assert pool.usage.num_cached == num_cached == 5


def test_what_it_computed_is_never_kept_in_the_pool() -> None:
    target = FakeTarget()
    pool = a_pool(target)
    shadow = ShadowDecoder(target, pool, 1.0)
    shadow.offer(a_text(num_committed=20))
    run_to_the_end(shadow)
    assert pool.usage.num_free == pool.usage.num_pages


# --- which texts ------------------------------------------------------------------------------


def test_at_rate_0_nothing_is_decoded_and_at_rate_1_everything() -> None:
    target = FakeTarget()
    for rate, expected in ((0.0, 0), (1.0, 50)):
        shadow = ShadowDecoder(target, a_pool(target), rate, max_waiting=50)
        for number in range(50):
            shadow.offer(a_text([number % VOCAB_SIZE], 2))
        assert shadow.is_idle == (expected == 0)
        stats = run_to_the_end(shadow)
        assert (stats.num_texts, stats.num_dropped) == (expected, 0)
        assert shadow.is_idle
        assert not shadow.step()


def test_at_a_rate_between_so_large_a_share_is_sampled() -> None:
    """A sound sample is outside these bounds with a probability of 1e-6; the seed is fixed."""
    target = FakeTarget()
    shadow = ShadowDecoder(target, a_pool(target), 0.3, max_waiting=1, seed=3)
    text = a_text()
    for _ in range(2000):
        shadow.offer(text)
    num_sampled = shadow.stats.num_dropped + 1
    low, high = distributions.binom.interval(1 - 1e-6, 2000, 0.3)
    assert low <= num_sampled <= high


@pytest.mark.parametrize("kind", [RejectionRule, TypicalRule, RelaxedRule])
def test_a_text_whose_tokens_depend_on_drafts_is_not_sampled(
    kind: type[RejectionRule | TypicalRule | RelaxedRule],
) -> None:
    assert decode_again(a_text(rule=kind(SamplingParams(temperature=1.0)))) == ShadowStats()


def test_a_text_of_which_nothing_was_committed_here_is_not_sampled() -> None:
    assert decode_again(FinishedText((1, 2, 3), 2, 3, GREEDY)) == ShadowStats()


# --- what is given up -------------------------------------------------------------------------


def test_a_text_that_comes_when_too_many_wait_is_dropped() -> None:
    target = FakeTarget()
    shadow = ShadowDecoder(target, a_pool(target), 1.0, max_waiting=2)
    for first in range(5):
        shadow.offer(a_text([first]))
    assert shadow.stats.num_dropped == 3
    assert run_to_the_end(shadow).num_texts == 2


def test_a_text_for_which_no_page_is_free_is_dropped_and_its_pages_come_back() -> None:
    target = FakeTarget(num_pages=4)
    pool = a_pool(target)
    held = [pool.allocate(), pool.allocate()]
    shadow = ShadowDecoder(target, pool, 1.0)
    shadow.offer(a_text(num_committed=10))  # needs three pages, and two are free
    shadow.offer(a_text([1], 3))
    stats = run_to_the_end(shadow)
    assert (stats.num_dropped, stats.num_texts) == (1, 1)
    assert pool.usage.num_held == len(held)


def test_a_text_whose_pass_fails_is_dropped_and_the_next_is_decoded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = FakeTarget(poison=9)
    pool = a_pool(target)
    shadow = ShadowDecoder(target, pool, 1.0)
    shadow.offer(FinishedText((1, 2, 9, 3, 4), 1, 1, GREEDY))
    shadow.offer(FinishedText((1, 2, 3, 4), 1, 1, GREEDY))
    stats = run_to_the_end(shadow)
    assert (stats.num_dropped, stats.num_texts) == (1, 1)
    assert pool.usage.num_held == 0
    assert "shadow_failed" in caplog.messages


def test_a_text_whose_logits_are_not_numbers_is_dropped() -> None:
    class Broken(FakeTarget):
        def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
            return ArrayLogits(super().forward(segments).numpy() * np.nan)

    stats = decode_again(a_text(), target=Broken())
    assert (stats.num_dropped, stats.num_tokens, stats.num_texts) == (1, 0, 0)


def test_the_current_text_can_be_dropped_so_that_serving_gets_its_pages() -> None:
    target = FakeTarget()
    pool = a_pool(target)
    shadow = ShadowDecoder(target, pool, 1.0)
    shadow.offer(a_text())
    assert not shadow.drop_current()  # it only waits, and holds no page yet
    shadow.step()
    assert pool.usage.num_held == 1
    assert shadow.drop_current()
    assert pool.usage.num_held == 0
    assert shadow.is_idle
    assert shadow.stats.num_dropped == 1


class WatchedTarget(FakeTarget):
    """Fails where a pass is given a page that somebody else holds."""

    def __init__(self, num_pages: int, poison: int) -> None:
        super().__init__(num_pages=num_pages, poison=poison)
        self.others: set[int] = set()
        self.trespasses: list[int] = []

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        pages = (page for segment in segments for page in segment.pages)
        self.trespasses += [page for page in pages if page in self.others]
        return super().forward(segments)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 10**6)),
        st.tuples(st.sampled_from(["step", "take", "give", "drop"]), st.integers(1, 6)),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(num_pages=st.integers(1, 8), actions=ACTIONS)
def test_whatever_happens_no_page_is_lost_or_shared_and_every_text_is_accounted_for(
    num_pages: int, actions: list[tuple[str, int]]
) -> None:
    target = WatchedTarget(num_pages, poison=VOCAB_SIZE - 1)
    pool = a_pool(target)
    shadow = ShadowDecoder(target, pool, 1.0, prefill_chunk_tokens=3, max_waiting=3)
    num_offered = 0
    for action, number in actions:
        if action == "offer":
            prompt = [int(digit) for digit in str(number)]
            shadow.offer(a_text(prompt, 1 + number % 9))
            num_offered += 1
        elif action == "drop":
            shadow.drop_current()
        for _ in range(number if action in ("step", "take", "give") else 0):
            if action == "step":
                shadow.step()
            elif action == "take" and (page := pool.allocate()) is not None:
                target.others.add(page)
            elif action == "give" and target.others:
                pool.release(target.others.pop())
    stats = run_to_the_end(shadow)
    assert stats.num_texts + stats.num_dropped == num_offered
    assert pool.usage.num_held == len(target.others)
    assert not target.trespasses
    assert stats.num_mismatches == 0


# --- the real model ---------------------------------------------------------------------------

TEXTS = (
    "The lighthouse keeper climbed the stairs",
    "1, 2, 3, 4, 5, 6,",
    "def mean(values):\n    total = 0\n",
    "The capital of France is Paris. The capital of Italy is",
)


@pytest.mark.slow
def test_the_real_model_writes_alone_what_it_wrote_in_packed_and_drafted_passes(
    smollm2_dir: Path,
) -> None:
    target = TorchTarget.load(smollm2_dir, kv_cache_mib=128, num_threads=1)
    tokenizer = EdgeTokenizer.load(smollm2_dir)
    messages = [
        a_message(tokenizer.encode(text), 55, SamplingParams(0.8 * (i % 2), top_p=0.95, seed=i))
        for i, text in enumerate(TEXTS)
    ]
    undrafted = serve(target, messages, [()] * len(messages))
    known = [client.text[client.num_given :] for client in undrafted]
    drafted = serve(target, messages, known)
    assert sum(client.num_accepted for client in drafted) > 100
    stats = decode_again(*(client.finished for client in drafted), target=target)
    assert (stats.num_tokens, stats.num_mismatches, stats.num_texts) == (220, 0, 4)
    assert stats.largest_gap == 0
    assert 0 < stats.smallest_margin < 1
