"""What one generation did and when: drafting, messages, passes, and the fate of each node.

Plain values, to and from JSON; all times are seconds since the request began, on the edge's clock.
Knows nothing of how a generation runs, of viewers or of charts.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from outrider_common.errors import InvalidInputError
from outrider_common.validation import first_problem

VERSION: Final = 1
"""Of the fields below."""


TRACE_KEY: Final = "outriderTrace"
"""Where a trace lies in a file for trace viewers, which pass it over."""


class NodeFate(StrEnum):
    """What became of a draft node that was sent."""

    COMMITTED = "committed"
    """A pass found it in time, and it became text."""

    REJECTED = "rejected"
    """A pass that had drafts for its position chose another token."""

    LATE = "late"
    """The verifier had passed its position before it was there, whether it was right or not."""

    UNJUDGED = "never judged"
    """It hung from one that was rejected or that was late and wrong, or its session ended first."""


@dataclass(frozen=True, slots=True)
class DraftSpan:
    """One run of the drafter.

    Attributes:
        began_s: when it was asked.
        ended_s: when it had answered.
        num_leaves: how many leaves of the tree it drafted from at once.
        num_guesses: how many guesses it gave; not all of them became nodes.
    """

    began_s: float
    ended_s: float
    num_leaves: int
    num_guesses: int


@dataclass(frozen=True, slots=True)
class SentMessage:
    """Nodes that travelled together.

    Attributes:
        sent_at_s: when the message was handed to the link.
        node_ids: of its nodes.
    """

    sent_at_s: float
    node_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeTrace:
    """One draft node that was sent.

    Attributes:
        node_id: 1, 2, 3, ...
        token: its token id.
        text: what that token reads as alone; empty where nobody could say.
        position: where it stands if it is committed.
        parent_id: the node that it hangs from; None for one that hangs from committed text.
        proposer: what guessed it.
        chance: what it was worth when it was guessed, given that its parent is committed.
        drafted_at_s: when it was hung into the tree.
        sent_at_s: when it was handed to the link.
        fate: what became of it.
        decided_at_s: when the edge heard of that; None where the answer ended first.
    """

    node_id: int
    token: int
    text: str
    position: int
    parent_id: int | None
    proposer: str
    chance: float
    drafted_at_s: float
    sent_at_s: float
    fate: NodeFate = NodeFate.UNJUDGED
    decided_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class PassTrace:
    """One verification pass, as its commit tells.

    Attributes:
        arrived_at_s: when the edge had the commit.
        start: the position of the first token that was new.
        tokens: those that were new.
        texts: what each of them added to the text.
        num_accepted: how many of them, from the first, draft nodes carried.
        is_correction: drafts were there for the position of the last one, and none carried it.
        pass_s: how long the pass took.
        queue_s: how long the session had waited for it.
        num_rows: rows of this session in the pass.
        num_guessed: how many of the tokens, after those of draft nodes, guesses of the verifier's
            own carried.
    """

    arrived_at_s: float
    start: int
    tokens: tuple[int, ...]
    texts: tuple[str, ...]
    num_accepted: int
    is_correction: bool
    pass_s: float
    queue_s: float
    num_rows: int
    num_guessed: int = 0


@dataclass(frozen=True, slots=True)
class GenerationTrace:
    """Everything that one generation did, as far as the edge knows.

    The edge's own times are measured. Of the verifier it knows how long things took, and when their
    commit arrived: when they happened is worked out with half of the round trip for either way.

    Attributes:
        target: the model that verified.
        drafter: what drafted.
        opened_at_s: when the edge heard that the session was open.
        round_trip_s: there and back, without anything to do on the way.
        drafts: in the order in which they began.
        messages: in the order in which they were sent.
        nodes: by id.
        passes: in the order in which their commits arrived.
        is_complete: False where the generation was too long to be recorded to its end.
        version: of these fields.
    """

    target: str
    drafter: str
    opened_at_s: float
    round_trip_s: float
    drafts: tuple[DraftSpan, ...] = ()
    messages: tuple[SentMessage, ...] = ()
    nodes: tuple[NodeTrace, ...] = ()
    passes: tuple[PassTrace, ...] = ()
    is_complete: bool = True
    version: int = field(default=VERSION)

    @property
    def one_way_s(self) -> float:
        """How long a message travels, by estimate: half of a round trip."""
        return self.round_trip_s / 2

    @property
    def next_arrivals_s(self) -> list[float]:
        """Of each pass until when its commit was the latest."""
        arrivals = [commit.arrived_at_s for commit in self.passes]
        return [*arrivals[1:], self.ended_at_s] if arrivals else []

    @property
    def ended_at_s(self) -> float:
        """When the last thing of the trace was over at the edge."""
        ends = [self.opened_at_s]
        ends += [draft.ended_s for draft in self.drafts]
        ends += [message.sent_at_s for message in self.messages]
        ends += [commit.arrived_at_s for commit in self.passes]
        return max(ends)

    def pass_ended_s(self, commit: PassTrace) -> float:
        """When a pass was over, by estimate."""
        return max(commit.arrived_at_s - self.one_way_s, 0.0)

    def pass_began_s(self, commit: PassTrace) -> float:
        """When a pass began, by estimate."""
        return max(self.pass_ended_s(commit) - commit.pass_s, 0.0)

    def queue_began_s(self, commit: PassTrace) -> float:
        """From when on the session waited for the pass, by estimate."""
        return max(self.pass_began_s(commit) - commit.queue_s, 0.0)

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that `json.dumps` takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Journeys:
    """What each node went through: by its id, indexes into the lists of its trace.

    Attributes:
        draft: the last run of the drafter that was over when the node was hung. A guess may have
            waited since an earlier one.
        message: that took it to the verifier.
        commit: that told what became of it.
    """

    draft: Mapping[int, int]
    message: Mapping[int, int]
    commit: Mapping[int, int]

    @classmethod
    def of(cls, trace: GenerationTrace) -> "Journeys":
        """Those of a trace."""
        ends = [draft.ended_s for draft in trace.drafts]
        runs = {node.node_id: bisect_right(ends, node.drafted_at_s) - 1 for node in trace.nodes}
        arrivals = {commit.arrived_at_s: i for i, commit in enumerate(trace.passes)}
        decided = {node.node_id: arrivals.get(node.decided_at_s or 0.0) for node in trace.nodes}
        return cls(
            draft={node_id: run for node_id, run in runs.items() if run >= 0},
            message={i: at for at, sent in enumerate(trace.messages) for i in sent.node_ids},
            commit={node_id: at for node_id, at in decided.items() if at is not None},
        )

    def nodes_by_draft(self, trace: GenerationTrace) -> list[list[NodeTrace]]:
        """For each run of the drafter the nodes that were hung after it and before the next."""
        hung: list[list[NodeTrace]] = [[] for _ in trace.drafts]
        for node in trace.nodes:
            if node.node_id in self.draft:
                hung[self.draft[node.node_id]].append(node)
        return hung


_TRACE: Final = TypeAdapter(GenerationTrace)


def trace_from_json(document: object, name: str) -> GenerationTrace:
    """Read what `as_json` gave, once through JSON.

    Args:
        document: what `json.loads` gave.
        name: of where it comes from, for the sentence when it is none.

    Raises:
        InvalidInputError: it is no trace, or one of another version.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise InvalidInputError(
            f"{name} has version {version} of a generation's trace, this release reads version "
            f"{VERSION}; record it again with 'outrider edge run --trace'."
        )
    try:
        return _TRACE.validate_python(document)
    except ValidationError as error:
        raise InvalidInputError(
            f"{name} holds no trace of a generation ({first_problem(error)}); give a file that "
            "'outrider edge run --trace' wrote."
        ) from error
