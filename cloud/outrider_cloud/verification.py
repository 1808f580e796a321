"""One verification: which rows a pass computes for a session, and what its logits commit.

Pure: a tree and logits in, tokens out. The target's token at each point is the acceptance rule's
word; the walk follows the child that carries it. Knows nothing of threads or KV caches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from outrider_cloud.target import CACHED_TEXT, Logits, Rows
from outrider_common.messages import FinishReason
from outrider_common.tree import SpeculationTree

Choose = Callable[[Logits, Sequence[int], Sequence[int]], int]
"""The acceptance rule of a session at one point of its tree: (logits of the row, tokens of its
children, tokens that the walk has committed so far) -> the token to commit."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What a pass computes for one session.

    Row 0 is the frontier, whose KV is not cached yet; row i + 1 is the i-th planned draft node.

    Attributes:
        rows: tokens and parents for the target.
        children: for each row its planned children, token -> row.
    """

    rows: Rows
    children: tuple[dict[int, int], ...]

    @property
    def num_draft_nodes(self) -> int:
        """How many draft nodes the pass checks."""
        return len(self.rows.tokens) - 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pass commits for one session.

    Attributes:
        tokens: the committed tokens: those of accepted nodes, then at most one of the target's own.
        kept_rows: the rows whose KV is text now: the frontier's and those of accepted nodes.
        num_accepted: how many tokens draft nodes carried.
        is_correction: there were draft nodes where the target's own token stands.
        finish_reason: why the generation ends with these tokens, or None.
    """

    tokens: tuple[int, ...]
    kept_rows: tuple[int, ...]
    num_accepted: int
    is_correction: bool
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a generation ends.

    Attributes:
        stop_token_ids: tokens that end it.
        max_length: the most tokens, prompt included.
    """

    stop_token_ids: frozenset[int]
    max_length: int

    def reason(self, token: int, length: int) -> FinishReason | None:
        """Why the generation ends with `token` as the last of `length` tokens, or None."""
        if token in self.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if length >= self.max_length else None


def plan_pass(tree: SpeculationTree, ending: Ending, max_nodes: int) -> PassPlan:
    """The frontier and the oldest live nodes, as far as they can still be committed.

    Nodes are taken in the order in which they came, so parents before their children. A node in
    the last position is useless: the pass yields that position's token without it, but one at the
    position before it is not.
    """
    row_of = {tree.frontier: 0}
    useful = (node for node in tree.nodes() if node.position < ending.max_length - 1)
    nodes = list(islice(useful, max_nodes))
    children: list[dict[int, int]] = [{} for _ in range(len(nodes) + 1)]
    parents = [CACHED_TEXT]
    for row, node in enumerate(nodes, start=1):
        assert node.parent is not None  # only the frontier has none
        parent = row_of[node.parent]
        row_of[node] = row
        parents.append(parent)
        children[parent][node.token] = row
    tokens = (tree.frontier.token, *(node.token for node in nodes))
    return PassPlan(Rows(tokens, tuple(parents)), tuple(children))


def walk(
    plan: PassPlan, logits: Logits, choose: Choose, num_committed: int, ending: Ending
) -> Verdict:
    """Follow the children that carry the target's tokens, until none does or the text ends.

    Args:
        plan: what was computed.
        logits: [len(plan.rows.tokens), vocab].
        choose: the acceptance rule.
        num_committed: tokens committed before the pass.
        ending: where the generation ends.
    """
    tokens: list[int] = []
    kept_rows = [0]
    while True:
        row = kept_rows[-1]
        children = plan.children[row]
        token = choose(logits[row], tuple(children), tokens)
        tokens.append(token)
        reason = ending.reason(token, num_committed + len(tokens))
        child = children.get(token)
        if child is not None:
            kept_rows.append(child)
        if child is None or reason is not None:
            break
    return Verdict(
        tokens=tuple(tokens),
        kept_rows=tuple(kept_rows),
        num_accepted=len(kept_rows) - 1,
        is_correction=child is None and bool(children),
        finish_reason=reason,
    )
