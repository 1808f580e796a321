"""One verification: which rows a pass computes for a session, and what its logits commit.

Pure: trees and logits in, tokens out. The target's token at each point is the acceptance rule's
word; a walk follows the child that carries it. Sessions walk together, so that one call chooses for
all of them. Knows nothing of threads or KV caches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from outrider_cloud.choice import UNUSABLE, ChoicePoint, PassLogits
from outrider_cloud.target import CACHED_TEXT, Rows
from outrider_common.acceptance import AcceptanceRule, SparseDistribution
from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import FinishReason
from outrider_common.tree import SpeculationTree, TreeNode


class PassPlan(NamedTuple):
    """What a pass computes for one session. No more than its launch needs: the device waits for it.

    Row 0 is the frontier, whose KV is not cached yet; row i + 1 is the i-th planned draft node.

    Attributes:
        rows: tokens and parents for the target; of the children of a row the older ones first.
        drafts: for each row from what its children were drawn; None where they were not.
        own_rows: the rows of guesses of the verifier's own.
    """

    rows: Rows
    drafts: tuple[SparseDistribution | None, ...]
    own_rows: frozenset[int] = frozenset()

    @property
    def num_draft_nodes(self) -> int:
        """How many draft nodes of the edge the pass checks."""
        return len(self.rows.tokens) - 1 - len(self.own_rows)


class Verdict(NamedTuple):
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
    nodes = sorted(tree.nodes(), key=attrgetter("position"))
    while nodes and nodes[-1].position >= ending.useless_from:
        nodes.pop()
    return nodes


def plan_pass(
    frontier: TreeNode, nodes: Sequence[TreeNode], *, has_guesses: bool = True
) -> PassPlan:
    """The rows of a frontier and of nodes below it, parents before their children.

    Args:
        frontier: of the session's tree.
        nodes: those without an id are guesses of the verifier's own.
        has_guesses: whether there may be any.
    """
    row_of = {node: row for row, node in enumerate((frontier, *nodes))}
    own_rows = [row_of[node] for node in nodes if not node.ids] if has_guesses else ()
    return PassPlan(
        Rows(
            (frontier.token, *[node.token for node in nodes]),
            (CACHED_TEXT, *[row_of[node.parent] for node in nodes]),  # type: ignore[index]
        ),
        drafts=tuple([node.draft for node in row_of]),
        own_rows=frozenset(own_rows),
    )


class Walk:
    """The way down one session's tree, until no child carries the target's token or the text ends.

    All that the way may depend on is put together when it is made: while the pass runs.

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

    Attributes:
        points: what may have to be chosen, row by row of the plan.
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
        self._own_rows = plan.own_rows
        self._children = _children(plan.rows)
        self.points = _points(plan, self._children, first_row, rule, text, num_prompt_tokens)
        self._first_row = first_row
        self._length = len(text)
        self._ending = ending
        self._tokens: list[int] = []
        self._kept_rows = [0]
        self._finish_reason: FinishReason | None = None
        self.is_over = False
        self.is_unusable = False

    def point(self) -> ChoicePoint:
        """What has to be chosen next."""
        return self.points[self._kept_rows[-1]]

    def advance(self, token: int) -> None:
        """Commit what was chosen at `point`."""
        if token == UNUSABLE:
            self.is_unusable = self.is_over = True
            return
        self._tokens.append(token)
        self._finish_reason = self._ending.reason(token, self._length + len(self._tokens))
        child = self._children[self._kept_rows[-1]].get(token)
        self.is_over = child is None or self._finish_reason is not None
        if child is not None:
            self._kept_rows.append(child)

    def follow(self, tokens: Sequence[int]) -> None:
        """Walk to the end along tokens that were chosen at `points`."""
        while not self.is_over:
            self.advance(tokens[self._kept_rows[-1]])

    def steps(self) -> Iterator[tuple[int, int]]:
        """The walked rows, among the logits of the pass, and the token that was chosen at each."""
        for row, token in zip(self._kept_rows, self._tokens, strict=False):
            yield self._first_row + row, token

    def verdict(self) -> Verdict:
        """What the walk commits, once it is over."""
        num_guessed = len(self._own_rows.intersection(self._kept_rows))
        num_accepted = len(self._kept_rows) - 1 - num_guessed
        had_drafts = bool(self.points[self._kept_rows[num_accepted]].children)
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


def _children(rows: Rows) -> list[dict[int, int]]:
    """For each row its children, token -> row, in the order of the rows."""
    children: list[dict[int, int]] = [{} for _ in rows.tokens]
    for row, (token, parent) in enumerate(zip(rows.tokens, rows.parents, strict=True)):
        if parent != CACHED_TEXT:
            children[parent][token] = row
    return children


def _points(
    plan: PassPlan,
    children: Sequence[dict[int, int]],
    first_row: int,
    rule: AcceptanceRule,
    text: Sequence[int],
    num_prompt_tokens: int,
) -> list[ChoicePoint]:
    """What may have to be chosen, row by row of a plan.

    A rule judges draft nodes alone. An own guess is no offer: it only lets the walk go on where the
    target's token happens to be the guessed one, so no token depends on it, in any mode.
    """
    has_penalties = rule.params.has_penalties
    prompt = text[:num_prompt_tokens] if has_penalties else ()
    paths: list[tuple[int, ...]] = []
    points: list[ChoicePoint] = []
    for row, (token, parent) in enumerate(zip(plan.rows.tokens, plan.rows.parents, strict=True)):
        path = () if parent == CACHED_TEXT else (*paths[parent], token)
        paths.append(path)
        points.append(
            ChoicePoint(
                row=first_row + row,
                position=len(text) + len(path),
                rule=rule,
                children=tuple([t for t, at in children[row].items() if at not in plan.own_rows]),
                draft=plan.drafts[row],
                prompt_tokens=prompt,
                output_tokens=(*text[num_prompt_tokens:], *path) if has_penalties else (),
            )
        )
    return points


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
    chosen = logits.choose([point for walk in walks for point in walk.points])
    begin = 0
    for walk in walks:
        end = begin + len(walk.points)
        walk.follow(chosen[begin:end])
        begin = end


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
