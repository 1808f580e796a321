"""The Transformers target over a paged KV cache, against the model's own forward."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_text import Text, split
from plain_flex import plain_flex
from safetensors.torch import load_file, save_file
from tiny_models import write_tiny_model

from outrider_cloud.cpu_attention import CpuAttention
from outrider_cloud.flex_attention import FlexAttention
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.paged_attention import KvShape, PagedAttention
from outrider_cloud.pages import PagePool
from outrider_cloud.plain_attention import PlainAttention
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_cloud.torch_target import TorchTarget, kv_shape
from outrider_common.errors import ConfigError, ModelFileError, UnsupportedError

TOLERANCE = 2e-5
NUM_PAGES = 64

FAMILIES = ["llama", "llama_biased", "mistral_window", "qwen2", "qwen3", "gemma3"]
ATTENTIONS = {
    "cpu": lambda kv: CpuAttention(kv, NUM_PAGES),
    "cpu, two threads": lambda kv: CpuAttention(kv, NUM_PAGES, num_threads=2),
    "plain": lambda kv: PlainAttention(kv, NUM_PAGES, page_tokens=4),
    "flex": lambda kv: FlexAttention(kv, NUM_PAGES, 4, tile_rows=2, flex=plain_flex),
}


@dataclass(frozen=True, repr=False)
class Pair:
    """The target, and the same model as Transformers runs it."""

    target: TorchTarget
    reference: Any

    def texts(self, count: int) -> list[Text]:
        """Empty texts, of which no two share pages with those of another call."""
        shape = self.target.cache_shape
        pool = PagePool(shape.num_pages, shape.page_tokens)
        return [Text(self.target, pool) for _ in range(count)]

    def own_logits(self, tokens: list[int]) -> np.ndarray:
        """What the model's ordinary forward gives for a whole text, [len, vocab]."""
        with torch.inference_mode():
            logits: np.ndarray = self.reference(torch.tensor([tokens])).logits[0].numpy()
        return logits


def load(directory: Path, attention: str) -> TorchTarget:
    model = load_causal_lm(directory, lambda _config: None)
    paged: PagedAttention = ATTENTIONS[attention](kv_shape(model.config))
    return TorchTarget(model, paged)


@pytest.fixture(scope="module", params=[(f, a) for f in FAMILIES for a in ATTENTIONS])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    family, attention = request.param
    directory = write_tiny_model(tmp_path_factory.mktemp("model"), family)
    return Pair(load(directory, attention), load_causal_lm(directory, lambda _config: None))


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
    texts = pair.texts(len(prompts))
    work = [Rows.chain(prompt) for prompt in prompts]
    for _ in range(3):
        segments = [text.segment(rows) for text, rows in zip(texts, work, strict=True)]
        logits = pair.target.forward(segments).numpy()
        for text, rows, own in zip(texts, work, split(logits, segments), strict=True):
            for row in range(len(rows.tokens)):
                whole = [*text.tokens, *(rows.tokens[i] for i in path_to(rows, row))]
                np.testing.assert_allclose(
                    own[row], pair.own_logits(whole)[-1], atol=TOLERANCE, rtol=TOLERANCE
                )
            kept = path_to(rows, data.draw(st.integers(0, len(rows.tokens) - 1), label="kept"))
            text.keep(rows, kept)
            assert text.sequence.length == len(text.tokens)
        work = [data.draw(trees(), label="tree") for _ in prompts]


def test_text_of_many_pages_is_kept(pair: Pair) -> None:
    tokens = [i * 7 % 250 for i in range(150)]
    (text,) = pair.texts(1)
    pieces = []
    for start in range(0, len(tokens), 25):
        rows = Rows.chain(tokens[start : start + 25])
        pieces.append(pair.target.forward([text.segment(rows)]).numpy())
        text.keep(rows, range(len(rows.tokens)))
    expected = pair.own_logits(tokens)
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_text_that_begins_as_another_shares_its_pages_and_has_the_same_logits(
    pair: Pair,
) -> None:
    first, second = pair.texts(2)
    tokens = [i * 11 % 250 for i in range(45)]
    rows = Rows.chain(tokens)
    expected = pair.target.forward([first.segment(rows)]).numpy()[-1]
    first.keep(rows, range(len(tokens)))
    second.tokens += tokens
    shared = second.sequence.adopt(len(tokens) - 1)
    assert shared >= 32
    assert list(second.sequence.pages) == list(first.sequence.pages[: len(second.sequence.pages)])
    rest = second.segment(Rows.chain(tokens[shared:]))
    logits = pair.target.forward([rest]).numpy()[-1]
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_logits_are_computed_only_where_they_are_wanted(pair: Pair) -> None:
    first, second = pair.texts(2)
    segments = [
        first.segment(Rows.chain([1, 2, 3, 4], first_logits_row=3)),
        second.segment(Rows.chain([5, 6], first_logits_row=0)),
    ]
    logits = pair.target.forward(segments).numpy()
    assert logits.shape == (3, pair.target.vocab_size)
    expected = pair.own_logits([1, 2, 3, 4])[3:]
    np.testing.assert_allclose(logits[:1], expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_pass_that_was_not_kept_leaves_no_trace(pair: Pair) -> None:
    (text,) = pair.texts(1)
    pair.target.forward([text.segment(Rows.chain([1, 2, 3]))])
    logits = pair.target.forward([text.segment(Rows.chain([7, 8]))]).numpy()
    assert text.sequence.length == 0
    np.testing.assert_allclose(logits, pair.own_logits([7, 8]), atol=TOLERANCE, rtol=TOLERANCE)


def test_a_pass_that_wants_no_logits_only_fills_the_cache(pair: Pair) -> None:
    (text,) = pair.texts(1)
    rows = Rows.chain([1, 2, 3], first_logits_row=3)
    assert pair.target.forward([text.segment(rows)]).num_rows == 0
    text.keep(rows, range(3))
    logits = pair.target.forward([text.segment(Rows.chain([4]))]).numpy()
    expected = pair.own_logits([1, 2, 3, 4])[3:]
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_target_in_bfloat16_has_about_the_logits_of_one_in_float32(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    work = [Segment((0,), 0, Rows.chain([1, 2, 3]))]
    logits, exact = (
        TorchTarget.load(directory, dtype=dtype, kv_cache_mib=1).forward(work).numpy()
        for dtype in ("bfloat16", "float32")
    )
    assert not np.array_equal(logits, exact)
    np.testing.assert_allclose(logits, exact, atol=0.15)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'cuda'.*verifier\.device"):
        TorchTarget.load(tmp_path / "nothing", device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_in_float32(tmp_path: Path) -> None:
    target = TorchTarget.load(write_tiny_model(tmp_path), device="auto", kv_cache_mib=1)
    assert (target.model.device.type, target.model.dtype) == ("cpu", torch.float32)


def test_a_model_without_room_on_its_device_is_refused_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.PreTrainedModel.to", no_room)
    with pytest.raises(ConfigError, match=r"model of \d+ MiB does not fit"):
        load_causal_lm(write_tiny_model(tmp_path), lambda _config: None)


def test_a_model_that_names_no_key_heads_has_one_for_each_query_head() -> None:
    config = SimpleNamespace(num_hidden_layers=3, num_attention_heads=8, hidden_size=64)
    assert kv_shape(config) == KvShape(num_layers=3, num_kv_heads=8, head_size=8)


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
