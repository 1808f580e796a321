"""Linear layers with reordered weights compute what PyTorch's own compute."""

import pytest
import torch
from torch import nn

from outrider_cloud.packed_linear import SMALLEST_WEIGHT, PackedLinear, pack, pack_linears


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 8, 17, 200])
def test_a_packed_layer_equals_the_one_it_replaces(bias: bool, num_rows: int) -> None:
    torch.manual_seed(num_rows)
    linear = nn.Linear(576, 640, bias=bias)
    x = torch.randn(1, num_rows, 576)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=2e-5, rtol=1e-5)


def test_only_large_layers_are_replaced_wherever_they_are() -> None:
    size = int(SMALLEST_WEIGHT**0.5)
    small = nn.Linear(size, size - 1)
    model = nn.Sequential(nn.Linear(size, size), nn.Sequential(small, nn.Linear(size, 2 * size)))
    assert pack_linears(model) == 2
    assert isinstance(model[0], PackedLinear)
    assert isinstance(model[1][1], PackedLinear)
    assert model[1][0] is small


def test_a_model_may_be_packed_in_another_way() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    assert pack_linears(model, lambda linear: nn.Identity()) == 2
    assert not [module for module in model.modules() if isinstance(module, nn.Linear)]


def test_a_layer_that_would_not_gain_is_given_back() -> None:
    small = nn.Linear(8, 8)
    assert pack(small) is small


def test_layers_of_other_number_formats_stay() -> None:
    model = nn.Sequential(nn.Linear(1024, 1024, dtype=torch.bfloat16))
    assert pack_linears(model) == 0


def test_a_pytorch_without_the_operators_keeps_its_own_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = nn.Sequential(nn.Linear(1024, 1024))
    assert pack_linears(model) == 0
