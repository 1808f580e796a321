"""Drafting with a small language model that keeps its KV cache between calls.

Knows what the cache holds, a text and a small tree behind it, what to feed and what to forget;
knows nothing of the runtime that computes the logits (`DraftModel` is its seam) and nothing of the
target model's weights.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider_common.sampling import Ids
from outrider_edge.cached_tree import CachedTree
from outrider_edge.draft_columns import below
from outrider_edge.drawn import drawn_draft
from outrider_edge.prefix import common_prefix_length
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.ranking import Guesses, Ranker
from outrider_edge.row_tree import MAX_ROWS, TEXT_END

Logits = NDArray[np.floating[Any]]

FEED_CHUNK_TOKENS: Final = 128
"""Longer inputs are fed in pieces, so that the memory of one pass stays bounded."""

LONGEST_BRANCH: Final = 32
"""`propose` takes so many tokens at the end of a context for guesses that may be taken back."""

LONGEST_STEM: Final = 16
"""So many tokens of the text that are not cached are computed in one pass with the branches."""


class DraftSequence(Protocol):
    """One KV cache of a draft model: a text and, behind it, rows that are a small tree.

    Rows are numbered from 0, over all passes since `keep` or `truncate`; see `row_tree`.
    """

    @property
    def length(self) -> int:
        """How many tokens the cached text has."""
        ...

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Logits:
        """Append `tokens` to the text; returns the logits of the last `num_logits` of them.

        None: of all. The result is [num_logits or len(tokens), vocab]. There must be no rows.
        """
        ...

    def forward_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Logits:
        """Append rows; returns the logits of those with the ascending indices `wanted` in `tokens`.

        The parent of a row is the number of an earlier one, or `TEXT_END`. The result is
        [len(wanted), vocab], and valid until the next call.
        """
        ...

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """Make the first `num_text` of some ascending rows text, keep the others, forget the rest.

        Row `rows[num_text + i]` becomes row i.
        """
        ...

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens of the text, and no rows."""
        ...


class DraftModel(Protocol):
    """The weights of a draft model, shared by all sequences."""

    @property
    def vocab_size(self) -> int:
        """How many tokens it can read."""
        ...

    @property
    def token_ids(self) -> Ids | None:
        """Of which token each logit is, ascending; None: the i-th of token i."""
        ...

    @property
    def max_positions(self) -> int:
        """How many tokens a sequence may hold."""
        ...

    def new_sequence(self) -> DraftSequence:
        """An empty sequence."""
        ...


