"""Texts with masks behind them, and what a student makes of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distiller import Distiller
from hypothesis import given
from hypothesis import strategies as st
from test_training import PLAN, Watcher
from tiny_models import train_tokenizer, write_tiny_model

from outrider_cloud.loading import load_causal_lm
from outrider_common.errors import UnsupportedError
from outrider_distill.assembling import _write_model
from outrider_distill.batches import Batch
from outrider_distill.blocks import Layout, choose_anchors
from outrider_distill.chat_format import ChatFormat, chat_format
from outrider_distill.distil import TRAINED_FILE
from outrider_distill.estimate import hidden_rows
from outrider_distill.masks import spare_tokens
from outrider_distill.samples import Sample
from outrider_distill.student import (
    build_student,
    read_description,
    read_trained,
    trained_state,
    write_trained,
)
from outrider_distill.training import Trainer

CPU = torch.device("cpu")
MASKS = (0, 299)


@given(st.integers(2, 20), st.integers(1, 4), st.data())
def test_a_mask_sees_the_text_to_its_anchor_and_the_masks_before_it(
    num_tokens: int, num_masks: int, data: st.DataObject
) -> None:
    anchors = data.draw(st.lists(st.integers(0, num_tokens - 1), unique=True, max_size=5))
    layout = Layout.of(num_tokens, anchors, num_masks)
    expected = [(place, 0, place) for place in range(num_tokens)]  # position, number, anchor
    for anchor in anchors:
        numbers = range(1, min(num_masks, num_tokens - 1 - anchor) + 1)
        expected += [(anchor + number, number, anchor) for number in numbers]
    assert layout.positions.tolist() == [position for position, _, _ in expected]
    assert layout.numbers.tolist() == [number for _, number, _ in expected]
    for row, (_, number, anchor) in enumerate(expected):
        for column, (position, other_number, other_anchor) in enumerate(expected):
            is_text = other_number == 0
            own = number > 0 and other_anchor == anchor and other_number <= number
            sees = position <= anchor if is_text else own
            assert bool(layout.sees[row, column]) == sees


def test_anchors_are_rows_to_learn_from_and_the_seed_decides_them(
    tiny_samples: Sequence[Sample],
) -> None:
    for sample in tiny_samples:
        anchors = choose_anchors(sample, 3, 0)
        assert anchors == choose_anchors(sample, 3, 0)
        assert all(sample.begin <= anchor < len(sample.tokens) - 2 for anchor in anchors)
        assert len(anchors) == max(0, len(sample.tokens) - 2 - sample.begin) // 4
    choices = {tuple(choose_anchors(max(tiny_samples, key=len_of), 3, s)) for s in range(5)}
    assert len(choices) == 5


def len_of(sample: Sample) -> int:
    return len(sample.tokens)


def test_rows_of_masks_have_the_teacher_of_the_text_further_on(
    tiny_samples: Sequence[Sample],
) -> None:
    batch = Batch.of(tiny_samples[:6], CPU, num_masks=2, seed=1)
    assert batch.blocks is not None
    longest = batch.tokens.shape[1]
    for row, depth, ids in zip(batch.rows, batch.depths, batch.top_ids, strict=True):
        text, place = divmod(int(row), longest)
        position = int(batch.blocks.positions[text, place])
        assert int(batch.blocks.numbers[text, place]) == int(depth)
        np.testing.assert_array_equal(ids, tiny_samples[text].top_ids[position])
    assert set(batch.depths.tolist()) == {0, 1, 2}


def test_masks_do_not_change_what_the_text_s_own_rows_compute(
    tiny_model: Any, tiny_samples: Sequence[Sample]
) -> None:
    student: Any = build_student(tiny_model, [0, 3], MASKS).eval()
    with torch.no_grad():
        batches = [Batch.of(tiny_samples[:6], CPU, masks, 1) for masks in (0, 2)]
        plain, masked = (hidden_rows(student, batch, torch.float32) for batch in batches)
    torch.testing.assert_close(masked[batches[1].depths == 0], plain, atol=1e-4, rtol=1e-4)


def test_a_mask_computes_what_it_would_behind_the_text_alone(
    tiny_model: Any, tiny_samples: Sequence[Sample]
) -> None:
    """As an edge runs it: the text to the anchor, then the masks, and nothing else."""
    student: Any = build_student(tiny_model, [0, 3], MASKS).eval()
    batch = Batch.of(tiny_samples[:1], CPU, num_masks=2, seed=1)
    assert batch.blocks is not None
    text = torch.from_numpy(tiny_samples[0].tokens).long()
    with torch.no_grad():
        found = hidden_rows(student, batch, torch.float32)
        for row in (batch.depths == 2).nonzero()[:, 0].tolist():
            anchor = int(batch.blocks.positions[0, batch.rows[row]]) - 2
            tokens = torch.cat([text[: anchor + 1], torch.tensor(MASKS)])[None]
            alone = student.model(tokens).last_hidden_state[0, -1]
            torch.testing.assert_close(found[row], alone, atol=1e-4, rtol=1e-4)


def test_a_student_learns_to_look_ahead(
    tiny_model: Any, tiny_samples: Sequence[Sample], tmp_path: Path
) -> None:
    student = build_student(tiny_model, [0, 3], MASKS)
    watcher = Watcher()
    plan = replace(PLAN, epochs=8)
    trainer = Trainer(student, tiny_samples[8:], tiny_samples[:8], plan, tmp_path / "c.pt")
    before = student.mask_embeddings.detach().clone()  # type: ignore[union-attr, operator]
    trainer.run(watcher)
    first, last = (point.estimate.ahead for point in (watcher.points[0], watcher.points[-1]))
    assert len(first) == len(last) == 2
    assert all(later > earlier for earlier, later in zip(first, last, strict=True))
    assert not torch.equal(student.mask_embeddings, before)  # type: ignore[arg-type]


def test_a_block_drafter_is_written_with_its_masks_in_spare_rows(
    distiller: Distiller, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "target", num_hidden_layers=3, vocab_size=304)
    request = replace(distiller.request, target=str(source), layers=(0, 2), block=3, epochs=1)
    run = distiller.start("run", request)
    run.write_text()
    run.export(run.train(), "none", None)
    trained = distiller.root / "run" / TRAINED_FILE
    description = read_description(trained)
    assert description["masks"] == [300, 301]
    _write_model(source, description, trained, tmp_path / "drafter")
    config = json.loads((tmp_path / "drafter" / "config.json").read_text())
    assert config["mask_token_ids"] == [300, 301]
    written: Any = load_causal_lm(tmp_path / "drafter", lambda config: None)
    target: Any = load_causal_lm(source, lambda config: None)
    own, theirs = (model.model.embed_tokens.weight for model in (written, target))
    same = (own == theirs).all(dim=1).nonzero()[:, 0].tolist()
    assert same == [token for token in range(304) if token not in (300, 301)]
    assert torch.equal(written.lm_head.weight, theirs)


def test_masks_take_rows_that_no_text_uses(tiny_chat: ChatFormat) -> None:
    tokenizer = train_tokenizer()
    assert spare_tokens(tokenizer, 303, tiny_chat, 3) == (300, 301, 302)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
    assert spare_tokens(tokenizer, 303, tiny_chat, 3) == (302, 300, 301)
    with pytest.raises(UnsupportedError, match="has 3 tokens that no text uses"):
        spare_tokens(tokenizer, 303, chat_format(tokenizer), 4)


def test_a_student_with_masks_can_begin_with_layers_that_were_trained_without(
    tiny_model: Any, tmp_path: Path
) -> None:
    plain = build_student(tiny_model, [0, 3])
    with torch.no_grad():
        for weight in trained_state(plain).values():
            weight += 0.25
    write_trained(plain, tmp_path / "plain.safetensors", {})
    masked = build_student(tiny_model, [0, 3], MASKS)
    masks = trained_state(masked)["mask_embeddings"].clone()
    read_trained(masked, tmp_path / "plain.safetensors")
    found = trained_state(masked)
    assert torch.equal(found.pop("mask_embeddings"), masks)
    for name, weight in trained_state(plain).items():
        torch.testing.assert_close(found[name], weight, atol=2e-2, rtol=2e-2)
