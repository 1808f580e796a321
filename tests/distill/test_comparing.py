"""Several drafters judged by the same answers, and drafters that say several tokens a pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_models import write_tiny_model

from outrider_common.acceptance import ExactRule
from outrider_common.sampling import SamplingParams
from outrider_distill.answers import Answer, EvaluationRequest
from outrider_distill.assembling import Made, _write_model, write_layers
from outrider_distill.chat_format import load_tokenizer
from outrider_distill.evaluation import ALL_TASKS, Evaluation, Judged, evaluate
from outrider_distill.judging import Drafter
from outrider_distill.report import plot, tables
from outrider_distill.speculation import BEYOND_THE_END
from outrider_distill.student import build_student, read_description
from outrider_edge.onnx_model import OnnxModel
from outrider_export import Scheme, export_bundle
from outrider_models.bundle import Bundle
from outrider_models.cli import models
from outrider_models.store import ModelStore

MASKS = (0, 299)
MAX_TOKENS = 12


class Silent:
    def begin_answers(self, num_answers: int) -> None: ...

    def answered(self, num_answers: int) -> None: ...


@pytest.fixture(scope="module")
def block_model(tiny_dir: Path, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drafter with two masks, as a model directory; not trained, but not the target either."""
    directory = tmp_path_factory.mktemp("block")
    student = build_student(tiny_model, [0, 3], MASKS)
    made = Made((0, 3), MASKS, str(tiny_dir))
    trained = directory / "trained.safetensors"
    write_layers(student, trained, made, load_tokenizer(tiny_dir))
    _write_model(tiny_dir, read_description(trained), trained, directory / "model")
    return directory / "model"


@pytest.fixture(scope="module")
def bundles(block_model: Path, tiny_dir: Path) -> tuple[str, str, str]:
    """The block drafter, a plain one of fewer layers, and the target's copy."""
    made = [
        export_bundle(source, block_model.parent / name, scheme=Scheme.NONE).path
        for name, source in (("masked", block_model), ("copy", tiny_dir))
    ]
    shallow = write_tiny_model(block_model.parent / "shallow", num_hidden_layers=1)
    made.append(export_bundle(shallow, block_model.parent / "other", scheme=Scheme.NONE).path)
    return str(made[0]), str(made[2]), str(made[1])


