"""Several sequences in one pass: each gets what it would get by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import write_tiny_model

from outrider_common.errors import InvalidPromptError
from outrider_edge.onnx_batch import OnnxBatch
from outrider_edge.onnx_model import OnnxModel, OnnxSequence
from outrider_edge.row_tree import TEXT_END
from outrider_export import Scheme, export_bundle
from outrider_models.bundle import Bundle

VOCAB_SIZE = 300
TOKENS = np.random.default_rng(1).integers(0, VOCAB_SIZE, 700).tolist()


@pytest.fixture(scope="module", params=[32, 8])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_tiny_model(folder / "m", max_position_embeddings=600)
    scheme = Scheme.NONE if request.param == 32 else Scheme.INT4
    return OnnxModel(export_bundle(source, folder / "b", scheme=scheme, kv_bits=request.param))


def assert_same(
    model: OnnxModel, actual: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """Equal but for rounding.

    Quantised graphs round activations to 8 bits, so that a float's last bit may become a step; a
    row with a wrong parent is off by 0.7 standard deviations or more.
    """
    assert actual.shape == expected.shape
    if model.kv.is_quantised:
        assert np.sqrt(np.mean((actual - expected) ** 2, axis=1)).max() < 0.25 * expected.std()
    else:
        np.testing.assert_allclose(actual, expected, atol=2e-4)
        np.testing.assert_array_equal(actual.argmax(axis=-1), expected.argmax(axis=-1))


Move = tuple[list[int], list[int], list[int]]


@st.composite
def moves(draw: st.DrawFn, num_rows: int) -> Move:
    """One row mostly, or a few: tokens, parents, wanted."""
    count = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
    tokens = draw(st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=count, max_size=count))
    parents = [draw(st.integers(TEXT_END, num_rows + i - 1)) for i in range(count)]
    wanted = draw(st.sets(st.integers(0, count - 1), min_size=1).map(sorted))
    return tokens, parents, wanted


def change_alike(sequences: list[OnnxSequence], data: st.DataObject) -> None:
    """Commit, forget or feed: the same for each."""
    first = sequences[0]
    kind = data.draw(st.sampled_from(["nothing", "keep", "truncate", "feed"]))
    if kind == "keep" and first.num_rows and first._tree._parents[0] == TEXT_END:
        for sequence in sequences:
            sequence.keep([0], 1)
    elif kind != "nothing" and kind != "keep":
        length = data.draw(st.integers(0, first.length))
        for sequence in sequences:
            sequence.truncate(length)
            if kind == "feed":
                sequence.forward(TOKENS[:40], num_logits=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_for_any_trees_lengths_and_batches_the_logits_are_those_of_single_runs(
    model: OnnxModel, data: st.DataObject
) -> None:
    batch = OnnxBatch(model)
    lengths = data.draw(st.lists(st.sampled_from([0, 1, 7, 100, 255, 300]), min_size=2, max_size=6))
    pairs = [(batch.new_sequence(), model.new_sequence()) for _ in lengths]
    for length, pair in zip(lengths, pairs, strict=True):
        for sequence in pair:
            if length:
                sequence.forward(TOKENS[length : 2 * length], num_logits=0)
    for _ in range(data.draw(st.integers(1, 5))):
        chosen = data.draw(st.sets(st.sampled_from(range(len(pairs))), min_size=1).map(sorted))
        drawn = {i: data.draw(moves(pairs[i][0].num_rows)) for i in chosen}
        # A pass over an empty cache reads its first position only; `forward_rows` knows.
        steps = {
            i: move
            for i, move in drawn.items()
            if len(move[0]) == 1 or pairs[i][0].length + pairs[i][0].num_rows
        }
        together = batch.forward_together([(pairs[i][0], *move) for i, move in steps.items()])
        for (i, move), logits in zip(steps.items(), together, strict=True):
            assert_same(model, logits, pairs[i][1].forward_rows(*move))
        for pair in pairs:
            change_alike(list(pair), data)


def count_passes(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    passes: list[Any] = []
    run = model.session.run_with_iobinding
    monkeypatch.setattr(
        model.session, "run_with_iobinding", lambda binding: (passes.append(binding), run(binding))
    )
    return passes


def test_single_rows_of_neighbours_share_a_pass(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = OnnxBatch(model)
    sequences = [batch.new_sequence() for _ in range(5)]
    passes = count_passes(model, monkeypatch)
    batch.forward_together([(s, [3], [TEXT_END], [0]) for s in sequences])
    assert len(passes) == 1
    batch.forward_together([(s, [3], [0], [0]) for s in sequences[:2] + sequences[3:]])
    assert len(passes) == 3  # the one between them is not touched


def test_several_rows_of_one_sequence_have_a_pass_of_their_own(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = OnnxBatch(model)
    first, second = batch.new_sequence(), batch.new_sequence()
    for sequence in (first, second):
        sequence.forward([1, 2])
    passes = count_passes(model, monkeypatch)
    wide, narrow = batch.forward_together(
        [(first, [3, 4], [TEXT_END] * 2, [0, 1]), (second, [3], [TEXT_END], [0])]
    )
    assert len(passes) == 2
    assert_same(model, wide[:1], narrow)


def test_logits_of_one_sequence_survive_the_passes_of_others(model: OnnxModel) -> None:
    batch = OnnxBatch(model)
    sequences = [batch.new_sequence() for _ in range(3)]
    kept, *_ = batch.forward_together([(s, [3], [TEXT_END], [0]) for s in sequences])
    copy = kept.copy()
    batch.forward_together([(s, [7], [0], [0]) for s in sequences[1:]])
    np.testing.assert_array_equal(kept, copy)


def test_slots_of_forgotten_sequences_are_used_again(model: OnnxModel) -> None:
    batch = OnnxBatch(model)
    first, second, third = (batch.new_sequence() for _ in range(3))
    assert [s.slot for s in (first, second, third)] == [0, 1, 2]
    del first, second
    assert batch.new_sequence().slot in (0, 1)
    more = [batch.new_sequence() for _ in range(6)]
    assert len({s.slot for s in [third, *more]}) == 7


def test_a_sequence_grows_without_disturbing_the_others(model: OnnxModel) -> None:
    batch = OnnxBatch(model)
    first, second = batch.new_sequence(), batch.new_sequence()
    for sequence in (first, second):
        sequence.forward(TOKENS[:200], num_logits=0)
    second.forward(TOKENS[200:500], num_logits=0)
    alone = model.new_sequence()
    alone.forward(TOKENS[:200], num_logits=0)
    assert_same(model, first.forward([9]), alone.forward([9]))


def test_a_sequence_that_is_full_is_refused_by_itself(model: OnnxModel) -> None:
    batch = OnnxBatch(model)
    full, other = batch.new_sequence(), batch.new_sequence()
    full.forward(TOKENS[:600], num_logits=0)
    with pytest.raises(InvalidPromptError, match="601 tokens do not fit"):
        batch.forward_together([(full, [1], [TEXT_END], [0])])
    (logits,) = batch.forward_together([(other, [1], [TEXT_END], [0])])
    assert_same(model, logits, model.new_sequence().forward([1]))
    full.truncate(599)
    both = batch.forward_together([(s, [1], [TEXT_END], [0]) for s in (full, other)][:1])
    assert both[0].shape == (1, VOCAB_SIZE)


def test_graphs_of_the_first_format_are_computed_one_by_one(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxModel, "takes_batches", False)
    batch = OnnxBatch(model)
    sequences = [batch.new_sequence() for _ in range(3)]
    passes = count_passes(model, monkeypatch)
    logits = batch.forward_together([(s, [3], [TEXT_END], [0]) for s in sequences])
    assert len(passes) == 3
    assert_same(model, logits[0], model.new_sequence().forward([3]))


def test_the_real_drafter_in_a_batch_computes_what_it_computes_alone(
    int4_bundle_dir: Path,
) -> None:
    model = OnnxModel(Bundle.load(int4_bundle_dir))
    batch = OnnxBatch(model)
    texts = [[504, 2240, 282, 4649], [504, 2240, 282, 4649, 314, 7042, 42, 719], [28, 1000]]
    sequences = [batch.new_sequence() for _ in texts]
    for sequence, text in zip(sequences, texts, strict=True):
        sequence.forward(text, num_logits=0)
    together = batch.forward_together([(s, [260], [TEXT_END], [0]) for s in sequences])
    for text, logits in zip(texts, together, strict=True):
        alone = model.new_sequence()
        alone.forward(text, num_logits=0)
        expected = alone.forward([260])
        assert np.sqrt(np.mean((logits - expected) ** 2)) < 0.25 * expected.std()
