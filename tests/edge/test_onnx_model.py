"""The ONNX language model: caches that grow, branch, shrink and stay apart."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import write_tiny_model

from outrider_common.errors import ConfigError, InvalidPromptError, ModelFileError
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.row_tree import TEXT_END
from outrider_export import Scheme, export_bundle
from outrider_models.bundle import Bundle

VOCAB_SIZE = 300
LONGEST = 600  # beyond the first capacity of a cache, and beyond its double
TEXT = np.random.default_rng(0).integers(0, VOCAB_SIZE, LONGEST).tolist()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    source = write_tiny_model(folder / "model", max_position_embeddings=LONGEST)
    return export_bundle(source, folder / "bundle", scheme=Scheme.NONE)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> OnnxModel:
    return OnnxModel(bundle)


@pytest.fixture(scope="module")
def expected(model: OnnxModel) -> NDArray[np.float32]:
    """The logits of the whole text in one pass."""
    return model.new_sequence().forward(TEXT)


def assert_same(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_text_in_pieces_gives_the_logits_of_the_whole(
    model: OnnxModel, expected: NDArray[np.float32]
) -> None:
    sequence = model.new_sequence()
    for start, stop in ((0, 1), (1, 2), (2, 250), (250, 257), (257, 599), (599, 600)):
        assert_same(sequence.forward(TEXT[start:stop]), expected[start:stop])
        assert sequence.length == stop


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, LONGEST), st.integers(1, 40)), min_size=1, max_size=8))
def test_whatever_was_guessed_and_truncated_leaves_no_trace(
    model: OnnxModel, expected: NDArray[np.float32], moves: list[tuple[int, int]]
) -> None:
    sequence = model.new_sequence()
    for keep, num_wrong in moves:
        sequence.truncate(min(keep, sequence.length))
        start = sequence.length
        right = TEXT[start : start + 60]
        if right:
            assert_same(sequence.forward(right), expected[start : start + 60])
        end = sequence.length
        wrong = [(token + 1) % VOCAB_SIZE for token in TEXT[end : end + num_wrong]]
        if wrong:
            sequence.forward(wrong)
            sequence.truncate(end)


def test_sequences_of_one_model_do_not_touch_each_other(
    model: OnnxModel, expected: NDArray[np.float32]
) -> None:
    first, second = model.new_sequence(), model.new_sequence()
    first.forward(TEXT[:20])
    second.forward(TEXT[100:130])
    assert_same(first.forward(TEXT[20:30]), expected[20:30])


def test_only_the_wanted_logits_are_computed(
    model: OnnxModel, expected: NDArray[np.float32]
) -> None:
    sequence = model.new_sequence()
    assert_same(sequence.forward(TEXT[:50], num_logits=1), expected[49:50])
    assert sequence.forward(TEXT[50:60], num_logits=0).shape == (0, VOCAB_SIZE)
    assert_same(sequence.forward(TEXT[60:62], num_logits=9), expected[60:62])


def test_logits_are_the_callers_to_keep(model: OnnxModel) -> None:
    sequence = model.new_sequence()
    first = sequence.forward([1])
    copy = first.copy()
    sequence.forward([2])
    np.testing.assert_array_equal(first, copy)


def test_a_text_may_fill_every_position_and_not_one_more(bundle: Bundle) -> None:
    model = OnnxModel(bundle, max_positions=10)
    assert model.max_positions == 10
    sequence = model.new_sequence()
    sequence.forward(TEXT[:10])
    with pytest.raises(InvalidPromptError, match=r"11 tokens do not fit into .* 10 positions"):
        sequence.forward([1])
    assert sequence.length == 10


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE])
def test_a_token_outside_the_vocabulary_is_refused(model: OnnxModel, token: int) -> None:
    with pytest.raises(InvalidPromptError, match=f"vocabulary of {VOCAB_SIZE}"):
        model.new_sequence().forward([1, token])


def test_nothing_cannot_be_computed(model: OnnxModel) -> None:
    with pytest.raises(InvalidPromptError, match="at least one"):
        model.new_sequence().forward([])


@pytest.mark.parametrize("length", [-1, 4])
def test_a_sequence_cannot_be_truncated_to_what_it_is_not(model: OnnxModel, length: int) -> None:
    sequence = model.new_sequence()
    sequence.forward([1, 2, 3])
    with pytest.raises(ValueError, match="cannot truncate 3"):
        sequence.truncate(length)


def test_memory_is_proportional_to_the_text(model: OnnxModel) -> None:
    sequence = model.new_sequence()
    sequence.forward(TEXT[:5])
    small = sequence.cache_bytes
    sequence.forward(TEXT[5:400])
    per_token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, KV heads, head size, bytes
    assert small == 256 * per_token
    assert sequence.cache_bytes == 512 * per_token


@pytest.mark.parametrize("limit", [0, LONGEST + 1])
def test_a_limit_that_the_graph_cannot_keep_is_refused(bundle: Bundle, limit: int) -> None:
    with pytest.raises(ConfigError, match=f"max_positions is {limit}"):
        OnnxModel(bundle, max_positions=limit)


def test_no_threads_are_too_few(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="num_threads is 0"):
        OnnxModel(bundle, num_threads=0)


def test_a_graph_that_is_none_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"cannot load .*model\.onnx"):
        OnnxModel(Bundle(tmp_path, bundle.manifest))


def test_the_edge_runs_a_bundle_without_the_libraries_that_made_it(bundle: Bundle) -> None:
    program = f"""
