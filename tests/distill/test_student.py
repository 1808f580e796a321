"""Students made of layers of a target."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_models import FAMILIES, write_tiny_model

from outrider_cloud.loading import load_causal_lm
from outrider_common.errors import InvalidInputError, ModelFileError
from outrider_distill.student import (
    build_student,
    read_description,
    read_trained,
    spread_layers,
    trained_state,
    write_trained,
)


@given(st.integers(2, 200), st.data())
def test_spread_layers_are_distinct_and_reach_from_the_first_to_the_last(
    num_target_layers: int, data: st.DataObject
) -> None:
    num_layers = data.draw(st.integers(1, num_target_layers - 1))
    layers = spread_layers(num_target_layers, num_layers)
    assert len(layers) == len(set(layers)) == num_layers
    assert list(layers) == sorted(layers)
    assert layers[0] == 0
    assert num_layers == 1 or layers[-1] == num_target_layers - 1


@pytest.mark.parametrize("num_layers", [0, 4, 5])
def test_a_drafter_is_smaller_than_its_target(num_layers: int) -> None:
    with pytest.raises(InvalidInputError, match="choose 1 to 3"):
        spread_layers(4, num_layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_all_layers_computes_what_its_target_computes(
    tmp_path: Path, family: str
) -> None:
    target: Any = load_causal_lm(write_tiny_model(tmp_path / family, family), lambda config: None)
    student: Any = build_student(target, [0, 1]).eval()
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(student(tokens).logits, target(tokens).logits)


def test_a_student_has_the_layers_that_were_chosen_and_shares_the_rest(tiny_model: Any) -> None:
    student: Any = build_student(tiny_model, [3, 1])
    for place, layer in ((0, 3), (1, 1)):
        own, theirs = student.model.layers[place], tiny_model.model.layers[layer]
        for one, other in zip(own.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)
    assert student.config.num_hidden_layers == 2
    frozen = {name for name, weight in student.named_parameters() if not weight.requires_grad}
    assert frozen == {"model.embed_tokens.weight"}
    assert student.lm_head.weight is student.model.embed_tokens.weight


def test_a_layer_that_the_target_lacks_is_named(tiny_model: Any) -> None:
    with pytest.raises(InvalidInputError, match="no layer 4; choose from 0 to 3"):
        build_student(tiny_model, [0, 4])


def test_trained_layers_come_back_from_a_file_without_what_is_shared(
    tmp_path: Path, tiny_model: Any
) -> None:
    student, other = (build_student(tiny_model, [0, 3]) for _ in range(2))
    with torch.no_grad():
        for weight in trained_state(student).values():
            weight.mul_(1.5)
    path = tmp_path / "trained.safetensors"
    write_trained(student, path, {"layers": [0, 3]})
    read_trained(other, path)
    for name, weight in trained_state(other).items():
        trained = trained_state(student)[name]
        row_most = trained.abs().amax(dim=-1, keepdim=True)
        assert bool(((weight - trained).abs() <= 1.01 * row_most / 254).all())
    assert read_description(path) == {"layers": [0, 3]}
    num_own = sum(weight.numel() for weight in trained_state(student).values())
    num_rows = sum(w.shape[0] for w in trained_state(student).values() if w.dim() == 2)
    assert num_own < path.stat().st_size < num_own + 4 * num_rows + 8192


def test_a_row_of_zeros_comes_back_as_zeros(tmp_path: Path, tiny_model: Any) -> None:
    student, other = (build_student(tiny_model, [0]) for _ in range(2))
    with torch.no_grad():
        for weight in trained_state(student).values():
            weight.zero_()
    write_trained(student, tmp_path / "zeros", {})
    read_trained(other, tmp_path / "zeros")
    assert all(bool((weight == 0).all()) for weight in trained_state(other).values())


def test_layers_of_another_shape_are_refused(tmp_path: Path, tiny_model: Any) -> None:
    path = tmp_path / "trained.safetensors"
    write_trained(build_student(tiny_model, [0, 3]), path, {"layers": [0, 3]})
    with pytest.raises(ModelFileError, match="do not fit"):
        read_trained(build_student(tiny_model, [0]), path)


def test_a_damaged_file_is_named(tmp_path: Path, tiny_model: Any) -> None:
    path = tmp_path / "trained.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"trained\.safetensors"):
        read_trained(build_student(tiny_model, [0]), path)
    with pytest.raises(ModelFileError, match=r"trained\.safetensors"):
        read_description(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path, tiny_model: Any) -> None:
    path = tmp_path / "trained.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(ModelFileError, match="does not hold the trained layers"):
        read_description(path)


def test_a_student_s_layers_keep_their_kind_of_attention(tmp_path: Path) -> None:
    windows = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
    target: Any = load_causal_lm(
        write_tiny_model(tmp_path / "mixed", "qwen2", **windows), lambda config: None
    )
    assert target.config.layer_types == ["full_attention", "sliding_attention"]
    student = build_student(target, [1, 0])
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
