"""One verification: which rows a pass computes for a session, and what its logits commit.

Pure: trees and logits in, tokens out. The target's token at each point is the acceptance rule's
word; a walk follows the child that carries it. Sessions walk together, so that one call chooses for
all of them. Knows nothing of threads or KV caches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter

from outrider_cloud.choice import UNUSABLE, ChoicePoint, PassLogits
from outrider_cloud.target import CACHED_TEXT, Rows
from outrider_common.acceptance import AcceptanceRule, SparseDistribution
from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import FinishReason
from outrider_common.tree import SpeculationTree, TreeNode


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What a pass computes for one session.

    Row 0 is the frontier, whose KV is not cached yet; row i + 1 is the i-th planned draft node.

    Attributes:
        rows: tokens and parents for the target.
        children: for each row its planned children, token -> row, in the order of their ids.
        drafts: for each row from what its children were drawn; None where they were not.
        own_rows: the rows of guesses of the verifier's own.
    """

    rows: Rows
    children: tuple[dict[int, int], ...]
    drafts: tuple[SparseDistribution | None, ...]
    own_rows: frozenset[int] = frozenset()

    @property
    def num_draft_nodes(self) -> int:
        """How many draft nodes of the edge the pass checks."""
        return len(self.rows.tokens) - 1 - len(self.own_rows)

    def drafts_below(self, row: int) -> tuple[int, ...]:
        """The tokens of the draft nodes that hang from a row, in the order of their ids.

        A rule judges these alone. An own guess is no offer: it only lets the walk go on where the
        target's token happens to be the guessed one, so no token depends on it, in any mode.
        """
        children = self.children[row].items()
        return tuple(token for token, child in children if child not in self.own_rows)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pass commits for one session.

    Attributes:
        tokens: the committed tokens: those of accepted draft nodes, those of the verifier's own
            guesses that were right, then at most one that the target has chosen.
        kept_rows: the rows whose KV is text now: the frontier's and those of accepted nodes.
        num_accepted: how many tokens draft nodes carried.
        num_guessed: how many tokens own guesses carried.
        is_refuted: there were draft nodes below the last accepted one, and none was right.
        finish_reason: why the generation ends with these tokens, or None.
        runner_ups: for each token the likeliest others at its position; empty if not wanted.
        logprobs: for each token what the target thinks of it; empty if not wanted.
    """

    tokens: tuple[int, ...]
    kept_rows: tuple[int, ...]
    num_accepted: int
    num_guessed: int
    is_refuted: bool
    finish_reason: FinishReason | None
    runner_ups: tuple[tuple[int, ...], ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def is_correction(self) -> bool:
        """There were draft nodes where the token stands that the target has chosen."""
        return self.is_refuted and not self.num_guessed


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a generation ends.

    Attributes:
        stop_token_ids: tokens that end it.
        max_length: the most tokens, prompt included.
    """

    stop_token_ids: frozenset[int]
    max_length: int

    @property
    def useless_from(self) -> int:
        """The position from which on a node saves no pass: each yields a last token anyway."""
        return self.max_length - 1

    def reason(self, token: int, length: int) -> FinishReason | None:
        """Why the generation ends with `token` as the last of `length` tokens, or None."""
        if token in self.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if length >= self.max_length else None


def useful_nodes(tree: SpeculationTree, ending: Ending) -> list[TreeNode]:
    """The live nodes that can still save a pass: the nearest to the frontier first.

    Of those at the same depth the oldest is first; parents come before their children. A node in
    the last position is useless: the pass yields that position's token without it, but one at the
    position before it is not.
    """
    useful = (node for node in tree.nodes() if node.position < ending.useless_from)
    return sorted(useful, key=attrgetter("position"))


def plan_pass(frontier: TreeNode, nodes: Sequence[TreeNode]) -> PassPlan:
    """The rows of a frontier and of nodes below it, parents before their children.

    Nodes without an id are guesses of the verifier's own.
    """
    row_of = {frontier: 0}
    children: list[dict[int, int]] = [{} for _ in range(len(nodes) + 1)]
    parents = [CACHED_TEXT]
    for row, node in enumerate(nodes, start=1):
        assert node.parent is not None  # only the frontier has none
        parent = row_of[node.parent]
        row_of[node] = row
        parents.append(parent)
        children[parent][node.token] = row
    tokens = (frontier.token, *(node.token for node in nodes))
    drafts = tuple(node.draft for node in row_of)
    own_rows = frozenset(row for row, node in enumerate(nodes, start=1) if not node.ids)
    return PassPlan(Rows(tokens, tuple(parents)), tuple(children), drafts, own_rows)


