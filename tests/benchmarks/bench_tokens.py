"""Benchmark of what is drafted: tokens that a verification pass commits, policy by policy.

The target's answers are recorded once; then each policy drafts a number of nodes before each pass
over them, with nothing in flight, so that only the choice of nodes counts. Prints tables: see
`--help`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from bench_answers import LONGEST_PROMPT, Answer, Wanted, recorded
from bench_report import Comparison, Series, Table, table_lines
from bench_shapes import Shape, best_tree, chain, num_passes, rank_shares
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from outrider_common.errors import OutriderError
from outrider_common.messages import Commit
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimators
from outrider_edge.language_model import LanguageModelProposer
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.policies import POLICIES
from outrider_edge.proposer import DraftingTask
from outrider_edge.ranking import Ranker
from outrider_edge.session import EdgeSession
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

MODEL: Final = "smollm2-135m"
TEMPERATURES: Final = (0.0, 1.0)
NUM_RANKS: Final = 8
"""Fixed trees draft up to so many guesses for one position."""

MAX_DEPTH: Final = 32
NUM_RESAMPLES: Final = 10_000
BEST_FIRST: Final = "best first"
BEST_CHAIN: Final = "best fixed chain"
BEST_TREE: Final = "best fixed tree"
ANSWERS_FILE: Final = "bench_answers.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a policy fared.

    Attributes:
        label: its name.
        passes: of each answer.
        detail: what else is worth saying of it.
    """

    label: str
    passes: tuple[int, ...]
    detail: str


class LockStep:
    """The edge's session against recorded answers: it spends its credit, then there is a pass.

    The calibration is fresh, and learns from answer to answer.

    Args:
        model: the draft model.
        num_nodes: the credit.
    """

    def __init__(self, model: OnnxModel, num_nodes: int) -> None:
        self._model = model
        self._num_nodes = num_nodes
        self._calibration = Calibration()
        self._estimators = Estimators()
        self.num_drafted = 0
        self.num_runs = 0

    def passes(self, answer: Answer) -> int:
        """How many passes an answer takes."""
        prompt = answer.task.prompt
        session = self._session(prompt, len(answer.tokens))
        task = DraftingTask(answer.sampling, len(prompt), self._model.vocab_size)
        proposer = LanguageModelProposer(task, self._model)
        num_passes = start = 0
        while start < len(answer.tokens):
            self._draft(session, proposer)
            tokens = _verified(session, answer.tokens[start:])
            accepted = len(tokens) - 1
            session.receive(Commit(len(prompt) + start, tokens, accepted, credit=self._num_nodes))
            start += len(tokens)
            num_passes += 1
        return num_passes

    def _session(self, prompt: tuple[int, ...], num_tokens: int) -> EdgeSession:
        return EdgeSession(
            prompt,
            max_outstanding_nodes=self._num_nodes,
            max_depth=MAX_DEPTH,
            max_length=len(prompt) + num_tokens + MAX_DEPTH,  # fixed shapes know no end either
            calibration=self._calibration,
            estimators=self._estimators,
            policy=POLICIES["tree"],  # all nodes are drafted, as the fixed shapes' are
            clock=lambda: 0.0,
        )

    def _draft(self, session: EdgeSession, proposer: LanguageModelProposer) -> None:
        while (run := session.next_run()) is not None:
            session.add(run, proposer.expand(run.text, run.paths, run.max_depth), "lm")
            self.num_runs += 1
        self.num_drafted += session.tree.num_outstanding
        session.take_unsent()


def _verified(session: EdgeSession, rest: Sequence[int]) -> tuple[int, ...]:
    """What a pass commits: the tokens that nodes carry, and the one behind them."""
    node = session.tree.frontier
    for count, token in enumerate(rest, start=1):
        child = node.children.get(token)
        if child is None:
            return tuple(rest[:count])
        node = child
    return tuple(rest)


def ranks(model: OnnxModel, answer: Answer) -> list[int]:
    """Of each token of an answer its place among the drafter's guesses; `NUM_RANKS` if too far."""
    prompt = answer.task.prompt
    ranker = Ranker(answer.sampling, model.vocab_size)
    sequence = model.new_sequence()
    sequence.forward(prompt[:-1], num_logits=0)
    found: list[int] = []
    for offset, token in enumerate(answer.tokens):
        read = prompt[-1] if offset == 0 else answer.tokens[offset - 1]
        logits = sequence.forward([read])[0, : model.vocab_size]
        guesses = ranker.rank(logits, len(prompt) + offset, (), (), NUM_RANKS).tokens
        found.append(guesses.index(token) if token in guesses else NUM_RANKS)
    return found


def fixed(ranked: Sequence[Sequence[int]], num_nodes: int) -> list[Policy]:
    """The fixed shapes with so many nodes, each as good as it can be for just these answers."""
    chains = [_passes(chain(length), ranked) for length in range(1, num_nodes + 1)]
    totals = [sum(passes) for passes in chains]
    shortest = min(range(num_nodes), key=totals.__getitem__)
    tree = best_tree(rank_shares(ranked, NUM_RANKS), num_nodes)
    depth = max(map(len, tree))
    return [
        Policy(BEST_CHAIN, chains[shortest], f"{shortest + 1} nodes long"),
        Policy(BEST_TREE, _passes(tree, ranked), f"{num_nodes} nodes, {depth} deep"),
    ]


