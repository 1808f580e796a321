"""Prompts and pairs, found before anything starts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outrider_bench.assistants import NO_ASSISTANT, AssistantKind
from outrider_bench.lineup import PLANS, Place, plan_for, plans_of
from outrider_bench.sources import (
    find_pair,
    find_prompts,
    synthetic_prompts,
    with_drafter,
    without_drafter,
)
from outrider_common.errors import ConfigError
from outrider_models.bundle import MANIFEST_FILE, Bundle
from outrider_models.store import ModelStore

ALL = plans_of(tuple(PLANS))


def test_prompts_are_spread_over_the_tasks_of_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"{task} {i}", "task": task} for task in "ab" for i in range(4)]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [prompt.text for prompt in find_prompts(file, 4)] == ["a 0", "b 0", "a 2", "b 2"]


def test_without_a_file_of_prompts_a_run_says_how_to_name_one() -> None:
    with pytest.raises(ConfigError, match="--prompts"):
        find_prompts(None, 4)


def test_synthetic_prompts_are_tokens_of_the_target_and_the_same_every_time() -> None:
    prompts = synthetic_prompts("synthetic:vocab=50", 3)
    assert prompts == synthetic_prompts("synthetic:vocab=50", 3)
    assert len({prompt.tokens for prompt in prompts}) == 3
    assert all(1 <= token < 50 for prompt in prompts for token in prompt.tokens or ())


def test_a_copy_of_the_target_is_assisted_by_the_targets_weights(
    model_store: ModelStore, smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    found = find_pair(model_store, str(smollm2_dir), str(int8_bundle_dir), ALL, {})
    assert found.plans == ALL
    assert found.transformers is not None
    assert found.transformers.assistant == str(smollm2_dir)
    assert found.transformers.kind is AssistantKind.DYNAMIC_INT8
    assert "8 bits" in (found.software or "")


def test_another_drafter_needs_a_torch_model_of_its_own_or_goes_without_assisted(
    model_store: ModelStore, smollm2_dir: Path, int8_bundle_dir: Path, tmp_path: Path
) -> None:
    manifest = Bundle.load(int8_bundle_dir).manifest
    shallow = replace(manifest, kv=replace(manifest.kv, num_layers=3))
    for name in manifest.files:
        (tmp_path / name).symlink_to(int8_bundle_dir / name)
    text = shallow.to_json()
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    pair = str(tmp_path)
    found = find_pair(model_store, str(smollm2_dir), pair, ALL, {})
    assert {plan.name for plan in ALL} - {plan.name for plan in found.plans} == {"assisted"}
    assert found.software == NO_ASSISTANT
    given = find_pair(model_store, str(smollm2_dir), pair, ALL, {pair: tmp_path / "torch"})
    assert given.plans == ALL
    assert given.transformers is not None
    assert given.transformers.assistant == str(tmp_path / "torch")


def test_nothing_of_transformers_is_loaded_where_nobody_asks_for_it(
    model_store: ModelStore, smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    plans = plans_of(("auto",))
    found = find_pair(model_store, str(smollm2_dir), str(int8_bundle_dir), plans, {})
    assert (found.transformers, found.software) == (None, None)


def test_a_synthetic_targets_own_device_is_where_colocated_drafts(model_store: ModelStore) -> None:
    ours = tuple(plan for plan in ALL if plan.is_ours)
    found = find_pair(model_store, "synthetic:", "synthetic:", ours, {})
    places = {plan.name: plan.place for plan in found.plans}
    assert places["colocated"] is Place.DEVICE
    assert set(places.values()) == {Place.DEVICE, Place.EDGE}
    assert plan_for("colocated", "smollm2-135m").place is Place.BESIDE


def test_the_target_that_edges_draft_for_has_nothing_else_on_its_device() -> None:
    assert "d0=" not in without_drafter("synthetic:c0=9ms,d0=2ms,d1=1ms")
    assert without_drafter("smollm2-135m") == "smollm2-135m"


@pytest.mark.parametrize(("target", "draft_ms", "said"), [
    ("synthetic:d0=2ms,d1=1ms", 4.0, "d0=2ms,d1=1ms"),
    ("synthetic:d1=1ms", 4.0, "d0=0ms,d1=1ms"),
    ("synthetic:", 4.0, "d0=4ms,d1=0ms"),
    ("synthetic:", 0.0, "d0=0.001ms,d1=0ms"),
])  # fmt: skip
def test_a_device_drafts_as_fast_as_it_is_said_to_or_as_an_edge(
    target: str, draft_ms: float, said: str
) -> None:
    assert said in with_drafter(target, draft_ms)
