"""Rows of nobody: how many there are, and that nothing depends on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import write_tiny_model

from outrider_cloud.row_padding import RowPadding, next_power_of_two
from outrider_cloud.target import Rows, Segment
from outrider_cloud.torch_target import TorchTarget

TOLERANCE = 2e-5
PADDINGS = st.one_of(
    st.builds(RowPadding, st.integers(0, 40)),
    st.builds(RowPadding, st.just(0), st.sampled_from([1, 2, 8, 64])),
)


def a_pass(*num_rows: int) -> list[Segment]:
    return [
        Segment((2 * i, 2 * i + 1), 0, Rows.chain(range(3 + i, 3 + i + rows)))
        for i, rows in enumerate(num_rows)
    ]


@given(number=st.integers(1, 5000))
def test_the_next_power_of_two_is_the_smallest_that_is_not_below(number: int) -> None:
    power = next_power_of_two(number)
    assert power & (power - 1) == 0
    assert power >= number > power // 2


@given(padding=PADDINGS, sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_a_pass_is_filled_up_with_rows_that_want_nothing_and_see_only_themselves(
    padding: RowPadding, sizes: list[int]
) -> None:
    work = a_pass(*sizes)
    padded = padding.pad(work, page_tokens=4, first_page=100)
    nobody = padded[len(work) :]
    assert list(padded[: len(work)]) == work
    assert sum(len(one.rows.tokens) for one in padded) == padding.padded(sum(sizes))
    assert sum(one.rows.num_logits_rows for one in nobody) == 0
    assert all(one.length == 0 and set(one.rows.parents) == {-1} for one in nobody)


@given(padding=PADDINGS, sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_rows_of_nobody_have_pages_of_their_own_among_those_that_are_kept(
    padding: RowPadding, sizes: list[int]
) -> None:
    nobody = padding.pad(a_pass(*sizes), page_tokens=4, first_page=100)[len(sizes) :]
    pages = [page for one in nobody for page in one.pages]
    assert pages == list(range(100, 100 + len(pages)))
    assert len(pages) <= padding.num_pages(4)
    assert all(len(one.rows.tokens) <= 4 for one in nobody)


@given(num_rows=st.integers(0, 300), fixed_rows=st.integers(1, 40))
def test_fixed_rows_fill_up_to_the_next_multiple(num_rows: int, fixed_rows: int) -> None:
    padded = RowPadding(fixed_rows).padded(num_rows)
    assert padded % fixed_rows == 0
    assert 0 <= padded - num_rows < fixed_rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("fixed_rows", [1, 5, 16, 37])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_with_padding_are_those_without(
    directory: Path, fixed_rows: int, dtype: str
) -> None:
    plain = TorchTarget.load(directory, dtype=dtype, kv_cache_mib=8)
    padded = TorchTarget.load(directory, dtype=dtype, kv_cache_mib=8, fixed_rows=fixed_rows)
    tolerance = TOLERANCE if dtype == "float32" else 0.1
    for work in (a_pass(3), a_pass(7, 1, 12), a_pass(5, 5)):
        expected = plain.forward(work).numpy()
        logits = padded.forward(work).numpy()
        np.testing.assert_allclose(logits, expected, atol=tolerance, rtol=tolerance)


def test_what_lay_in_the_kept_pages_changes_no_bit(directory: Path) -> None:
    target = TorchTarget.load(directory, kv_cache_mib=8, fixed_rows=16)
    first = target.forward(a_pass(3)).numpy()
    for layer in (*target._attention._keys, *target._attention._values):  # type: ignore[attr-defined]
        shape = target._attention.shape
        size = len(layer) // shape.num_pages
        layer[target.cache_shape.num_pages * size :] = np.nan
    np.testing.assert_array_equal(target.forward(a_pass(3)).numpy(), first)


def test_the_engine_does_not_know_of_the_kept_pages(directory: Path) -> None:
    plain = TorchTarget.load(directory, kv_cache_mib=8).cache_shape
    padded = TorchTarget.load(directory, kv_cache_mib=8, fixed_rows=40).cache_shape
    assert plain.num_pages - padded.num_pages == -(-39 // plain.page_tokens)


def test_the_numbers_of_rows_that_kernels_see_are_fixed(directory: Path) -> None:
    target = TorchTarget.load(directory, kv_cache_mib=8, fixed_rows=16)
    seen: set[tuple[int, ...]] = set()
    model = target.model
    hooks = [
        module.register_forward_hook(lambda *call: seen.add(tuple(call[1][0].shape[:-1])))
        for module in (model.model.layers[0].mlp, model.get_output_embeddings())
    ]
    for sizes in ((1,), (3, 9), (16,), (1, 1, 1)):
        target.forward(a_pass(*sizes))
    for hook in hooks:
        hook.remove()
    assert seen == {(1, 16)}


def test_there_is_no_padding_by_default(directory: Path) -> None:
    target = TorchTarget.load(directory, kv_cache_mib=8)
    seen: list[torch.Size] = []
    target.model.model.layers[0].register_forward_hook(lambda *call: seen.append(call[1][0].shape))
    target.forward(a_pass(3))
    assert [shape[1] for shape in seen] == [3]
