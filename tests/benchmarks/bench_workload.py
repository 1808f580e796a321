"""What the benchmark feeds to a target: prompts cut from real text, and drafts of a known quality.

Everything is a pure function of its arguments, the same in every run. Knows nothing of models.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from outrider_common.tree import AtNode, AtPosition, DraftNode, Parent

PROMPT_FILE: Final = "tests/data/spec_bench_even.jsonl"
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


def prompt_text() -> str:
    """The first turn of every conversation in the file, one after another."""
    lines = (_REPOSITORY / PROMPT_FILE).read_text(encoding="utf-8").splitlines()
    return "\n\n".join(json.loads(line)["turns"][0] for line in lines)


def prompt_lengths(num_prompts: int, shortest: int, longest: int, seed: int) -> tuple[int, ...]:
    """Lengths in even ratios from the shortest to the longest, shuffled: traffic comes unsorted."""
    lengths = np.geomspace(shortest, longest, num_prompts).round().astype(int)
    return tuple(np.random.default_rng(seed).permutation(lengths).tolist())


def cut_prompts(tokens: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Pieces that follow one another, so that no two prompts begin with the same text.

    Args:
        tokens: of a text that is long enough for all of them.
        lengths: of each piece.
    """
    ends = np.cumsum(lengths).tolist()
    if ends[-1] > len(tokens):
        raise ValueError(f"{ends[-1]} tokens of prompts are wanted, the text has {len(tokens)}")
    return [tuple(tokens[end - n : end]) for end, n in zip(ends, lengths, strict=True)]


class ScriptedDrafter:
    """Drafts chains for one session of which each token is right with a known probability.

    Whether the draft for a position is right is one toss of a seeded coin, so every run has the
    same drafts.

    Args:
        text: prompt and answer, as the target alone writes them.
        chain_length: nodes of a chain.
        acceptance: the probability.
        vocab_size: token ids are below this.
        seed: of the coin.
    """

    def __init__(
        self,
        text: Sequence[int],
        *,
        chain_length: int,
        acceptance: float,
        vocab_size: int,
        seed: Sequence[int],
    ) -> None:
        is_right = np.random.default_rng(seed).random(len(text)) < acceptance
        self._guesses = [
            token if right else (token + 1) % vocab_size
            for token, right in zip(text, is_right, strict=True)
        ]
        self._chain_length = chain_length
        self._last_id = 0

    def draft(self, num_committed: int) -> list[DraftNode]:
        """A chain that follows the last committed token; shorter where the text ends."""
        parent: Parent = AtPosition(num_committed - 1)
        chain: list[DraftNode] = []
        for guess in self._guesses[num_committed : num_committed + self._chain_length]:
            self._last_id += 1
            chain.append(DraftNode(self._last_id, guess, parent))
            parent = AtNode(self._last_id)
        return chain