@pytest.fixture(scope="module")
def prompts(block_model: Path) -> Path:
    path = block_model.parent / "prompts.jsonl"
    rows = [{"prompt": "What is a fox?", "task": "animals"}, {"prompt": "for i in range"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def request_(bundles: tuple[str, str, str], tiny_dir: Path, prompts: Path) -> EvaluationRequest:
    torch.set_num_threads(1)
    return EvaluationRequest(bundles, str(tiny_dir), prompts, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def found(request_: EvaluationRequest, block_model: Path) -> Evaluation:
    return evaluate(request_, ModelStore(block_model.parent / "store"), Silent())


def test_all_drafters_are_judged_by_the_same_answers(
    found: Evaluation, request_: EvaluationRequest
) -> None:
    assert [judged.bundle for judged in found.judged] == list(request_.bundles)
    for temperature in request_.temperatures:
        counts = {judged.worths[temperature][ALL_TASKS].num_tokens for judged in found.judged}
        assert len(counts) == 1
    target_times = {(judged.times.pass_s, judged.times.row_s) for judged in found.judged}
    assert len(target_times) == 1
    assert [judged.worths[0.0][ALL_TASKS].acceptance for judged in found.judged][2] == 1.0


def test_what_is_found_of_a_drafter_does_not_depend_on_the_others(
    found: Evaluation, request_: EvaluationRequest, block_model: Path
) -> None:
    store = ModelStore(block_model.parent / "store")
    for number, name in enumerate(request_.bundles):
        alone = EvaluationRequest((name,), request_.target, request_.prompts, max_tokens=MAX_TOKENS)
        (judged,) = evaluate(alone, store, Silent()).judged
        assert judged.worths == found.judged[number].worths


def test_later_tokens_of_a_block_are_judged_as_the_masked_text_alone_says(
    bundles: tuple[str, str, str],
) -> None:
    """Each pass by itself, over the whole text and the masks, in the order of the rule's choice."""
    bundle = Bundle.load(Path(bundles[0]))
    drafter = Drafter("block", bundle, 1, 48)
    model = OnnxModel(bundle)
    tokens = [(7 * i) % 90 + 5 for i in range(24)]
    for temperature in (0.0, 1.0):
        answer = Answer("all", tokens, 10, SamplingParams(temperature=temperature, seed=3))
        ranks = drafter.block_ranks(answer)
        assert ranks.shape == (14, 3)
        for place in range(10, 24):
            rows = model.new_sequence().forward([*tokens[:place], *MASKS])[place - 1 :]
            expected = [
                _rank_of(row, tokens, place + depth, answer) for depth, row in enumerate(rows)
            ]
            assert ranks[place - 10].tolist() == expected
        np.testing.assert_array_equal(ranks[:, 0], drafter.next_ranks(answer))


def _rank_of(row: np.ndarray, tokens: list[int], position: int, answer: Answer) -> int:
    if position >= len(tokens):
        return BEYOND_THE_END
    rule, own = ExactRule(answer.sampling), row.copy()
    for rank in range(8):
        token = rule.choose(own, position, (), None, (), ())
        if token == tokens[position]:
            return rank
        own[token] = -np.inf
    return 8


def test_only_drafters_with_masks_are_judged_by_the_block(found: Evaluation) -> None:
    masked, other, copy = (judged.worths[0.0][ALL_TASKS] for judged in found.judged)
    assert other.block is None
    assert copy.block is None
    assert copy.runs == (1.0,)
    assert masked.block is not None
    assert masked.block.shares[0] == pytest.approx(masked.acceptance)
    assert masked.runs == masked.block.runs
    assert len(masked.runs) == 3
    assert sorted(masked.runs, reverse=True) == masked.runs


def test_the_best_of_each_round_trip_is_marked(found: Evaluation) -> None:
    comparison, block = list(tables(found))[:2]
    assert [column.header for column in comparison.columns[1:]] == list(found.request.bundles)
    columns = [[str(cell) for cell in column.cells] for column in comparison.columns[1:]]
    rows = list(zip(*columns, strict=True))[3:-1]  # below the shares and the time of a pass
    speeds = zip(*(judged.speeds[0.0] for judged in found.judged), strict=True)
    for row, of_one_trip in zip(rows, speeds, strict=True):
        rates = [
            judged.tokens_per_s(speed)
            for judged, speed in zip(found.judged, of_one_trip, strict=True)
        ]
        assert [cell.endswith("*") for cell in row] == [rate == max(rates) for rate in rates]
        assert [cell.rstrip("*") for cell in row] == [f"{rate:.1f}" for rate in rates]
    worth = found.judged[0].worths[0.0][ALL_TASKS].block
    assert worth is not None
    assert list(block.columns[2].cells) == [f"{run:.2f}" for run in worth.runs]


def test_the_rate_is_that_of_the_better_policy(found: Evaluation) -> None:
    for judged in found.judged:
        for speed in judged.speeds[1.0]:
            rate = max(speed.stop_and_wait, speed.chain) / judged.times.plain_s
            assert judged.tokens_per_s(speed) == pytest.approx(rate)
    document = json.loads(json.dumps(found.as_json()))
    first: Judged = found.judged[0]
    written = document["drafters"][0]["results"][0]["speed_ups"][0]["tokens_per_s"]
    assert written == first.tokens_per_s(first.speeds[0.0][0])


def test_the_plot_has_a_line_for_each_drafter(found: Evaluation) -> None:
    drawn = plot(found)
    for name in ("the cloud alone", *found.request.bundles):
        assert name in drawn


def test_the_command_takes_several(
    bundles: tuple[str, str, str], tiny_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["evaluate", *bundles[:2], "--target", str(tiny_dir), "--prompts", str(prompts)]
    more = ["--max-tokens", "3", "--temperatures", "0", "--cache-dir", str(tmp_path / "store")]
    result = CliRunner().invoke(models, [*command, *more], catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("expected tokens/s", "400 ms", "all before it"):
        assert word in result.stdout
