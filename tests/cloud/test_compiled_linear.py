"""The compiled kernel computes what PyTorch computes, row by row the same in every pass."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import write_tiny_model
from torch import nn
from transformers import AutoModelForCausalLM

from outrider_cloud.compiled_linear import CompiledLinear, FewRowsKernel
from outrider_cloud.fused_modules import GatedMlp, RmsNorm
from outrider_cloud.speed_up import speed_up
from outrider_common.errors import UnsupportedError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> FewRowsKernel:
    return FewRowsKernel.compiled(tmp_path_factory.mktemp("kernels"))


@given(
    seed=st.integers(0, 2**31),
    num_rows=st.integers(0, 70),
    num_inputs=st.integers(1, 90),
    num_outputs=st.integers(1, 130),
    bias=st.booleans(),
)
def test_a_layer_of_any_shape_equals_the_one_it_replaces(
    kernel: FewRowsKernel, seed: int, num_rows: int, num_inputs: int, num_outputs: int, bias: bool
) -> None:
    torch.manual_seed(seed)
    linear = nn.Linear(num_inputs, num_outputs, bias=bias)
    x = torch.randn(num_rows, num_inputs)
    with torch.inference_mode():
        ours = CompiledLinear(linear, kernel)(x)
        torch.testing.assert_close(ours, linear(x), atol=2e-5, rtol=1e-5)


@given(seed=st.integers(0, 2**31), num_rows=st.integers(1, 40), row=st.integers(0, 39))
def test_a_row_gets_the_same_bits_whatever_rows_are_around_it(
    kernel: FewRowsKernel, seed: int, num_rows: int, row: int
) -> None:
    torch.manual_seed(seed)
    layer = CompiledLinear(nn.Linear(300, 100), kernel)
    x = torch.randn(num_rows, 300)
    row %= num_rows
    with torch.inference_mode():
        assert torch.equal(layer(x)[row], layer(x[row : row + 1])[0])


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(512, 640), nn.Linear(512, 640)
        self.down_proj = nn.Linear(640, 512)
        self.act_fn = nn.SiLU()


@pytest.mark.parametrize("num_rows", [2, 7, 8, 9, 16, 33])
def test_norm_and_feed_forward_layer_keep_the_bits_of_a_row(
    kernel: FewRowsKernel, num_rows: int
) -> None:
    torch.manual_seed(num_rows)
    norm, mlp = RmsNorm(torch.rand(512), 1e-5), GatedMlp(_Gated(), kernel.pack)
    x = torch.randn(1, num_rows, 512)
    with torch.inference_mode():
        together = mlp(norm(x))
        alone = [mlp(norm(x[:, row : row + 1])) for row in range(num_rows)]
    assert torch.equal(together, torch.cat(alone, dim=1))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_the_number_of_threads_changes_no_bit(kernel: FewRowsKernel, num_threads: int) -> None:
    torch.manual_seed(3)
    layer = CompiledLinear(nn.Linear(64, 500), kernel)
    x = torch.randn(1, 11, 64)
    before = torch.get_num_threads()
    expected = layer(x)
    torch.set_num_threads(num_threads)
    try:
        assert torch.equal(layer(x), expected)
    finally:
        torch.set_num_threads(before)


def test_rows_that_do_not_lie_side_by_side_are_read_as_they_are(kernel: FewRowsKernel) -> None:
    linear = nn.Linear(32, 50)
    x = torch.randn(3, 2, 64)[..., ::2].transpose(0, 1)
    with torch.inference_mode():
        torch.testing.assert_close(CompiledLinear(linear, kernel)(x), linear(x))


def test_only_large_layers_in_fp32_are_replaced(kernel: FewRowsKernel) -> None:
    small, half = nn.Linear(8, 8), nn.Linear(1024, 1024, dtype=torch.bfloat16)
    assert kernel.pack(small) is small
    assert kernel.pack(half) is half
    assert isinstance(kernel.pack(nn.Linear(1024, 1024)), CompiledLinear)


@pytest.mark.parametrize("family", ["llama", "llama_biased", "qwen3", "gemma3"])
def test_a_whole_model_keeps_its_logits(kernel: FewRowsKernel, family: str, tmp_path: Path) -> None:
    size = {"hidden_size": 512, "intermediate_size": 768, "initializer_range": 0.02}
    directory = write_tiny_model(tmp_path, family, **size)
    ours, theirs = (AutoModelForCausalLM.from_pretrained(directory) for _ in range(2))
    speed_up(ours, kernel.pack)
    assert any(isinstance(module, CompiledLinear) for module in ours.modules())
    tokens = torch.arange(5, 45)[None]
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=2e-5, atol=2e-5)


def test_a_kernel_is_compiled_once(tmp_path: Path) -> None:
    FewRowsKernel.compiled(tmp_path)
    (library,) = tmp_path.iterdir()
    before = library.stat().st_mtime_ns
    FewRowsKernel.compiled(tmp_path)
    assert list(tmp_path.iterdir()) == [library]
    assert library.stat().st_mtime_ns == before


def test_without_a_compiler_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UnsupportedError, match=r"'no-such-compiler'.*install one.*CC"):
        FewRowsKernel.compiled(tmp_path / "kernels")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *-dM*) exit 0;; esac\necho no registers >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(UnsupportedError, match=r"broken-cc.*no registers"):
        FewRowsKernel.compiled(tmp_path / "kernels")
    assert list((tmp_path / "kernels").iterdir()) == []
