"""Passes that several threads share: nobody waits in vain, everybody gets the own rows."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tiny_models import write_tiny_model

from outrider_common.sampling import SamplingParams
from outrider_edge.batched_drafting import RECENT_S, BatchedModel, SharedPasses
from outrider_edge.language_model import LanguageModelProposer
from outrider_edge.onnx_batch import Step
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.proposer import DraftingTask
from outrider_export import Scheme, export_bundle

VOCAB_SIZE = 300
FOREVER_S = 60.0  # a test that waits so long has failed


@dataclass
class FakeSequence:
    slot: int


class FakeBatch:
    """Answers each step with its slot; a pass lasts until it is let go."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.has_begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def compute(self, steps: Sequence[Step]) -> list[Any]:
        self.passes.append(sorted(step.sequence.slot for step in steps))
        self.has_begun.release()
        assert self.may_end.acquire(timeout=FOREVER_S)
        return [np.array([step.sequence.slot]) for step in steps]


@pytest.fixture
def batch() -> FakeBatch:
    return FakeBatch()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def asked(passes: SharedPasses, slot: int) -> Callable[[], int]:
    step: Any = Step(FakeSequence(slot), None)  # type: ignore[arg-type]
    return lambda: int(passes.compute(step)[0])


def wait_until(is_true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(FOREVER_S * 1000)):
        if is_true():
            return
        pause.wait(0.001)
    raise AssertionError("it never came true")


def test_who_comes_during_a_pass_shares_the_next(
    batch: FakeBatch, threads: ThreadPoolExecutor
) -> None:
    passes = SharedPasses(batch.compute, longest_wait_s=0.0, clock=lambda: 0.0)
    first = threads.submit(asked(passes, 0))
    assert batch.has_begun.acquire(timeout=FOREVER_S)
    others = [threads.submit(asked(passes, slot)) for slot in (1, 2, 3)]
    wait_until(lambda: len(passes._waiting) == 3)
    for _ in range(2):
        batch.may_end.release()
    assert [future.result(FOREVER_S) for future in [first, *others]] == [0, 1, 2, 3]
    assert batch.passes == [[0], [1, 2, 3]]


def test_a_single_sequence_waits_for_nobody(batch: FakeBatch) -> None:
    passes = SharedPasses(batch.compute, longest_wait_s=FOREVER_S, clock=lambda: 0.0)
    for _ in range(3):
        batch.may_end.release()
        assert asked(passes, 5)() == 5
    assert batch.passes == [[5]] * 3


def test_a_pass_waits_for_a_sequence_that_was_computed_lately(
    batch: FakeBatch, threads: ThreadPoolExecutor
) -> None:
    passes = SharedPasses(batch.compute, longest_wait_s=FOREVER_S, clock=lambda: 0.0)
    passes._computed_at = {0: 0.0, 1: 0.0}
    batch.may_end.release()
    first = threads.submit(asked(passes, 0))
    wait_until(lambda: passes._is_led)
    second = threads.submit(asked(passes, 1))
    assert [first.result(FOREVER_S), second.result(FOREVER_S)] == [0, 1]
    assert batch.passes == [[0, 1]]


def test_a_pass_does_not_wait_longer_than_it_may(batch: FakeBatch) -> None:
    passes = SharedPasses(batch.compute, longest_wait_s=0.001, clock=lambda: 0.0)
    passes._computed_at = {1: 0.0}
    batch.may_end.release()
    assert asked(passes, 0)() == 0


def test_a_sequence_that_was_silent_for_long_is_not_waited_for(batch: FakeBatch) -> None:
    now = [0.0]
    passes = SharedPasses(batch.compute, longest_wait_s=FOREVER_S, clock=lambda: now[0])
    passes._computed_at = {1: 0.0}
    now[0] = 2 * RECENT_S
    batch.may_end.release()
    assert asked(passes, 0)() == 0