class LanguageModelProposer:
    """Drafts one token after each leaf: what the draft model would choose under the sampling.

    With a temperature, the draft model's logits meet the same noise as the target's, so that both
    choose the same token with probability at least (1 - TV) / (1 + TV), where TV is the total
    variation distance of their distributions (arXiv:2408.07978).
    """

    def __init__(self, task: DraftingTask, model: DraftModel) -> None:
        self._task = task
        self._vocab_size = min(task.vocab_size, model.vocab_size)
        self._max_positions = model.max_positions
        self._token_ids = below(model.token_ids, self._vocab_size)
        num_tokens = self._vocab_size if self._token_ids is None else len(self._token_ids)
        self._ranker = Ranker(task.sampling, num_tokens, self._token_ids)
        self._num_logits = num_tokens
        self._sequence = model.new_sequence()
        self._text: list[int] = []  # as it is cached
        self._tree = CachedTree()  # the rows behind it

    def propose(self, context: Sequence[int], max_tokens: int) -> Draft:
        """At most one guess, with its probability under the draft model's own softmax.

        Nothing where the context is longer than the draft model can read, or holds a token that
        it does not have.
        """
        tokens = list(context)
        text_length = self._text_length(tokens)
        (logits,) = self._next_logits(tokens[:text_length], [tokens[text_length:]])
        return Draft() if logits is None else self._guess(logits, tokens)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], count: int
    ) -> list[Guesses]:
        """What may follow several leaves of one tree, from one pass over the draft model.

        What is cached of the text and the paths is not computed again. Guesses whose path disagrees
        with `text` are forgotten.

        Args:
            text: the committed tokens, at least one.
            paths: of each leaf the guesses from the end of the text to it; none for the end itself.
            count: how many guesses for each leaf are wanted at most.

        Returns:
            For each path the best guesses; none where it is longer than the draft model can read or
            the cache can hold besides the paths before it, or has a token that the draft model
            lacks.
        """
        *before, end = text
        all_logits = self._next_logits(before, [[end, *path] for path in paths])
        return [
            Guesses() if logits is None else self._rank(logits, text, path, count)
            for logits, path in zip(all_logits, paths, strict=True)
        ]

    def _text_length(self, tokens: list[int]) -> int:
        """How much of a context is to be cached as text; its end may be guesses."""
        last = len(tokens) - 1
        if not self._text:
            return last
        shared = common_prefix_length(self._text, tokens)
        is_near = len(tokens) - shared <= LONGEST_BRANCH
        return min(shared if is_near else len(tokens) - LONGEST_BRANCH // 2, last)

    def _next_logits(self, text: list[int], branches: Sequence[list[int]]) -> list[Logits | None]:
        """The logits after each branch behind a text, [vocab]; None where it cannot be read.

        Branches have one token at least.
        """
        shared = common_prefix_length(self._text, text)
        longest = self._max_positions - len(text) if self._has_all(text[shared:]) else 0
        can_read = [len(b) <= longest and self._has_all(b) for b in branches]
        if not any(can_read):
            return [None] * len(branches)
        stem = self._follow(text, shared)
        whole = [stem + branch if ok else [] for branch, ok in zip(branches, can_read, strict=True)]
        self._make_room(whole)
        return self._compute(whole)

    def _has_all(self, tokens: list[int]) -> bool:
        return max(tokens, default=0) < self._vocab_size

    def _follow(self, text: list[int], shared: int) -> list[int]:
        """Bring the cached text to `text`; returns those last tokens that are still to be computed.

        Rows on the way become text, and what does not hang from its end is forgotten.

        Args:
            text: what is to be cached.
            shared: how many tokens of it are, at its beginning.
        """
        if shared < len(self._text):
            self._truncate(shared)
        pending = text[shared:]
        if not pending:
            return []
        known = self._tree.walk(pending)
        is_whole = len(known) == len(pending)
        self._keep(known + (self._tree.below(known[-1]) if is_whole else []), len(known))
        self._text += pending[: len(known)]
        return self._feed(pending[len(known) :])

    def _feed(self, pending: list[int]) -> list[int]:
        """Append to the cached text, unless it is so little that it can go with the branches."""
        if len(pending) <= LONGEST_STEM and self._text:
            return pending
        for start in range(0, len(pending), FEED_CHUNK_TOKENS):
            self._sequence.forward(pending[start : start + FEED_CHUNK_TOKENS], num_logits=0)
        self._text += pending
        return []

    def _make_room(self, branches: Sequence[list[int]]) -> None:
        """Forget rows that are on no branch, if what is to come would not fit beside them."""
        known = [self._tree.walk(branch) for branch in branches]
        needed = sum(len(b) - len(k) or 1 for b, k in zip(branches, known, strict=True) if b)
        if needed > self._room:
            # A leaf that is cached is computed again: better in its place than beside it.
            above = zip(branches, known, strict=True)
            self._keep(sorted({row for branch, rows in above for row in rows[: len(branch) - 1]}))

    def _compute(self, branches: Sequence[list[int]]) -> list[Logits | None]:
        """One pass over what is not cached of the branches; their logits, [vocab] each."""
        first = self._tree.num_rows
        leaves = [self._append(branch, first) for branch in branches]
        wanted = sorted({leaf - first for leaf in leaves if leaf is not None})
        if not wanted:
            return [None] * len(branches)
        logits = self._sequence.forward_rows(*self._tree.since(first), wanted)
        by_row = dict(zip(wanted, logits[:, : self._num_logits], strict=True))
        return [None if leaf is None else by_row[leaf - first] for leaf in leaves]

    def _append(self, branch: list[int], first: int) -> int | None:
        """Add what is not cached of a branch; returns the row of its end, None if it has no room.

        The end is computed again if that was in an earlier pass: its row is below `first`.
        """
        rows = self._tree.walk(branch)
        if rows and len(rows) == len(branch):
            if rows[-1] >= first:
                return rows[-1]
            rows.pop()
        missing = branch[len(rows) :]
        if not missing or len(missing) > self._room:
            return None
        row = rows[-1] if rows else TEXT_END
        for token in missing:
            row = self._tree.append(token, row)
        return row

    @property
    def _room(self) -> int:
        """How many more rows the cache can hold."""
        num_rows = self._tree.num_rows
        return min(MAX_ROWS, self._max_positions - len(self._text)) - num_rows

    def _truncate(self, length: int) -> None:
        self._sequence.truncate(length)
        self._tree.keep(())
        del self._text[length:]

    def _keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        self._sequence.keep(rows, num_text)
        self._tree.keep(rows, num_text)

    def _guess(self, logits: Logits, tokens: list[int]) -> Draft:
        if self._task.wants_draws:
            end = self._task.num_prompt_tokens
            return drawn_draft(logits, self._task.sampling, tokens, end, token_ids=self._token_ids)
        guesses = self._rank(logits, tokens, (), 1)
        return Draft.chain(guesses.tokens, guesses.probabilities)

    def _rank(
        self, logits: Logits, text: Sequence[int], path: Sequence[int], count: int
    ) -> Guesses:
        position = len(text) + len(path)
        if not self._task.sampling.has_penalties:  # which alone need to know the tokens
            return self._ranker.rank(logits, position, (), (), count)
        tokens = [*text, *path]
        end = self._task.num_prompt_tokens
        prompt, output = tokens[:end], tokens[end:]
        return self._ranker.rank(logits, position, prompt, output, count)


class LanguageModelFactory:
    """Makes a `LanguageModelProposer` for each generation; they share the model's weights."""

    name = "lm"

    def __init__(self, model: DraftModel) -> None:
        self._model = model

    def start(self, task: DraftingTask) -> LanguageModelProposer:
        """A proposer with an empty cache."""
        return LanguageModelProposer(task, self._model)
