"""With compiled linear layers a row has the same logits, to the last bit, in every pass."""

import random
from pathlib import Path

import numpy as np
import pytest
from paged_text import Text, split

from outrider_cloud.compiled_linear import FewRowsKernel
from outrider_cloud.pages import PagePool
from outrider_cloud.target import CACHED_TEXT, Rows
from outrider_cloud.torch_target import TorchTarget
from outrider_edge.tokenizer import EdgeTokenizer

PROMPT = "Explain in two sentences why the sea is salty, and name one sea that is not salty at all."


@pytest.fixture(scope="module")
def target(smollm2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TorchTarget:
    kernel = FewRowsKernel.compiled(tmp_path_factory.mktemp("kernels"))
    return TorchTarget.load(smollm2_dir, num_threads=1, pack=kernel.pack)


@pytest.fixture(scope="module")
def tokens(smollm2_dir: Path) -> list[int]:
    return EdgeTokenizer.load(smollm2_dir).encode(PROMPT)


def texts_of(target: TorchTarget, count: int) -> list[Text]:
    shape = target.cache_shape
    pool = PagePool(shape.num_pages, shape.page_tokens)
    return [Text(target, pool) for _ in range(count)]


@pytest.fixture(scope="module")
def one_by_one(target: TorchTarget, tokens: list[int]) -> list[np.ndarray]:
    """The logits after each token, decoded alone and one row a pass."""
    (text,) = texts_of(target, 1)
    logits = []
    for token in tokens:
        rows = Rows.chain([token])
        logits.append(target.forward([text.segment(rows)]).numpy()[0].copy())
        text.keep(rows, [0])
    return logits


def a_tree_along(path: list[int], chance: random.Random) -> tuple[Rows, list[int]]:
    """Rows of which some make up the path and the others are wrong branches; which ones do."""
    tokens, parents, on_path = [path[0]], [CACHED_TEXT], [0]
    for token in path[1:]:
        for _ in range(chance.randrange(3)):  # branches that come first
            tokens.append(chance.randrange(1000))
            parents.append(chance.randrange(len(tokens) - 1))
        tokens.append(token)
        parents.append(on_path[-1])
        on_path.append(len(tokens) - 1)
    return Rows(tuple(tokens), tuple(parents)), on_path


@pytest.mark.parametrize("num_others", [0, 1, 7])
def test_a_row_has_the_same_bits_in_every_tree_whoever_else_is_in_the_pass(
    target: TorchTarget, tokens: list[int], one_by_one: list[np.ndarray], num_others: int
) -> None:
    chance = random.Random(num_others)
    text, *others = texts_of(target, 1 + num_others)
    while len(text.tokens) < len(tokens):
        begin = len(text.tokens)
        rows, on_path = a_tree_along(tokens[begin : begin + chance.randrange(1, 9)], chance)
        strangers = [Rows(tuple(chance.choices(tokens, k=3)), (CACHED_TEXT, 0, 0)) for _ in others]
        segments = [other.segment(tree) for other, tree in zip(others, strangers, strict=True)]
        place = chance.randrange(len(segments) + 1)
        segments.insert(place, text.segment(rows))
        logits = split(target.forward(segments).numpy(), segments)[place]
        for i, row in enumerate(on_path):
            np.testing.assert_array_equal(logits[row], one_by_one[begin + i])
        text.keep(rows, on_path)
        for other, tree in zip(others, strangers, strict=True):
            other.keep(tree, [0, 2])