def _passes(shape: Shape, ranked: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(num_passes(shape, one) for one in ranked)


def best_first(
    model: OnnxModel, answers: Sequence[Answer], num_nodes: int, progress: Progress
) -> Policy:
    """The edge's own policy."""
    label = f"best first, temperature {answers[0].temperature:g}, {num_nodes} nodes"
    pair = LockStep(model, num_nodes)
    passes = tuple(map(pair.passes, progress.track(answers, description=label)))
    nodes, runs = pair.num_drafted / sum(passes), pair.num_runs / sum(passes)
    return Policy(BEST_FIRST, passes, f"{nodes:.1f} nodes and {runs:.1f} runs a pass")


# --- what is printed ------------------------------------------------------------------------------


def table_of(title: str, answers: Sequence[Answer], policies: Sequence[Policy]) -> Table:
    """Tokens a pass, for each kind of task."""
    kinds = dict.fromkeys(answer.task.kind for answer in answers)
    series = tuple(
        Series(p.label, tuple(_of_kind(answers, p.passes, kind) for kind in kinds))
        for p in policies
    )
    comparisons = tuple(Comparison(BEST_FIRST, label) for label in (BEST_CHAIN, BEST_TREE))
    return Table(title, "", series, comparisons)


def _of_kind(answers: Sequence[Answer], passes: Sequence[int], kind: str) -> float:
    of_kind = [
        (len(answer.tokens), count)
        for answer, count in zip(answers, passes, strict=True)
        if answer.task.kind == kind
    ]
    return sum(tokens for tokens, _ in of_kind) / sum(count for _, count in of_kind)


def summary(answers: Sequence[Answer], policies: Sequence[Policy]) -> list[str]:
    """Tokens a pass over all answers, and what best first gains, with its uncertainty."""
    num_tokens = sum(len(answer.tokens) for answer in answers)
    best = next(policy for policy in policies if policy.label == BEST_FIRST)
    lines = [f"All {len(answers)} answers, {num_tokens} tokens:", ""]
    for policy in policies:
        rate = num_tokens / sum(policy.passes)
        line = f"- {policy.label} ({policy.detail}): {rate:.2f} tokens a pass"
        if policy is not best:
            ratio = sum(policy.passes) / sum(best.passes)
            low, high = ratio_interval(policy.passes, best.passes)
            line += f"; best first commits {ratio:.2f} times as many ({low:.2f} to {high:.2f})"
        lines.append(f"{line}.")
    return lines


def ratio_interval(numerator: Sequence[int], denominator: Sequence[int]) -> tuple[float, float]:
    """Where the ratio of two sums lies at 95 %, the pairs being drawn anew (percentile bootstrap).

    Source: Efron, Bootstrap Methods, Annals of Statistics 7 (1979).
    """
    counts = np.array([numerator, denominator], dtype=float)  # [2, pairs]
    size = (NUM_RESAMPLES, counts.shape[1])
    drawn = np.random.default_rng(1).integers(counts.shape[1], size=size)
    sums = counts[:, drawn].sum(axis=2)  # [2, resamples]
    low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
    return float(low), float(high)


def introduction(answers: Sequence[Answer], bundle: str, num_tokens: int) -> str:
    """What was measured, in one sentence or two."""
    kinds = Counter(answer.task.kind for answer in answers)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"{len(answers)} prompts of Spec-Bench ({counts}; those of at most {LONGEST_PROMPT} "
        f"tokens), up to {num_tokens} tokens each, drafted by {bundle}. The calibration of best "
        "first begins knowing nothing. The rounds below are the kinds of task. In parentheses: "
        "95 % by bootstrap over the answers."
    )


# --- the run --------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, progress: Progress) -> list[str]:
    """Record what is missing, measure, and say what came of it."""
    store = ModelStore(default_root())
    wanted = Wanted(MODEL, options.per_kind, options.tokens, TEMPERATURES)
    recording = recorded(wanted, options.answers, store, progress)
    model = OnnxModel(Bundle.load(store.resolve_bundle(options.bundle)))
    lines: list[str] = []
    for temperature in TEMPERATURES:
        answers = [a for a in recording.answers if a.temperature == temperature]
        lines = lines or [introduction(answers, options.bundle, options.tokens)]
        label = f"ranks, temperature {temperature:g}"
        ranked = [ranks(model, a) for a in progress.track(answers, description=label)]
        for num_nodes in options.nodes:
            policies = [*fixed(ranked, num_nodes), best_first(model, answers, num_nodes, progress)]
            title = f"Tokens a pass at temperature {temperature:g} with {num_nodes} nodes"
            table = table_of(title, answers, policies)
            lines += ["", *table_lines(table), "", *summary(answers, policies)]
    return lines


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give 1 or more")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure tokens a pass for drafting policies.")
    parser.add_argument("--bundle", default=f"{MODEL}-int4", help="the drafter (%(default)s)")
    parser.add_argument(
        "--nodes", type=_count, nargs="+", default=[16, 32], help="before each pass (16 32)"
    )
    parser.add_argument("--tokens", type=_count, default=128, help="of an answer (%(default)s)")
    parser.add_argument(
        "--per-kind", type=_count, default=4, help="prompts of each kind of task (%(default)s)"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        default=Path("build") / ANSWERS_FILE,
        metavar="FILE",
        help="where the target's answers are kept (%(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    options = _options(arguments)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    errors = Console(stderr=True)
    try:
        with Progress(*columns, console=errors) as progress:
            lines = measure(options, progress)
    except OutriderError as error:
        errors.print(f"Error: {error}", markup=False, soft_wrap=True)
        return 1
    Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
