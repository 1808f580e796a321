"""One run of the bench: every place of the grid that is not in the file yet.

The composition root of `outrider bench run`. Knows nothing of command lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from outrider_bench.crew import Crew, Verifiers, running_crew
from outrider_bench.edge_player import EdgePlayerSettings
from outrider_bench.grid import batches, check_request, num_prompts_at, places
from outrider_bench.lineup import Place, plans_of
from outrider_bench.machine import choose_cores, describe_machine, load
from outrider_bench.measuring import PlaceBench
from outrider_bench.processes import starting_verifier
from outrider_bench.questions import Question
from outrider_bench.results import BenchResults, Cell, Circumstances, Request
from outrider_bench.results_file import open_ledger
from outrider_bench.sources import (
    PairSources,
    find_pair,
    find_prompts,
    synthetic_prompts,
    with_drafter,
    without_drafter,
)
from outrider_common.prompts import Prompt
from outrider_common.synthetic import SyntheticSpec
from outrider_models.store import ModelStore

MOST_OWN_GUESSES: Final = 32
"""A device that drafts decides by itself how much, up to this."""


class BenchProgress(Protocol):
    """Is told how far a run is."""

    def begin(self, num_steps: int) -> None:
        """So many batches of answers, each by one policy, are to be measured."""

    def starting(self, what: str) -> None:
        """Processes are being started, or warmed up."""

    def measuring(self, place: Circumstances, index: int) -> None:
        """A round begins."""

    def step(self) -> None:
        """A batch was answered by one policy."""

    def measured(self, cells: Sequence[Cell]) -> None:
        """A place of the grid is done."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run needs beside its request.

    Attributes:
        out: the file of results.
        resume: go on with it, if it is there.
        force: begin it anew even where it is there.
        prompts: the file of prompts; None where there is none.
        assistants: torch models for Transformers, by bundle.
    """

    out: Path
    resume: bool
    force: bool
    prompts: Path | None
    assistants: Mapping[str, Path]


class BenchRun:
    """A run of the bench.

    Args:
        request: what is asked for.
        options: how it is done.
        store: where models and bundles are.
        progress: is told how far it is.

    Raises:
        OutriderError: the request cannot be met.
    """

    def __init__(
        self, request: Request, options: RunOptions, store: ModelStore, progress: BenchProgress
    ) -> None:
        check_request(request)
        self._request = request
        self._store = store
        self._progress = progress
        self._cores = choose_cores()
        plans = plans_of(request.policies)
        self._sources = {
            pair: find_pair(store, request.target, pair, plans, options.assistants)
            for pair in request.pairs
        }
        self._prompts = _prompts(request, options)
        machine = describe_machine(self._cores, _software(self._sources))
        self._ledger = open_ledger(
            options.out, request, machine, resume=options.resume, force=options.force
        )

    def run(self) -> BenchResults:
        """Measure what is missing; after every round the file holds it."""
        todo = [place for place in places(self._request) if self._ledger.missing(place)]
        self._progress.begin(sum(map(self._num_steps, todo)))
        if not todo:
            return self._ledger.results
        self._progress.starting("the verifier")
        with self._verifiers() as verifiers:
            for pair in dict.fromkeys(place.pair for place in todo):
                self._run_pair(verifiers, pair, [place for place in todo if place.pair == pair])
        return self._ledger.results

    @contextmanager
    def _verifiers(self) -> Iterator[Verifiers]:
        """The one that all ask, and one whose device drafts where a policy needs it."""
        target, plans = self._request.target, [p for s in self._sources.values() for p in s.plans]
        way = (self._store.root, self._cores.verifier)
        with ExitStack() as stack:
            plain = stack.enter_context(starting_verifier(without_drafter(target), *way))
            if all(plan.place is not Place.DEVICE for plan in plans):
                yield Verifiers(plain())
                return
            other = with_drafter(target, self._request.draft_ms or 0.0)
            own = ("--own-guesses", str(MOST_OWN_GUESSES))
            drafting = stack.enter_context(starting_verifier(other, *way, *own))
            yield Verifiers(plain(), drafting())

    def _num_steps(self, place: Circumstances) -> int:
        num_prompts = num_prompts_at(self._request, place.sessions)
        num_batches = len(batches(range(num_prompts), place.sessions))
        return len(self._ledger.missing(place)) * num_batches * len(self._sources[place.pair].plans)

    def _run_pair(self, verifiers: Verifiers, pair: str, todo: Sequence[Circumstances]) -> None:
        self._progress.starting(f"the players of {pair}")
        sources, request = self._sources[pair], self._request
        edge = EdgePlayerSettings(
            verifier=verifiers.plain,
            bundle=None if sources.bundle is None else str(sources.bundle),
            proposers=request.proposers,
            synthetic=request.target if sources.bundle is None else None,
            draft_ms=request.draft_ms or 0.0,
            num_edges=max(request.sessions),
        )
        crew_of_pair = running_crew(
            verifiers, sources.plans, self._cores, edge, sources.transformers
        )
        with crew_of_pair as crew:
            questions = _questions(self._prompts, crew, request.seed)
            for place in todo:
                self._run_place(crew, place, questions)

    def _run_place(self, crew: Crew, place: Circumstances, questions: Sequence[Question]) -> None:
        self._progress.starting("warm-up")
        with crew.at(place) as players:
            bench = PlaceBench(
                place,
                self._sources[place.pair].plans,
                questions[: num_prompts_at(self._request, place.sessions)],
                players,
                max_tokens=self._request.tokens,
                num_warm_up=self._request.warm_up,
                load=load,
                tick=self._progress.step,
            )
            blocks = bench.warm_up(self._ledger.known_blocks(place))
            cells: Sequence[Cell] = ()
            for index in self._ledger.missing(place):
                self._progress.measuring(place, index)
                cells = self._ledger.add(bench.measure(index, blocks))
        self._progress.measured(cells)


def _prompts(request: Request, options: RunOptions) -> list[Prompt]:
    num_wanted = num_prompts_at(request, max(request.sessions))
    if SyntheticSpec.is_meant_by(request.target):
        return synthetic_prompts(request.target, num_wanted)
    return find_prompts(options.prompts, num_wanted)


def _questions(prompts: Sequence[Prompt], crew: Crew, seed: int) -> list[Question]:
    texts = iter(crew.encode([prompt.text for prompt in prompts if prompt.text is not None]))
    return [
        Question(
            index,
            prompt.task,
            next(texts) if prompt.tokens is None else prompt.tokens,
            seed + index,
        )
        for index, prompt in enumerate(prompts)
    ]


def _software(sources: Mapping[str, PairSources]) -> dict[str, str]:
    return {pair: each.software for pair, each in sources.items() if each.software is not None}