import sys
from pathlib import Path
from outrider_models.bundle import Bundle
from outrider_edge.onnx_model import OnnxModel
OnnxModel(Bundle.load(Path({str(bundle.path)!r}))).new_sequence().forward([1, 2])
assert not {{"torch", "transformers", "onnx"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def path_of(parents: list[int], row: int) -> list[int]:
    """The rows from the end of the text to a row."""
    return [] if row == TEXT_END else [*path_of(parents, parents[row]), row]


def rows_alone(
    model: OnnxModel, text: list[int], tokens: list[int], parents: list[int], rows: list[int]
) -> NDArray[np.float32]:
    """The logits after some rows, each from a chain that a fresh sequence computes."""
    chains = [text + [tokens[r] for r in path_of(parents, row)] for row in rows]
    return np.stack([model.new_sequence().forward(chain)[-1] for chain in chains])


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Tokens and parents of up to 12 rows."""
    num_rows = draw(st.integers(1, 12))
    parents = [draw(st.integers(TEXT_END, row - 1)) for row in range(num_rows)]
    return [draw(st.integers(0, VOCAB_SIZE - 1)) for _ in parents], parents


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1, 5, 250]), trees(), st.data())
def test_for_any_tree_in_any_pieces_a_row_has_the_logits_of_its_path(
    model: OnnxModel, length: int, tree: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    tokens, parents = tree
    sequence = model.new_sequence()
    if length:
        sequence.forward(TEXT[:length])
    start = 0
    while start < len(tokens):
        stop = data.draw(st.integers(start + 1, len(tokens)))
        wanted = data.draw(st.sets(st.integers(start, stop - 1)).map(sorted))
        logits = sequence.forward_rows(
            tokens[start:stop], parents[start:stop], [row - start for row in wanted]
        )
        assert logits.shape == (len(wanted), VOCAB_SIZE)
        if wanted:
            assert_same(logits, rows_alone(model, TEXT[:length], tokens, parents, wanted))
        start = stop
    assert (sequence.length, sequence.num_rows) == (length, len(tokens))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1, 250]), trees(), st.data())
def test_whatever_is_kept_of_a_tree_is_what_it_was(
    model: OnnxModel, length: int, tree: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    tokens, parents = tree
    sequence = model.new_sequence()
    if length:
        sequence.forward(TEXT[:length])
    sequence.forward_rows(tokens, parents, [])
    committed = path_of(parents, data.draw(st.integers(TEXT_END, len(tokens) - 1)))
    end = committed[-1] if committed else TEXT_END
    below = [r for r in range(len(tokens)) if end in [TEXT_END, *path_of(parents, r)[:-1]]]
    chosen = data.draw(st.sets(st.sampled_from(below))) if below else set()
    stay = sorted({r for row in chosen for r in path_of(parents, row) if r in below})
    sequence.keep([*committed, *stay], len(committed))
    assert (sequence.length, sequence.num_rows) == (length + len(committed), len(stay))

    text = TEXT[:length] + [tokens[row] for row in committed]
    leaves = [*range(len(stay)), TEXT_END]
    children = [stay.index(parents[row]) if parents[row] != end else TEXT_END for row in stay]
    logits = sequence.forward_rows([7] * len(leaves), leaves, list(range(len(leaves))))
    rows = list(range(len(stay), len(stay) + len(leaves)))
    all_tokens = [*(tokens[row] for row in stay), *([7] * len(leaves))]
    assert_same(logits, rows_alone(model, text, all_tokens, children + leaves, rows))


def test_rows_that_lie_where_they_belong_are_not_copied(model: OnnxModel) -> None:
    sequence = model.new_sequence()
    sequence.forward(TEXT[:5])
    sequence.forward_rows([1, 2, 3, 4], [TEXT_END, 0, 1, TEXT_END], [])
    cache = sequence._slots._caches
    cache.flags.writeable = False  # any copy would fail
    sequence.keep([0, 1, 2], 2)
    cache.flags.writeable = True
    assert (sequence.length, sequence.num_rows) == (7, 1)


def test_a_text_does_not_go_on_over_rows(model: OnnxModel) -> None:
    sequence = model.new_sequence()
    sequence.forward([1, 2])
    sequence.forward_rows([3], [TEXT_END], [])
    with pytest.raises(ValueError, match="1 rows lie where the text would go on"):
        sequence.forward([4])
    sequence.truncate(2)
    sequence.forward([4])
    assert sequence.length == 3


def test_rows_need_room_like_any_token(bundle: Bundle) -> None:
    sequence = OnnxModel(bundle, max_positions=4).new_sequence()
    sequence.forward([1, 2])
    with pytest.raises(InvalidPromptError, match=r"5 tokens do not fit into .* 4 positions"):
        sequence.forward_rows([3, 3, 3], [TEXT_END] * 3, [0])
    assert sequence.forward_rows([3, 3], [TEXT_END] * 2, [0, 1]).shape == (2, VOCAB_SIZE)


def test_branches_of_the_real_drafter_have_the_logits_of_chains(int8_bundle_dir: Path) -> None:
    model = OnnxModel(Bundle.load(int8_bundle_dir))
    text = [504, 2240, 282, 4649, 314, 7042, 42, 719]
    tokens, parents = [260, 253, 1194, 260, 2240, 29], [TEXT_END, TEXT_END, 0, 1, 1, 3]
    sequence = model.new_sequence()
    sequence.forward(text, num_logits=0)
    first = sequence.forward_rows(tokens[:3], parents[:3], [0, 1, 2]).copy()
    rest = sequence.forward_rows(tokens[3:], parents[3:], [0, 1, 2])
    expected = rows_alone(model, text, tokens, parents, list(range(6)))
    # Activations are rounded to int8, so that a float's last bit may become a step: a chain in
    # pieces is off by up to 0.1 standard deviations, one with a wrong parent by 0.7 or more.
    error = np.concatenate([first, rest]) - expected
    assert np.sqrt(np.mean(error**2, axis=1)).max() < 0.25 * expected.std()


def test_a_provider_that_is_not_there_costs_speed_and_is_logged(
    bundle: Bundle, expected: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    model = OnnxModel(bundle, providers=("ImaginaryExecutionProvider", "CPUExecutionProvider"))
    assert_same(model.new_sequence().forward(TEXT[:5]), expected[:5])
    (record,) = caplog.records
    assert record.message == "provider_unavailable"
    assert record.fields["providers"] == "ImaginaryExecutionProvider"  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", ["input_pattern", "output_pattern"])
def test_a_graph_without_what_its_manifest_promises_is_refused(bundle: Bundle, part: str) -> None:
    kv = replace(bundle.manifest.kv, **{part: "else.{layer}.{part}"})
    other = replace(bundle, manifest=replace(bundle.manifest, kv=kv))
    what = part.removesuffix("_pattern")
    with pytest.raises(ModelFileError, match=rf"has no {what} 'else\.0\.key': .*export the bundle"):
        OnnxModel(other)