def test_while_others_are_waited_for_their_memory_may_change(
    batch: FakeBatch, threads: ThreadPoolExecutor
) -> None:
    passes = SharedPasses(batch.compute, longest_wait_s=FOREVER_S, clock=lambda: 0.0)
    passes._computed_at = {1: 0.0}
    first = threads.submit(asked(passes, 0))
    wait_until(lambda: passes._is_led)
    with passes.alone():
        pass
    batch.may_end.release()
    assert threads.submit(asked(passes, 1)).result(FOREVER_S) == 1
    assert first.result(FOREVER_S) == 0


def test_what_goes_wrong_in_a_pass_reaches_all_and_ends_with_it(
    batch: FakeBatch, threads: ThreadPoolExecutor
) -> None:
    def fail(steps: Sequence[Step]) -> list[Any]:
        batch.compute(steps)
        raise MemoryError("no room")

    passes = SharedPasses(fail, longest_wait_s=0.0, clock=lambda: 0.0)
    first = threads.submit(asked(passes, 0))
    assert batch.has_begun.acquire(timeout=FOREVER_S)
    second = threads.submit(asked(passes, 1))
    wait_until(lambda: len(passes._waiting) == 1)
    for _ in range(3):
        batch.may_end.release()
    for future in (first, second):
        with pytest.raises(MemoryError, match="no room"):
            future.result(FOREVER_S)
    with passes.alone():
        pass
    with pytest.raises(MemoryError):
        asked(passes, 2)()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_tiny_model(folder / "m", max_position_embeddings=600)
    return OnnxModel(export_bundle(source, folder / "b", scheme=Scheme.NONE))


def draft(model: Any, seed: int) -> list[tuple[int, ...]]:
    """What a proposer guesses over a text that grows, as a generation lets it."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, VOCAB_SIZE, 20 + 40 * seed).tolist()
    proposer = LanguageModelProposer(DraftingTask(SamplingParams(), 5, VOCAB_SIZE), model)
    seen: list[tuple[int, ...]] = []
    for i in range(15):
        path: list[int] = []
        for _ in range(3):
            (guesses,) = proposer.expand(text, [path], 2)
            seen.append(guesses.tokens)
            path.append(guesses.tokens[0])
        text += path[:2] if i % 2 else [seed, *path[:1]]
    return seen


def test_generations_of_many_threads_draft_what_each_would_alone(
    model: OnnxModel, threads: ThreadPoolExecutor
) -> None:
    shared = BatchedModel(model)
    together = list(threads.map(lambda seed: draft(shared, seed), range(6)))
    assert together == [draft(model, seed) for seed in range(6)]


def test_single_rows_of_many_threads_do_share_passes(
    model: OnnxModel, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    shared = BatchedModel(model, longest_wait_s=FOREVER_S)
    compute = shared._passes._compute
    monkeypatch.setattr(
        shared._passes, "_compute", lambda steps: (sizes.append(len(steps)), compute(steps))[1]
    )
    barrier = threading.Barrier(4)
    sequences = [shared.new_sequence() for _ in range(4)]
    shared._passes._computed_at = {slot: float("inf") for slot in range(4)}

    def rows(sequence: Any) -> list[int]:
        barrier.wait(FOREVER_S)
        return [int(sequence.forward_rows([3], [i - 1], [0])[0].argmax()) for i in range(5)]

    results = list(threads.map(rows, sequences))
    assert results == [results[0]] * 4
    assert sizes == [4] * 5


def test_a_shared_model_describes_itself_as_the_model_does(model: OnnxModel) -> None:
    shared = BatchedModel(model)
    assert (shared.vocab_size, shared.max_positions) == (VOCAB_SIZE, 600)
    assert shared.token_ids is None
    sequence = shared.new_sequence()
    assert sequence.forward([1, 2], num_logits=1).shape == (1, VOCAB_SIZE)
    sequence.truncate(1)
    assert sequence.length == 1
