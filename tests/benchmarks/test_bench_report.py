"""The pure parts of the benchmark: arithmetic, workload, and the section of a page."""

from dataclasses import replace
from pathlib import Path

import pytest
from bench_report import (
    BEGIN,
    END,
    Comparison,
    Conditions,
    Experiment,
    Machine,
    Results,
    Series,
    Spread,
    Table,
    command_of,
    render,
    replaced_section,
    write_section,
)
from bench_runs import Run, TokenEvent, by_label, interleaved
from bench_workload import ScriptedDrafter, cut_prompts, prompt_lengths
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.errors import InvalidInputError
from outrider_common.tree import AtNode, AtPosition, SpeculationTree

TABLE = Table(
    "Speed",
    "tokens/s",
    (Series("ours", (20.0, 30.0, 10.0)), Series("theirs", (10.0, 10.0, 10.0))),
    (Comparison("ours", "theirs"),),
)
EXPERIMENT = Experiment(2, "A title", "What was done.", (TABLE,), ("A way did not run.",))
RESULTS = Results(
    measured_at="2026-11-21T06:00+00:00",
    machine=Machine("A processor", 2, "Linux x86_64", 0.25),
    conditions=Conditions(
        model="a-model",
        is_quick=False,
        num_threads=1,
        seed=7,
        prompt_file="prompts.jsonl",
        prompt_lengths=(32, 64),
        versions={"torch": "2.13.0"},
    ),
    experiments=(EXPERIMENT,),
)
TWO_SESSIONS = Run(
    events=(
        TokenEvent(1.0, 0, 1),
        TokenEvent(3.0, 1, 2),
        TokenEvent(2.0, 0, 3),
        TokenEvent(5.0, 1, 4),
    ),
    texts=((1, 2, 3, 4), (5, 6, 7, 8, 9, 10)),
)


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)


def test_a_ratio_is_taken_between_the_runs_of_one_round() -> None:
    assert TABLE.ratios(Comparison("ours", "theirs")) == [2.0, 3.0, 1.0]


def test_ways_take_turns() -> None:
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) for name in "ABC"}
    outcomes = list(interleaved(ways, 2))
    assert order == list("ABCABC")
    assert by_label(outcomes) == {name: [None, None] for name in "ABC"}


def test_prompts_are_done_when_the_last_session_has_its_first_token() -> None:
    assert TWO_SESSIONS.prompts_s == 3.0


def test_the_steady_rate_counts_only_while_every_session_is_decoding() -> None:
    first, second = ((1.0, 4.0, 7.0, 9.0), (2.0, 5.0, 8.0))
    events = [TokenEvent(at_s, 0, 2) for at_s in first] + [
        TokenEvent(at_s, 1, 3) for at_s in second
    ]
    run = Run(tuple(events), texts=((), ()))
    assert (run.prompts_s, run.first_end_s) == (2.0, 8.0)
    assert run.steady_tokens_per_s == (2 + 2 + 3 + 3) / (8 - 2)


def test_sessions_that_never_decode_together_have_no_steady_rate() -> None:
    with pytest.raises(ValueError, match="before the last one had its first token"):
        _ = TWO_SESSIONS.steady_tokens_per_s


def test_the_whole_run_counts_all_tokens_from_the_beginning() -> None:
    assert TWO_SESSIONS.tokens_per_s == 10 / 5
    assert TWO_SESSIONS.tokens_per_pass == 10 / 4


def test_equal_texts_are_counted_by_session() -> None:
    other = replace(TWO_SESSIONS, texts=((1, 2, 3, 4), (5, 6, 7, 8, 9, 0)))
    assert TWO_SESSIONS.num_equal_texts(other) == 1


def test_prompt_lengths_span_the_range_and_are_the_same_in_every_run() -> None:
    lengths = prompt_lengths(16, 32, 1024, seed=1)
    assert (len(lengths), min(lengths), max(lengths)) == (16, 32, 1024)
    assert lengths == prompt_lengths(16, 32, 1024, seed=1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_prompts_follow_one_another_in_the_text(lengths: list[int]) -> None:
    prompts = cut_prompts(range(100), lengths)
    assert [token for prompt in prompts for token in prompt] == list(range(sum(lengths)))
    assert list(map(len, prompts)) == lengths


def test_a_text_too_short_for_the_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="12 tokens of prompts are wanted, the text has 11"):
        cut_prompts(range(11), [5, 7])


