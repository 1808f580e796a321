"""Drafting for free: what followed where the text read as it does at its end.

Retrieval over prompt and output of one generation (prompt lookup, arXiv:2304.04487), and over
earlier texts where the factory keeps them. Good where an answer copies from its prompt or repeats
itself, silent elsewhere. Knows tokens only, no model and no language.
"""

import weakref
from collections.abc import Iterable, Sequence
from typing import Final

from outrider_common.match_votes import MAX_MATCHES, MIN_MATCH_TOKENS, NO_VOTE, match_votes
from outrider_common.suffix_index import SuffixIndex
from outrider_edge.growing_text import GrowingText
from outrider_edge.prefix import common_prefix_length
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask
from outrider_edge.text_memory import TextMemory

MAX_BRANCHES: Final = 3
"""How many different continuations a draft has at most."""
SIDE_BRANCH_TOKENS: Final = 4
"""How many guesses each but the first adds: what lies deeper is hardly ever reached."""


class RetrievalProposer:
    """Drafts a tree of what followed the longest earlier matches, the longest and latest one first.

    Args:
        task: what to draft for.
        min_match: shorter matches are passed over.
        memory: earlier texts; none if None.
    """

    def __init__(self, task: DraftingTask, min_match: int, memory: TextMemory | None) -> None:
        self._vocab_size = task.vocab_size
        self._index = SuffixIndex(min_match)
        self._memory = memory
        self._seen: Sequence[int] = ()

    @property
    def text(self) -> list[int]:
        """The text that it has seen; its own list."""
        return self._index.tokens

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """A tree of what followed the longest matches; nothing where there are none."""
        self._read(text)
        drafts: list[Draft] = []
        for path in paths:
            shared = common_prefix_length(self.text[len(text) :], list(path))
            self._index.truncate(len(text) + shared)
            self._append(path[shared:])
            drafts.append(self._draft(max_depth))
        self._index.truncate(len(text))
        return drafts

    def _read(self, text: Sequence[int]) -> None:
        """Have the index hold this text, which usually is the last one and a few tokens more."""
        if isinstance(text, GrowingText) and text.is_of_the_list_of(self._seen):
            shared = min(len(text), len(self.text))
            new = text[shared:]
        else:
            tokens = list(text)
            shared = common_prefix_length(self.text, tokens)
            new = tokens[shared:]
        self._index.truncate(shared)
        self._append(new)
        self._seen = text

    def _append(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self._index.append(token)

    def _draft(self, max_depth: int) -> Draft:
        own = self._index.matches(self.text)
        found = [(match, self._index.following(match, max_depth)) for match in own[:MAX_MATCHES]]
        if self._memory is not None:
            found += self._memory.continuations(self.text, MAX_MATCHES, max_depth)
            found.sort(key=lambda pair: -pair[0].length)
        tree = _ContinuationTree()
        for match, continuation in found[:MAX_MATCHES]:
            tree.add(match.length, self._valid(continuation))
        return tree.draft()

    def _valid(self, tokens: list[int]) -> list[int]:
        for i, token in enumerate(tokens):
            if token >= self._vocab_size:
                return tokens[:i]
        return tokens


class _ContinuationTree:
    """What followed several matches, as one tree: common beginnings are one guess.

    At each of its nodes the matches vote for what comes next. One that agrees with the path so far
    has grown by it, and votes with its new length; one that does not is silent. A child has the
    share of its votes in all of them, `NO_VOTE` included, as its probability. Votes are counted
    when the tree is complete: a later match may bring a guess that an earlier one had no room for.
    """

    def __init__(self) -> None:
        self._followed: list[tuple[int, Sequence[int]]] = []
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._places: dict[tuple[int, int], int] = {}  # by parent and token
        self._num_branches = 0

    def add(self, length: int, continuation: Sequence[int]) -> None:
        """Take in what followed a match of some length; a branch of its own if there is room."""
        self._followed.append((length, continuation))
        room = self._room(len(continuation))
        num_before = len(self._tokens)
        parent = CONTEXT_END
        for token in continuation:
            place = self._places.get((parent, token), -1)
            if place < 0:
                if len(self._tokens) - num_before >= room:
                    break
                place = self._new(parent, token)
            parent = place
        self._num_branches += len(self._tokens) > num_before

    def draft(self) -> Draft:
        """The tree with its probabilities."""
        return Draft(tuple(self._tokens), tuple(self._parents), tuple(self._probabilities()))

    def _probabilities(self) -> list[float]:
        votes = [0.0] * len(self._tokens)
        all_votes = dict.fromkeys((CONTEXT_END, *range(len(votes))), NO_VOTE)  # by parent
        for length, continuation in self._followed:
            parent = CONTEXT_END
            for reach, token in enumerate(continuation):
                its_votes = match_votes(length + reach)
                all_votes[parent] += its_votes
                place = self._places.get((parent, token), -1)
                if place < 0:
                    break
                votes[place] += its_votes
                parent = place
        shares = zip(votes, self._parents, strict=True)
        return [for_it / all_votes[parent] for for_it, parent in shares]

    def _room(self, length: int) -> int:
        """How many guesses the next match may add."""
        if self._num_branches >= MAX_BRANCHES:
            return 0
        return SIDE_BRANCH_TOKENS if self._num_branches else length

    def _new(self, parent: int, token: int) -> int:
        place = self._places[parent, token] = len(self._tokens)
        self._tokens.append(token)
        self._parents.append(parent)
        return place


class RetrievalFactory:
    """Makes a `RetrievalProposer` for each generation.

    They share nothing, unless earlier texts are to be remembered: then a generation can find what
    others before it read and wrote. So the memory belongs to one user: what is found in it shows in
    the guesses that a verifier sees, and in how fast an answer comes, never in the answer.

    Args:
        min_match: shorter matches are passed over.
        memory_tokens: how many tokens of earlier texts to remember; 0 remembers none.
    """

    name = "retrieval"

    def __init__(self, min_match: int = MIN_MATCH_TOKENS, memory_tokens: int = 0) -> None:
        self._min_match = min_match
        self._memory = TextMemory(memory_tokens, min_match) if memory_tokens else None

    def start(self, task: DraftingTask) -> RetrievalProposer:
        """A fresh proposer for one generation; when it is gone its text is remembered."""
        proposer = RetrievalProposer(task, self._min_match, self._memory)
        if self._memory is not None:
            keep = weakref.finalize(proposer, self._memory.keep, proposer.text)
            keep.atexit = False
        return proposer
