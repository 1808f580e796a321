"""The evaluation of a drafter, against a count token by token with another implementation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from tiny_models import train_tokenizer, write_tiny_model

from outrider_cloud.loading import load_causal_lm
from outrider_common.acceptance import ExactRule
from outrider_common.errors import InvalidInputError, MismatchError, UnknownModelError
from outrider_common.sampling import SamplingParams
from outrider_common.speed import Times
from outrider_distill.answers import EvaluationRequest
from outrider_distill.chat_format import chat_format, load_tokenizer
from outrider_distill.evaluation import ALL_TASKS, Evaluation, evaluate
from outrider_distill.student import build_student
from outrider_distill.worth import Worth
from outrider_export import Scheme, export_bundle
from outrider_models.cli import models
from outrider_models.store import ModelStore

QUESTIONS = ["What is a fox?", "for i in range", "A reason has", "Why does the dog not mind?"]
MAX_TOKENS = 24


class Silent:
    def __init__(self) -> None:
        self.num_answers, self.num_done = 0, 0

    def begin_answers(self, num_answers: int) -> None:
        self.num_answers = num_answers

    def answered(self, num_answers: int) -> None:
        self.num_done += num_answers


@pytest.fixture(scope="module")
def drafter(tiny_model: Any) -> Any:
    """Two of the target's layers, disturbed so that guesses differ."""
    student: Any = build_student(tiny_model, [0, 3]).eval()
    return student