class Walk:
    """The way down one session's tree, until no child carries the target's token or the text ends.

    Args:
        plan: what was computed.
        first_row: of the plan, among the logits of the pass.
        rule: of acceptance.
        text: committed before the pass.
        num_prompt_tokens: how many of them are the prompt.
        ending: where the generation ends.
        num_runner_ups: how many are wanted of each token.
        num_top_logprobs: for each token its log-probability is wanted, and those of so many of the
            likeliest; None: not wanted.
    """

    def __init__(
        self,
        plan: PassPlan,
        first_row: int,
        rule: AcceptanceRule,
        text: Sequence[int],
        num_prompt_tokens: int,
        ending: Ending,
        num_runner_ups: int = 0,
        num_top_logprobs: int | None = None,
    ) -> None:
        self.num_runner_ups = num_runner_ups
        self.runner_ups: tuple[tuple[int, ...], ...] = ()
        self.num_top_logprobs = num_top_logprobs
        self.logprobs: tuple[TokenLogprobs, ...] = ()
        self._plan = plan
        self._first_row = first_row
        self._rule = rule
        self._text = text
        self._num_prompt_tokens = num_prompt_tokens
        self._ending = ending
        self._tokens: list[int] = []
        self._kept_rows = [0]
        self._finish_reason: FinishReason | None = None
        self._is_over = False
        self.is_unusable = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to choose."""
        return self._is_over or self.is_unusable

    def point(self) -> ChoicePoint:
        """What has to be chosen next."""
        return self._point(self._kept_rows[-1], self._tokens)

    def all_points(self) -> Iterator[ChoicePoint]:
        """What may have to be chosen, row by row of the plan."""
        paths: list[tuple[int, ...]] = []
        for row, (token, parent) in enumerate(
            zip(self._plan.rows.tokens, self._plan.rows.parents, strict=True)
        ):
            paths.append(() if parent == CACHED_TEXT else (*paths[parent], token))
            yield self._point(row, paths[row])

    def advance(self, token: int) -> None:
        """Commit what was chosen at `point`."""
        if token == UNUSABLE:
            self.is_unusable = True
            return
        self._tokens.append(token)
        self._finish_reason = self._ending.reason(token, len(self._text) + len(self._tokens))
        child = self._plan.children[self._kept_rows[-1]].get(token)
        self._is_over = child is None or self._finish_reason is not None
        if child is not None:
            self._kept_rows.append(child)

    def follow(self, tokens: Sequence[int]) -> None:
        """Walk to the end along tokens that were chosen at `all_points`."""
        while not self.is_over:
            self.advance(tokens[self._kept_rows[-1]])

    def steps(self) -> Iterator[tuple[int, int]]:
        """The walked rows, among the logits of the pass, and the token that was chosen at each."""
        for row, token in zip(self._kept_rows, self._tokens, strict=False):
            yield self._first_row + row, token

    def verdict(self) -> Verdict:
        """What the walk commits, once it is over."""
        num_guessed = sum(row in self._plan.own_rows for row in self._kept_rows)
        num_accepted = len(self._kept_rows) - 1 - num_guessed
        had_drafts = bool(self._plan.drafts_below(self._kept_rows[num_accepted]))
        return Verdict(
            tokens=tuple(self._tokens),
            kept_rows=tuple(self._kept_rows),
            num_accepted=num_accepted,
            num_guessed=num_guessed,
            is_refuted=had_drafts and num_accepted < len(self._tokens),
            finish_reason=self._finish_reason,
            runner_ups=self.runner_ups,
            logprobs=self.logprobs,
        )

    def _point(self, row: int, walked: Sequence[int]) -> ChoicePoint:
        prompt: Sequence[int] = ()
        output: Sequence[int] = ()
        if self._rule.params.has_penalties:
            prompt = self._text[: self._num_prompt_tokens]
            output = (*self._text[self._num_prompt_tokens :], *walked)
        return ChoicePoint(
            row=self._first_row + row,
            position=len(self._text) + len(walked),
            rule=self._rule,
            children=self._plan.drafts_below(row),
            draft=self._plan.drafts[row],
            prompt_tokens=prompt,
            output_tokens=output,
        )


def walk_together(walks: Sequence[Walk], logits: PassLogits) -> None:
    """Walk to the end of all; those whose logits are no numbers are unusable then."""
    if logits.chooses_whole_trees:
        _walk_whole_trees(walks, logits)
    else:
        _walk_level_by_level(walks, logits)
    usable = [walk for walk in walks if not walk.is_unusable]
    _look_beside([walk for walk in usable if walk.num_runner_ups], logits)
    _weigh([walk for walk in usable if walk.num_top_logprobs is not None], logits)


def _walk_level_by_level(walks: Sequence[Walk], logits: PassLogits) -> None:
    while going := [walk for walk in walks if not walk.is_over]:
        chosen = logits.choose([walk.point() for walk in going])
        for walk, token in zip(going, chosen, strict=True):
            walk.advance(token)


def _walk_whole_trees(walks: Sequence[Walk], logits: PassLogits) -> None:
    points = [list(walk.all_points()) for walk in walks]
    chosen = iter(logits.choose([point for own in points for point in own]))
    for walk, own in zip(walks, points, strict=True):
        walk.follow(list(islice(chosen, len(own))))


def _look_beside(walks: Sequence[Walk], logits: PassLogits) -> None:
    """Find the runner-ups for all walks that want some, at once."""
    if not walks:
        return
    steps = [list(walk.steps()) for walk in walks]
    rows, tokens = zip(*(step for own in steps for step in own), strict=True)
    most = max(walk.num_runner_ups for walk in walks)
    found = iter(logits.runner_ups(rows, tokens, most))
    for walk, own in zip(walks, steps, strict=True):
        walk.runner_ups = tuple(best[: walk.num_runner_ups] for best in islice(found, len(own)))


def _weigh(walks: Sequence[Walk], logits: PassLogits) -> None:
    """Find the log-probabilities for all walks that want them, at once."""
    if not walks:
        return
    steps = [list(walk.steps()) for walk in walks]
    rows, tokens = zip(*(step for own in steps for step in own), strict=True)
    most = max(walk.num_top_logprobs or 0 for walk in walks)
    found = iter(logits.logprobs(rows, tokens, most))
    for walk, own in zip(walks, steps, strict=True):
        walk.logprobs = tuple(
            replace(one, top=one.top[: walk.num_top_logprobs]) for one in islice(found, len(own))
        )
