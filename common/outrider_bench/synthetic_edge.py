"""An edge for a synthetic target: tokens without text, and guesses that take as long as told."""

import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from outrider_common.synthetic import NAME, SyntheticSpec

if TYPE_CHECKING:
    from outrider_edge.proposer import Draft, DraftingTask, Proposer
    from outrider_edge.runtime import EdgeRuntime

NUM_RANKS: Final = 4
"""Guesses for each position, as an edge's language model offers them."""

LEAF_SHARE: Final = 0.2
"""What each further leaf of a run adds to its time: an int4 copy of SmolLM2-135M on one core."""


class PacedFactory:
    """Makes proposers of guesses that are right as often as the target's spec says.

    Like a language model they draft one level a step, with runners-up.

    Args:
        spec: of the target.
        level_s: what a level below one leaf takes; see `LEAF_SHARE` for more of them.
    """

    name = NAME

    def __init__(self, spec: SyntheticSpec, level_s: float) -> None:
        from outrider_edge.synthetic_proposer import SyntheticFactory

        self._guesses = SyntheticFactory(spec, num_ranks=NUM_RANKS, most_levels=1)
        self._level_s = level_s

    def start(self, task: "DraftingTask") -> "Proposer":
        """A proposer for one generation."""
        return _Paced(self._guesses.start(task), self._level_s)


class _Paced:
    """A proposer that takes its time."""

    def __init__(self, guesses: "Proposer", level_s: float) -> None:
        self._guesses = guesses
        self._level_s = level_s

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> "list[Draft]":
        """See `Proposer`."""
        began = time.perf_counter()
        drafts = self._guesses.expand(text, paths, max_depth)
        due_s = self._level_s * (1 + LEAF_SHARE * (len(paths) - 1))
        time.sleep(max(due_s - (time.perf_counter() - began), 0.0))
        return drafts


class _NoText:
    """Stands for a tokenizer and its detokenizers: a synthetic target's tokens mean nothing."""

    def detokenizer(self) -> "_NoText":
        return self

    def push(self, _token: int) -> str:
        return ""

    def flush(self) -> str:
        return ""


@asynccontextmanager
async def synthetic_runtime(
    verifier: str, target: str, level_s: float, num_edges: int = 1
) -> AsyncIterator["EdgeRuntime"]:
    """What generations over a synthetic target share.

    Args:
        verifier: its address.
        target: the text of the spec.
        level_s: what each level of a draft takes.
        num_edges: so many drafts are made at once, as if each session had an edge of its own.

    Raises:
        ConfigError: the spec is none.
        UnavailableError: no verifier answers.
    """
    from outrider_common.settings.edge import EdgeSettings
    from outrider_edge.calibration import Calibration
    from outrider_edge.estimators import Estimators
    from outrider_edge.grpc_link import GrpcLink
    from outrider_edge.runtime import EdgeRuntime

    spec, defaults = SyntheticSpec.parse(target), EdgeSettings()
    async with GrpcLink(verifier) as link:
        with ThreadPoolExecutor(num_edges, "outrider-draft") as executor:
            yield EdgeRuntime(
                tokenizer=cast(Any, _NoText()),
                fingerprint=spec.tokenizer_fingerprint,
                factory=PacedFactory(spec, level_s),
                link=link,
                info=await link.model_info(),
                executor=executor,
                max_depth=defaults.max_depth,
                calibration=Calibration(),
                estimators=Estimators(),
            )