@pytest.fixture(scope="module")
def bundle_dir(drafter: Any, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("evaluation")
    drafter.save_pretrained(directory / "drafter")
    load_tokenizer(tiny_dir).save_pretrained(directory / "drafter")
    return export_bundle(directory / "drafter", directory / "bundle", scheme=Scheme.NONE).path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    tasks = ("animals", "code", "code", "animals")
    rows = [{"prompt": q, "task": task} for q, task in zip(QUESTIONS, tasks, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def found(bundle_dir: Path, tiny_dir: Path, prompts: Path) -> Evaluation:
    torch.set_num_threads(1)
    request = EvaluationRequest((str(bundle_dir),), str(tiny_dir), prompts, max_tokens=MAX_TOKENS)
    watcher = Silent()
    result = evaluate(request, ModelStore(bundle_dir.parent / "store"), watcher)
    assert watcher.num_done == watcher.num_answers == 2 * len(QUESTIONS)
    return result


def counted(
    target: Any, drafter: Any, given: Sequence[int], sampling: SamplingParams, eos: int
) -> list[int]:
    """The answer decoded plainly; the rank of each token in the drafter's own order of guesses."""
    tokens, ranks = list(given), []
    while len(tokens) < len(given) + MAX_TOKENS:
        with torch.no_grad():
            theirs, own = (
                model(torch.tensor([tokens])).logits[0, -1].numpy() for model in (target, drafter)
            )
        rule = ExactRule(sampling)
        token = rule.choose(theirs, len(tokens), (), None, (), ())
        order = []
        for _ in range(8):  # what the rule would choose were the earlier ones not there
            order.append(rule.choose(own, len(tokens), (), None, (), ()))
            own[order[-1]] = -np.inf
        ranks.append(order.index(token) if token in order else 8)
        tokens.append(token)
        if token == eos:
            break
    return ranks


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shares_and_tokens_per_pass_are_what_one_counts(
    found: Evaluation, tiny_model: Any, drafter: Any, tiny_dir: Path, temperature: float
) -> None:
    tokenizer = load_tokenizer(tiny_dir)
    chat = chat_format(tokenizer)
    texts = [
        counted(
            tiny_model,
            drafter,
            chat.framed(tokenizer.encode(question, add_special_tokens=False)),
            SamplingParams(temperature=temperature, seed=number),
            tokenizer.eos_token_id,
        )
        for number, question in enumerate(QUESTIONS)
    ]
    worth = found.judged[0].worths[temperature][ALL_TASKS]
    ranks = [rank for text in texts for rank in text]
    assert worth.num_tokens == len(ranks)
    assert 0.05 < worth.acceptance < 0.95  # else this would show nothing
    for count in (1, 2, 4, 8):
        expected = sum(rank < count for rank in ranks) / len(ranks)
        assert worth.in_first[str(count)] == pytest.approx(expected)
    expected = Worth.of([np.array(text) for text in texts])
    assert worth == expected
    code = [rank for text in texts[1:3] for rank in text]
    assert found.judged[0].worths[temperature]["code"].num_tokens == len(code)
    assert found.judged[0].worths[temperature]["code"].acceptance == sum(
        r == 0 for r in code
    ) / len(code)


def test_times_are_positive_and_passes_of_more_rows_are_not_shorter(found: Evaluation) -> None:
    assert found.judged[0].times.draft_s > 0
    assert found.judged[0].times.verify_s(8) >= found.judged[0].times.plain_s > 0


def test_the_rescued_are_those_among_the_later_guesses() -> None:
    worth = Worth.of([np.array([0, 0, 1, 3, 4, 8, 0, 0])])
    assert worth.acceptance == 0.5
    assert worth.rescued == pytest.approx(2 / 4)
    assert Worth.of([np.zeros(3, np.int64)]).rescued == 0


def test_the_json_has_a_version_and_plain_values_all_the_way(found: Evaluation) -> None:
    document = json.loads(json.dumps(found.as_json()))
    assert document["version"] == 2
    assert set(document) == {"version", "request", "drafters"}
    assert document["request"]["bundles"] == list(found.request.bundles)
    (drafter,) = document["drafters"]
    assert set(drafter) == {"bundle", "times", "results"}
    assert [result["temperature"] for result in drafter["results"]] == [0.0, 1.0]
    for result in drafter["results"]:
        assert set(result["tasks"]) == {ALL_TASKS, "animals", "code"}
        assert set(result["tasks"][ALL_TASKS]) == {
            "num_tokens",
            "acceptance",
            "in_first",
            "per_position",
            "chain",
            "tree",
            "block",
        }
        assert len(result["speed_ups"]) == 7
    assert drafter["times"]["plain_s"] == found.judged[0].times.plain_s


def run(store: Path, *arguments: str | Path) -> Result:
    command = ["evaluate", *map(str, arguments), "--cache-dir", str(store)]
    return CliRunner().invoke(models, command, catch_exceptions=False)


def test_the_command_prints_tables_and_writes_json_and_plot(
    bundle_dir: Path, tiny_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    files = tmp_path / "e.json", tmp_path / "e.svg"
    options = ("--target", tiny_dir, "--prompts", prompts, "--max-tokens", "4")
    more = ("--most-per-task", "1", "--json", files[0], "--plot", files[1])
    result = run(tmp_path / "store", bundle_dir, *options, *more)
    assert result.exit_code == 0
    for word in ("overall", "animals", "code", "A draft pass of"):
        assert word in result.stdout
    document = json.loads(files[0].read_text())
    assert document["drafters"][0]["results"][0]["tasks"][ALL_TASKS]["num_tokens"] <= 2 * 4
    assert ElementTree.parse(files[1]).getroot().tag.endswith("svg")


def test_a_file_that_cannot_be_written_is_named_before_the_work_begins(
    bundle_dir: Path, tiny_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    command = ["evaluate", str(bundle_dir), "--target", str(tiny_dir), "--prompts", str(prompts)]
    more = ["--json", str(tmp_path / "no" / "e.json"), "--cache-dir", str(tmp_path / "store")]
    result = CliRunner().invoke(models, [*command, *more])
    assert isinstance(result.exception, InvalidInputError)
    assert "give --json a file" in str(result.exception)


def test_a_drafter_with_another_tokenizer_is_refused(
    bundle_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other")
    train_tokenizer(290).save_pretrained(other)
    request = EvaluationRequest((str(bundle_dir),), str(other), prompts)
    with pytest.raises(MismatchError, match="different tokenizers"):
        evaluate(request, ModelStore(tmp_path / "store"), Silent())


def test_a_bundle_that_is_not_there_is_named(tiny_dir: Path, prompts: Path, tmp_path: Path) -> None:
    request = EvaluationRequest(("nobody",), str(tiny_dir), prompts)
    with pytest.raises(UnknownModelError, match="no bundle 'nobody'"):
        evaluate(request, ModelStore(tmp_path / "store"), Silent())


def test_a_prompt_that_does_not_fit_the_drafter_is_named(
    bundle_dir: Path, tiny_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    request = EvaluationRequest((str(bundle_dir),), str(tiny_dir), prompts, max_tokens=150)
    with pytest.raises(InvalidInputError, match="only 160 fit into the drafter"):
        evaluate(request, ModelStore(tmp_path / "store"), Silent())


def test_a_drafter_like_its_target_has_everything_accepted(
    tiny_dir: Path, prompts: Path, tmp_path: Path
) -> None:
    load_causal_lm(tiny_dir, lambda config: None)
    bundle = export_bundle(tiny_dir, tmp_path / "copy", scheme=Scheme.NONE)
    request = EvaluationRequest((str(bundle.path),), str(tiny_dir), prompts, max_tokens=8)
    found = evaluate(request, ModelStore(tmp_path / "store"), Silent())
    for temperature in (0.0, 1.0):
        worth = found.judged[0].worths[temperature][ALL_TASKS]
        assert worth.acceptance == 1
        assert worth.per_position == [1.0] * 8
        assert worth.chain["4"] == pytest.approx(4.0)  # 8 tokens of 4 answers: 5 and 3
        assert found.judged[0].speeds[temperature][0].round_trip_s == 0
    assert isinstance(found.judged[0].times, Times)