def drafter(text: list[int], acceptance: float) -> ScriptedDrafter:
    return ScriptedDrafter(text, chain_length=4, acceptance=acceptance, vocab_size=50, seed=(1, 2))


def test_a_drafter_that_is_always_right_drafts_the_text() -> None:
    chain = drafter(list(range(10)), acceptance=1.0).draft(num_committed=3)
    assert [node.token for node in chain] == [3, 4, 5, 6]
    assert [node.parent for node in chain] == [AtPosition(2), AtNode(1), AtNode(2), AtNode(3)]


def test_a_drafter_that_is_never_right_drafts_no_token_of_the_text() -> None:
    text = [49] * 10
    chain = drafter(text, acceptance=0.0).draft(num_committed=3)
    assert [node.token for node in chain] == [0, 0, 0, 0]


def test_a_drafter_is_right_as_often_as_it_should_be() -> None:
    text = list(range(40)) * 100
    scripted = drafter(text, acceptance=0.7)
    nodes = [scripted.draft(position)[0] for position in range(1, len(text))]
    num_right = sum(node.token == text[i] for i, node in enumerate(nodes, start=1))
    assert num_right / len(nodes) == pytest.approx(0.7, abs=0.03)  # 4 standard deviations


@given(st.lists(st.integers(0, 49), min_size=2, max_size=60), st.floats(0, 1))
def test_a_tree_takes_every_chain_and_ends_with_the_text(text: list[int], rate: float) -> None:
    scripted = drafter(text, rate)
    tree = SpeculationTree(text[:1])
    while tree.num_committed < len(text):
        tree.extend(scripted.draft(tree.num_committed))
        tree.commit(tree.num_committed, text[tree.num_committed :][:2])
    assert list(tree.tokens) == text


def test_results_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    RESULTS.write(file)
    assert Results.read(file) == RESULTS


@pytest.mark.parametrize("content", [None, "", "{}", '{"machine": 1}'])
def test_a_file_without_results_is_refused_by_name(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInputError, match=r"results\.json' holds no results"):
        Results.read(file)


def test_the_section_has_medians_spreads_and_ratios() -> None:
    lines = render(RESULTS).splitlines()
    assert "| ours | 20.0 tokens/s | 10.0 to 30.0 | 3 |" in lines
    assert "| **ours / theirs** | 2.00× | 1.00 to 3.00 | 3 |" in lines


def test_the_section_names_machine_versions_and_what_did_not_run() -> None:
    section = render(RESULTS)
    for fact in ("A processor", "2 cores", "load average 0.2", "torch 2.13.0", "A way did not run"):
        assert fact in section


def test_each_experiment_names_the_command_that_measures_it_again() -> None:
    command = "python tests/benchmarks/bench_engine.py --only 2 --threads 1"
    assert f"`{command}`" in render(RESULTS)
    quick = replace(RESULTS.conditions, is_quick=True)
    assert command_of(EXPERIMENT, quick) == f"{command} --quick"


def test_a_quick_run_is_called_one() -> None:
    quick = replace(RESULTS, conditions=replace(RESULTS.conditions, is_quick=True))
    assert "quick run" in render(quick)
    assert "quick run" not in render(RESULTS)


def test_no_line_of_a_section_ends_with_a_space_or_is_too_long() -> None:
    long = replace(EXPERIMENT, method="word " * 100, notes=("word " * 100,))
    for line in render(replace(RESULTS, experiments=(long,))).splitlines():
        assert line == line.rstrip()
        assert len(line) <= 130


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n\n{BEGIN}\nold\n{END}\n\nbelow\n")
    write_section(page, RESULTS)
    first = page.read_text()
    assert first.startswith(f"above\n\n{BEGIN}\n\nMeasured")
    assert first.endswith(f"\n\n{END}\n\nbelow\n")
    assert "old" not in first
    write_section(page, RESULTS)
    assert page.read_text() == first


@pytest.mark.parametrize(
    "page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"]
)
def test_a_page_without_both_markers_once_each_is_refused(page: str) -> None:
    with pytest.raises(InvalidInputError, match="The page needs one line"):
        replaced_section(page, "new")


def test_a_page_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"absent\.md' cannot be read"):
        write_section(tmp_path / "absent.md", RESULTS)


def test_the_page_of_this_repository_has_the_markers() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
    assert "new" in replaced_section(page.read_text(), "new")
