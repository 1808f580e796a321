"""The plain target and its KV cache, against the model's own forward."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_model

from outrider_cloud.kv_cache import INITIAL_POSITIONS
from outrider_cloud.target import CACHED_TEXT, Rows
from outrider_cloud.torch_target import TorchTarget, ancestry
from outrider_common.errors import ModelFileError, UnsupportedError

TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchTarget:
    return TorchTarget.load(write_tiny_model(tmp_path_factory.mktemp("model"), request.param))


def own_logits(target: TorchTarget, tokens: list[int]) -> np.ndarray:
    """What the model's ordinary forward gives for a whole text, [len, vocab]."""
    with torch.inference_mode():
        logits: np.ndarray = target.model(torch.tensor([tokens])).logits[0].numpy()
    return logits


@st.composite
def trees(draw: st.DrawFn) -> Rows:
    num_rows = draw(st.integers(1, 9))
    tokens = draw(st.lists(st.integers(0, 250), min_size=num_rows, max_size=num_rows))
    parents = [draw(st.integers(CACHED_TEXT, i - 1)) for i in range(num_rows)]
    return Rows(tuple(tokens), tuple(parents))


def path_to(rows: Rows, row: int) -> list[int]:
    path: list[int] = []
    while row != CACHED_TEXT:
        path.append(row)
        row = rows.parents[row]
    return path[::-1]


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.lists(st.integers(0, 250), min_size=1, max_size=30),
    passes=st.lists(st.tuples(trees(), st.integers(0, 8)), min_size=1, max_size=4),
)
def test_any_tree_after_any_kept_path_has_the_logits_of_the_ordinary_forward(
    target: TorchTarget, prompt: list[int], passes: list[tuple[Rows, int]]
) -> None:
    sequence = target.new_sequence()
    sequence.forward(Rows.chain(prompt))
    sequence.keep(range(len(prompt)))
    text = list(prompt)
    for rows, choice in passes:
        logits = sequence.forward(rows)
        for row in range(len(rows.tokens)):
            expected = own_logits(target, [*text, *(rows.tokens[i] for i in path_to(rows, row))])
            np.testing.assert_allclose(logits[row], expected[-1], atol=TOLERANCE)
        kept = path_to(rows, min(choice, len(rows.tokens) - 1))
        sequence.keep(kept)
        text += [rows.tokens[i] for i in kept]
        assert sequence.length == len(text)


def test_a_cache_that_grows_keeps_what_it_holds(target: TorchTarget) -> None:
    tokens = [i * 7 % 250 for i in range(3 * INITIAL_POSITIONS)]
    sequence = target.new_sequence()
    pieces = []
    for start in range(0, len(tokens), 25):
        piece = tokens[start : start + 25]
        pieces.append(sequence.forward(Rows.chain(piece)))
        sequence.keep(range(len(piece)))
    np.testing.assert_allclose(np.concatenate(pieces), own_logits(target, tokens), atol=TOLERANCE)


def test_logits_are_computed_only_where_they_are_wanted(target: TorchTarget) -> None:
    tokens = [1, 2, 3, 4]
    logits = target.new_sequence().forward(Rows.chain(tokens, first_logits_row=3))
    assert logits.shape == (1, target.vocab_size)
    np.testing.assert_allclose(logits, own_logits(target, tokens)[3:], atol=TOLERANCE)


def test_two_sequences_do_not_share_a_cache(target: TorchTarget) -> None:
    first, second = target.new_sequence(), target.new_sequence()
    first.forward(Rows.chain([1, 2, 3]))
    second.forward(Rows.chain([9, 8]))
    assert (first.length, second.length) == (3, 2)


def test_rows_see_themselves_and_their_ancestors() -> None:
    sees = ancestry([CACHED_TEXT, 0, 0, 2, CACHED_TEXT])
    assert [np.flatnonzero(row).tolist() for row in sees] == [[0], [0, 1], [0, 2], [0, 2, 3], [4]]


def test_depths_count_the_rows_above() -> None:
    assert Rows((5, 6, 7, 8), (CACHED_TEXT, 0, 0, 2)).depths() == [0, 1, 1, 2]


def test_a_model_with_a_sliding_window_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'mistral'.*sliding window of 8"):
        TorchTarget.load(write_tiny_model(tmp_path, "mistral_window", sliding_window=8))


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "no-such-type"}'])
def test_a_directory_that_is_no_model_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelFileError, match=str(tmp_path)):
        TorchTarget.load(tmp_path)


def test_half_downloaded_weights_are_refused(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=str(directory)):
        TorchTarget.load(directory)


def test_missing_weights_are_refused_not_made_up(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    tensors = load_file(directory / "model.safetensors")
    del tensors[next(name for name in tensors if "mlp" in name)]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="mlp"):
        TorchTarget.load(directory)
