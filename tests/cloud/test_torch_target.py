"""The plain target and its KV cache, against the model's own forward."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_model

from outrider_cloud.kv_cache import FIRST_CAPACITY
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.packed_attention import ancestry
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_cloud.torch_target import TorchTarget
from outrider_common.errors import ModelFileError, UnsupportedError

TOLERANCE = 2e-5


FAMILIES = ["llama", "llama_biased", "mistral_window", "qwen2", "qwen3", "gemma3"]


@dataclass(frozen=True, repr=False)
class Pair:
    """The target, and the same model as Transformers runs it."""

    target: TorchTarget
    reference: Any

    def own_logits(self, tokens: list[int]) -> np.ndarray:
        """What the model's ordinary forward gives for a whole text, [len, vocab]."""
        with torch.inference_mode():
            logits: np.ndarray = self.reference(torch.tensor([tokens])).logits[0].numpy()
        return logits


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = write_tiny_model(tmp_path_factory.mktemp("model"), request.param)
    return Pair(TorchTarget.load(directory), load_causal_lm(directory, lambda _config: None))


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


@settings(max_examples=15, deadline=None)
@given(
    prompts=st.lists(
        st.lists(st.integers(0, 250), min_size=1, max_size=30), min_size=1, max_size=4
    ),
    data=st.data(),
)
def test_any_trees_of_any_sequences_in_one_pass_have_the_logits_of_the_ordinary_forward(
    pair: Pair, prompts: list[list[int]], data: st.DataObject
) -> None:
    target = pair.target
    sequences = [target.new_sequence() for _ in prompts]
    texts: list[list[int]] = [[] for _ in prompts]
    work = [Rows.chain(prompt) for prompt in prompts]
    for _ in range(3):
        segments = list(map(Segment, sequences, work))
        for text, sequence, rows, logits in zip(
            texts, sequences, work, target.forward(segments), strict=True
        ):
            for row in range(len(rows.tokens)):
                whole = [*text, *(rows.tokens[i] for i in path_to(rows, row))]
                np.testing.assert_allclose(
                    logits[row], pair.own_logits(whole)[-1], atol=TOLERANCE, rtol=TOLERANCE
                )
            kept = path_to(rows, data.draw(st.integers(0, len(rows.tokens) - 1), label="kept"))
            sequence.keep(kept)
            text += [rows.tokens[i] for i in kept]
            assert sequence.length == len(text)
        work = [data.draw(trees(), label="tree") for _ in prompts]


def test_a_cache_that_grows_keeps_what_it_holds(pair: Pair) -> None:
    tokens = [i * 7 % 250 for i in range(2 * FIRST_CAPACITY + 20)]
    sequence = pair.target.new_sequence()
    pieces = []
    for start in range(0, len(tokens), 25):
        rows = Rows.chain(tokens[start : start + 25])
        pieces += pair.target.forward([Segment(sequence, rows)])
        sequence.keep(range(len(rows.tokens)))
    expected = pair.own_logits(tokens)
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_logits_are_computed_only_where_they_are_wanted(pair: Pair) -> None:
    target = pair.target
    segments = [
        Segment(target.new_sequence(), Rows.chain([1, 2, 3, 4], first_logits_row=3)),
        Segment(target.new_sequence(), Rows.chain([5, 6], first_logits_row=0)),
    ]
    first, second = target.forward(segments)
    assert first.shape == (1, target.vocab_size)
    expected = pair.own_logits([1, 2, 3, 4])[3:]
    np.testing.assert_allclose(first, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert second.shape == (2, target.vocab_size)


def test_a_pass_that_was_not_kept_leaves_no_trace(pair: Pair) -> None:
    sequence = pair.target.new_sequence()
    pair.target.forward([Segment(sequence, Rows.chain([1, 2, 3]))])
    (logits,) = pair.target.forward([Segment(sequence, Rows.chain([7, 8]))])
    assert sequence.length == 0
    np.testing.assert_allclose(logits, pair.own_logits([7, 8]), atol=TOLERANCE, rtol=TOLERANCE)


def test_rows_see_themselves_and_their_ancestors() -> None:
    sees = ancestry([CACHED_TEXT, 0, 0, 2, CACHED_TEXT])
    assert [np.flatnonzero(row).tolist() for row in sees] == [[0], [0, 1], [0, 2], [0, 2, 3], [4]]


def test_depths_count_the_rows_above() -> None:
    assert Rows((5, 6, 7, 8), (CACHED_TEXT, 0, 0, 2)).depths() == [0, 1, 1, 2]


def test_a_model_that_attends_in_an_unknown_way_is_refused_by_name(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["layer_types"] = ["full_attention", "chunked_attention"]
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedError, match=r"'llama'.*chunked_attention"):
        TorchTarget.load(directory)


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
