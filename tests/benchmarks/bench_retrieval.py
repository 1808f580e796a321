"""Benchmark of drafting without a model: microseconds for each token, and how often it is right.

Times are for one token at 8,192 tokens of context, in turns (A B C A B C ...); the texts are real
ones and such as are slow to search. What is right is counted on recorded answers of a target, if a
file of them is given. Prints tables: see `--help`.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench_report import Series, Table, table_lines
from bench_runs import by_label, interleaved
from bench_workload import prompt_text
from rich.console import Console
from tokenizers import Tokenizer

from outrider_common.match_votes import MIN_MATCH_TOKENS
from outrider_common.sampling import SamplingParams
from outrider_common.suffix_index import SuffixIndex
from outrider_edge.combined import CombinedFactory
from outrider_edge.growing_text import GrowingText
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask, Learner, ProposerFactory
from outrider_edge.recycling import RecyclingFactory
from outrider_edge.retrieval import RetrievalFactory
from outrider_models.store import ModelStore, default_root

BUNDLE: Final = "smollm2-135m-int4"
CONTEXT_TOKENS: Final = 8192
NUM_TOKENS: Final = 64
"""How many tokens are added in one measurement."""
DEPTH: Final = 12
NUM_GUESSES: Final = (4, 8, 16)
TASK: Final = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=10**6)

Texts = dict[str, list[int]]


def make_texts(real: list[int]) -> Texts:
    """Of each kind as many tokens as are needed."""
    length = CONTEXT_TOKENS + NUM_TOKENS
    coin = random.Random(1)
    nearly_31 = [token for i in range(length) for token in (*range(28), 1000 + i)]
    return {
        "prompts of Spec-Bench": (real * (length // len(real) + 1))[-length:],
        "one token, repeated": [7] * length,
        "two tokens at random": [coin.randrange(2) for _ in range(length)],
        "28 tokens between ever new ones": nearly_31[:length],
    }


def costs(texts: Texts, rounds: int) -> Iterator[Table]:
    """What a token costs: added and looked up, and drafted from."""
    for measure, time_us in (
        (f"append and look up, {CONTEXT_TOKENS} tokens of context", _lookup_us),
        (f"a draft of depth {DEPTH} besides, {CONTEXT_TOKENS} tokens of context", _draft_us),
    ):
        ways = {label: _bound(time_us, text) for label, text in texts.items()}
        yield _table(measure, "us", ways, rounds)


def _bound(time_us: Callable[[list[int]], float], text: list[int]) -> Callable[[], float]:
    return lambda: time_us(text)


def _table(measure: str, unit: str, ways: dict[str, Callable[[], float]], rounds: int) -> Table:
    found = by_label(list(interleaved(ways, rounds)))
    return Table(measure, unit, tuple(Series(label, tuple(found[label])) for label in ways))


def _lookup_us(text: list[int]) -> float:
    index = SuffixIndex(MIN_MATCH_TOKENS)
    for token in text[:CONTEXT_TOKENS]:
        index.append(token)
    began = time.perf_counter()
    for token in text[CONTEXT_TOKENS:]:
        index.append(token)
        index.matches(index.tokens)
    return (time.perf_counter() - began) / NUM_TOKENS * 1e6


def _draft_us(text: list[int]) -> float:
    proposer = RetrievalFactory().start(TASK)
    growing = text[:CONTEXT_TOKENS]
    proposer.expand(GrowingText(growing), [()], DEPTH)
    began = time.perf_counter()
    for token in text[CONTEXT_TOKENS:]:
        growing.append(token)
        proposer.expand(GrowingText(growing), [()], DEPTH)
    return (time.perf_counter() - began) / NUM_TOKENS * 1e6


def hits(answers: Sequence[dict[str, Any]], memory_tokens: int) -> Table:
    """How often a token of an answer was among the first guesses, as a share of all tokens."""
    factory = RetrievalFactory(memory_tokens=memory_tokens)
    counts = {"something to say": 0, "its first guess right": 0, "one of its guesses right": 0}
    num_tokens = 0
    for answer in answers:
        proposer = factory.start(TASK)
        text = list(answer["prompt"])
        for token in answer["answer"]:
            draft = proposer.expand(GrowingText(text), [()], 1)[0]
            assert set(draft.parents) <= {CONTEXT_END}
            counts["something to say"] += bool(draft.tokens)
            counts["its first guess right"] += draft.tokens[:1] == (token,)
            counts["one of its guesses right"] += token in draft.tokens
            num_tokens += 1
            text.append(token)
        del proposer  # the generation is over: its text may be remembered
    series = tuple(Series(label, (count / num_tokens,)) for label, count in counts.items())
    memory = f"{memory_tokens} tokens of earlier answers" if memory_tokens else "no memory"
    return Table(f"Shares of {num_tokens} tokens, {memory}", "", series)


def passes(answers: Sequence[dict[str, Any]], num_guesses: int) -> Table:
    """How many tokens a pass commits if it checks the likeliest guesses and nothing is on its way.

    Runner-ups are learnt from where the answers come with them.
    """
    factories: dict[str, ProposerFactory] = {
        "retrieval": RetrievalFactory(),
        "recycling": RecyclingFactory(),
        "retrieval, else recycling": CombinedFactory([RetrievalFactory(), RecyclingFactory()]),
    }
    num_tokens = sum(len(answer["answer"]) for answer in answers)
    series = tuple(
        Series(
            label, (num_tokens / sum(_num_passes(answer, f, num_guesses) for answer in answers),)
        )
        for label, f in factories.items()
    )
    return Table(f"Tokens a pass that checks at most {num_guesses} guesses", "", series)


def _num_passes(answer: dict[str, Any], factory: ProposerFactory, num_guesses: int) -> int:
    proposer = factory.start(TASK)
    text, left = list(answer["prompt"]), list(answer["answer"])
    runner_ups = list(answer.get("runner_ups", ()))
    num_passes = 0
    while left:
        draft = proposer.expand(GrowingText(text), [()], DEPTH)[0]
        num_new = min(_num_right(draft, left, num_guesses) + 1, len(left))
        if isinstance(proposer, Learner):
            best = [others[: proposer.num_runner_ups] for others in runner_ups[:num_new]]
            proposer.learn(text[-1], left[:num_new], best)
        text += left[:num_new]
        left, runner_ups = left[num_new:], runner_ups[num_new:]
        num_passes += 1
    return num_passes


def _num_right(draft: Draft, coming: Sequence[int], num_guesses: int) -> int:
    """How far down the likeliest guesses go along with what is coming."""
    values: list[float] = []
    for parent, probability in zip(draft.parents, draft.probabilities, strict=True):
        values.append(probability * (1.0 if parent == CONTEXT_END else values[parent]))
    likeliest = sorted(range(len(values)), key=lambda place: -values[place])[:num_guesses]
    places = {(draft.parents[place], draft.tokens[place]): place for place in likeliest}
    place, num_right = CONTEXT_END, 0
    for token in coming:
        if (place, token) not in places:
            break
        place = places[place, token]
        num_right += 1
    return num_right


def _read_answers(path: Path) -> dict[float, list[dict[str, Any]]]:
    """Recorded answers by the temperature at which they were written."""
    by_temperature: dict[float, list[dict[str, Any]]] = {}
    for answer in json.loads(path.read_text(encoding="utf-8")):
        by_temperature.setdefault(float(answer["T"]), []).append(answer)
    return by_temperature


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description="Measure retrieval on one core.")
    parser.add_argument("--rounds", type=int, default=15, help="of each table (default: 15)")
    parser.add_argument(
        "--answers",
        type=Path,
        help="recorded answers: a JSON list of {prompt, answer, T}, maybe with runner_ups",
    )
    parser.add_argument(
        "--memory", type=int, default=8192, help="tokens of earlier answers (default: 8192)"
    )
    options = parser.parse_args(arguments)
    directory = ModelStore(default_root()).resolve_bundle(BUNDLE)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    real = tokenizer.encode(prompt_text(), add_special_tokens=False).ids
    console = Console()
    console.print(f"A way's median, smallest and largest of {options.rounds} rounds.\n")
    tables = list(costs(make_texts(real), options.rounds))
    if options.answers:
        for temperature, answers in sorted(_read_answers(options.answers).items()):
            found = [hits(answers, memory_tokens) for memory_tokens in (0, options.memory)]
            found += [passes(answers, num_guesses) for num_guesses in NUM_GUESSES]
            for table in found:
                measure = f"{table.measure}, temperature {temperature:g}"
                tables.append(Table(measure, table.unit, table.series))
    for table in tables:
        text = "\n".join([*table_lines(table), ""])
        console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
