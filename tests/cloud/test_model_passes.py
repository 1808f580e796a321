"""Passes that are recorded once and replayed, against passes that are run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_flex import plain_flex
from tiny_models import write_tiny_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from outrider_cloud.flex_attention import FlexAttention
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.model_passes import MAX_GRAPH_ROWS, can_be_recorded
from outrider_cloud.plain_attention import PlainAttention
from outrider_cloud.row_padding import RowPadding
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_cloud.torch_target import TorchTarget, kv_shape

TOLERANCE = 2e-5
NUM_PAGES = 48
PAGE_TOKENS = 8
PAGES_EACH = 10
FAMILIES = ["llama", "mistral_window", "gemma3"]
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::lift_fresh"}


class Tape(TorchDispatchMode):
    """A recording as CUDA makes it: operations and their tensors, nothing of the Python code."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        with self:
            self._output = compute()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, output))
        return output

    def replay(self) -> Tensor:
        """Repeat the operations on what the tensors hold now."""
        replayed: dict[int, Tensor] = {}

        def current(value: Any) -> Any:
            return replayed.get(id(value), value)

        for func, args, kwargs, output in self.operations:
            new = func(*tree_map(current, args), **tree_map(current, kwargs))
            for before, after in zip(tree_leaves(output), tree_leaves(new), strict=True):
                replayed[id(before)] = after
        return self._output.copy_(current(self._output))  # a graph's output stays where it is


class Recorder:
    """Makes recordings, and keeps them."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def __call__(self, compute: Callable[[], Tensor]) -> Tape:
        self.tapes.append(Tape(compute))
        return self.tapes[-1]


class Both:
    """The same model twice: with recorded passes, and with plain ones."""

    def __init__(self, directory: Path) -> None:
        model, plain_model = (load_causal_lm(directory, lambda _config: None) for _ in range(2))
        kv = kv_shape(model.config)
        self.recorder = Recorder()
        flex = FlexAttention(kv, NUM_PAGES, PAGE_TOKENS, tile_rows=4, flex=plain_flex)
        self.recorded = TorchTarget(model, flex, RowPadding(largest_bucket=64), self.recorder)
        self.plain = TorchTarget(plain_model, PlainAttention(kv, NUM_PAGES, PAGE_TOKENS))

    def assert_equal(self, segments: Sequence[Segment]) -> None:
        logits, expected = (
            target.forward(segments).numpy() for target in (self.recorded, self.plain)
        )
        np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(write_tiny_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture
def fresh(tmp_path: Path) -> Both:
    return Both(write_tiny_model(tmp_path))


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Both:
    both = Both(write_tiny_model(tmp_path_factory.mktemp("model")))
    both.recorded.rehearse(28)  # four sequences of seven rows
    return both


def a_segment(sequence: int, length: int, rows: Rows) -> Segment:
    pages = tuple(range(sequence * PAGES_EACH, (sequence + 1) * PAGES_EACH))
    return Segment(pages, length, rows)


def a_chain(sequence: int, num_rows: int, length: int = 0, first_logits_row: int = 0) -> Segment:
    tokens = [(7 * row + 11 * sequence + length) % 250 for row in range(num_rows)]
    return a_segment(sequence, length, Rows.chain(tokens, first_logits_row=first_logits_row))


@st.composite
def passes(draw: st.DrawFn) -> list[Segment]:
    """A pass of up to four sequences, over text that the prefill of the test has cached."""
    segments = []
    for sequence in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)):
        num_rows = draw(st.integers(1, 7))
        tokens = draw(st.lists(st.integers(0, 250), min_size=num_rows, max_size=num_rows))
        parents = [draw(st.integers(CACHED_TEXT, row - 1)) for row in range(num_rows)]
        rows = Rows(tuple(tokens), tuple(parents), draw(st.integers(0, num_rows)))
        segments.append(a_segment(sequence, draw(st.integers(0, 40)), rows))
    return segments


@settings(max_examples=20, deadline=None)
@given(work=st.lists(passes(), min_size=1, max_size=4))
def test_replayed_passes_have_the_logits_of_passes_that_are_run(
    both: Both, work: list[list[Segment]]
) -> None:
    for sequence in range(4):
        both.assert_equal([a_chain(sequence, 40)])
    for segments in work:
        both.assert_equal(segments)


def test_a_shape_is_recorded_once_and_then_replayed(fresh: Both) -> None:
    fresh.assert_equal([a_chain(0, 3)])
    fresh.assert_equal([a_chain(0, 3, length=3)])
    fresh.assert_equal([a_chain(1, 3)])
    assert len(fresh.recorder.tapes) == 1
    fresh.assert_equal([a_chain(0, 5)])
    assert len(fresh.recorder.tapes) == 2


@settings(max_examples=10, deadline=None)
@given(work=st.lists(passes(), min_size=1, max_size=4))
def test_after_a_rehearsal_no_pass_has_to_be_recorded(
    rehearsed: Both, work: list[list[Segment]]
) -> None:
    num_recorded = len(rehearsed.recorder.tapes)
    for segments in work:
        rehearsed.recorded.forward(segments)
    assert len(rehearsed.recorder.tapes) == num_recorded > 0


def test_a_recording_waits_for_nothing_on_the_host(both: Both) -> None:
    both.assert_equal([a_chain(0, 3), a_chain(1, 9)])
    assert both.recorder.tapes
    for tape in both.recorder.tapes:
        assert not WAITING & {func.name() for func, *_ in tape.operations}


def test_a_pass_that_wants_no_logits_is_not_recorded_and_costs_no_head(fresh: Both) -> None:
    heads: list[int] = []
    head: torch.nn.Module = fresh.recorded.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda *call: heads.append(call[1][0].numel()))
    logits = fresh.recorded.forward([a_chain(2, 13, first_logits_row=13)])
    hook.remove()
    assert (logits.num_rows, sum(heads)) == (0, 0)
    assert not fresh.recorder.tapes
    fresh.plain.forward([a_chain(2, 13)])
    fresh.assert_equal([a_chain(2, 2, length=13)])


def test_logits_of_an_earlier_pass_are_not_written_over(both: Both) -> None:
    both.recorded.forward([a_chain(0, 4)])
    first = both.recorded.forward([a_chain(0, 4)])
    before = first.numpy().copy()
    both.recorded.forward([a_chain(1, 4)])
    np.testing.assert_array_equal(first.numpy(), before)


def test_a_pass_of_many_rows_is_run_not_recorded(fresh: Both) -> None:
    rows = MAX_GRAPH_ROWS // 4 + 1
    fresh.assert_equal([a_chain(sequence, rows) for sequence in range(4)])
    assert not fresh.recorder.tapes


@pytest.mark.parametrize(
    ("rotations", "expected"),
    [
        (None, True),
        ({"rope_type": "llama3", "factor": 8.0}, True),
        ({"rope_type": "dynamic"}, False),
        ({"full_attention": {"rope_type": "default"}}, True),
        ({"full_attention": {"rope_type": "longrope"}}, False),
    ],
)
def test_models_whose_rotations_look_at_the_positions_are_not_recorded(
    rotations: dict[str, Any] | None, expected: bool
) -> None:
    assert can_be_recorded(SimpleNamespace(rope_parameters=rotations)) is expected
