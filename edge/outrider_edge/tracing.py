"""Records what one generation does: runs of the drafter, messages, commits, the fate of each node.

Pure: it is told of each thing with its time. What becomes of nodes it works out from the messages
alone, beside the session's own tree. Knows nothing of sessions, links, tokenizers or files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from outrider_common.generation_trace import (
    DraftSpan,
    GenerationTrace,
    NodeFate,
    NodeTrace,
    PassTrace,
    SentMessage,
)
from outrider_common.messages import Commit
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.guess_tree import Hung

MAX_EVENTS: Final = 100_000
"""Runs, nodes, messages and passes that are kept at most, of some 0.2 kB each."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The verifier has opened the session."""

    at_s: float


TraceEvent = SessionOpened | DraftSpan | NodeTrace | PassTrace
"""What a watcher of a recorder hears. A node is told twice: when it is sent, and when its fate is
decided, which is before the pass that decided it."""

OnTraceEvent = Callable[[TraceEvent], None]
"""Takes each event as it happens; must return at once."""


def _unheard(_event: TraceEvent) -> None:
    pass


@dataclass(slots=True)
class _Undecided:
    """A node of which it is not known yet what becomes of it."""

    trace: NodeTrace
    below: list[int]


class TraceRecorder:
    """The trace of one generation while it runs.

    Args:
        max_events: when so many things are recorded, no more are; those that are keep their fates.
        on_event: hears of everything that is recorded, when it is.
    """

    def __init__(self, max_events: int = MAX_EVENTS, on_event: OnTraceEvent = _unheard) -> None:
        self._on_event = on_event
        self._room = max_events
        self._is_complete = True
        self._opened_at_s = 0.0
        self._drafts: list[DraftSpan] = []
        self._messages: list[SentMessage] = []
        self._decided: list[NodeTrace] = []
        self._undecided: dict[int, _Undecided] = {}
        self._rooted: dict[int, list[int]] = {}  # nodes on the text, by position
        self._right: dict[int, int] = {}  # positions of nodes that carried what was committed
        self._passes: list[PassTrace] = []
        self._last_id = 0
        self._ids_before = 0  # the last id of the sessions before this one

    # --- what happens ---------------------------------------------------------------------------

    def opened(self, now_s: float) -> None:
        """The verifier has opened the session; of several, the first counts."""
        self._opened_at_s = self._opened_at_s or now_s
        self._on_event(SessionOpened(self._opened_at_s))

    def resumed(self, now_s: float) -> None:
        """The answer goes on in a new session: nodes of the old one are judged by nobody any more.

        The new one counts its nodes from 1 again; here they go on counting.
        """
        for node_id in list(self._undecided):
            self._close(node_id, NodeFate.UNJUDGED, now_s)
        self._rooted.clear()
        self._right.clear()
        self._ids_before = self._last_id

    def drafted(self, began_s: float, ended_s: float, num_leaves: int, num_guesses: int) -> None:
        """The drafter was asked, and has answered."""
        if self._has_room(1):
            self._drafts.append(DraftSpan(began_s, ended_s, num_leaves, num_guesses))
            self._on_event(self._drafts[-1])

    def sent(self, nodes: Sequence[DraftNode], hung: Sequence[Hung], now_s: float) -> None:
        """Nodes go to the verifier.

        Args:
            nodes: as they travel.
            hung: how each of them came to be.
            now_s: when.
        """
        if not self._has_room(len(nodes) + 1):
            return
        ids = tuple(self._ids_before + node.node_id for node in nodes)
        self._last_id = max(self._last_id, *ids)
        self._messages.append(SentMessage(now_s, ids))
        for node, how in zip(nodes, hung, strict=True):
            self._add(node, how, now_s)

    def committed(self, commit: Commit, num_new: int, now_s: float) -> None:
        """A pass has made tokens final.

        Args:
            commit: what the verifier says.
            num_new: how many of its tokens, up to the last, were new.
            now_s: when it arrived.
        """
        if commit.num_rows == 0:
            return  # no pass: the answer to a cancellation
        num_known = len(commit.tokens) - num_new
        for offset, token in enumerate(commit.tokens[num_known:], start=num_known):
            self._decide(commit, offset, token, now_s)
        if self._has_room(1):
            self._passes.append(
                PassTrace(
                    arrived_at_s=now_s,
                    start=commit.start + num_known,
                    tokens=commit.tokens[num_known:],
                    texts=("",) * num_new,
                    num_accepted=max(commit.num_accepted - num_known, 0),
                    is_correction=commit.is_correction,
                    pass_s=commit.pass_us / 1e6,
                    queue_s=commit.queue_us / 1e6,
                    num_rows=commit.num_rows,
                    num_guessed=_num_new_guessed(commit, num_known),
                )
            )
            self._on_event(self._passes[-1])

    # --- what is known --------------------------------------------------------------------------

    def trace(
        self,
        *,
        round_trip_s: float | None,
        target: str = "",
        drafter: str = "",
        texts: Mapping[int, str] = MappingProxyType({}),
        text_of: Callable[[int], str] = lambda _token: "",
    ) -> GenerationTrace:
        """All that was recorded.

        Args:
            round_trip_s: by estimate; None: not known. It is taken for no longer than any node
                needed that was there in time.
            target: the model that verified.
            drafter: what drafted.
            texts: what each token added to the text, by position.
            text_of: what a token of a node reads as alone.
        """
        left = [undecided.trace for undecided in self._undecided.values()]
        nodes = sorted([*self._decided, *left], key=lambda node: node.node_id)
        return GenerationTrace(
            target=target,
            drafter=drafter,
            opened_at_s=self._opened_at_s,
            round_trip_s=min([round_trip_s or 0.0, *self._longest_round_trips()]),
            drafts=tuple(self._drafts),
            messages=tuple(self._messages),
            nodes=tuple(replace(node, text=text_of(node.token)) for node in nodes),
            passes=tuple(_with_texts(commit, texts) for commit in self._passes),
            is_complete=self._is_complete,
        )

    # --- inside ---------------------------------------------------------------------------------

    def _has_room(self, num_events: int) -> bool:
        """Whether so much more may be kept; once it may not, nothing is."""
        self._is_complete = self._is_complete and num_events <= self._room
        self._room -= num_events if self._is_complete else 0
        return self._is_complete

    def _add(self, node: DraftNode, how: Hung, now_s: float) -> None:
        parent = node.parent
        parent_id = self._ids_before + parent.node_id if isinstance(parent, AtNode) else None
        above = None if parent_id is None else self._undecided.get(parent_id)
        at = above.trace.position if above else self._position(parent)
        if at is None:
            return  # it hangs from nothing that was recorded
        trace = NodeTrace(
            node_id=self._ids_before + node.node_id,
            token=node.token,
            text="",
            position=at + 1,
            parent_id=parent_id,
            proposer=how.guess.kind.proposer,
            chance=how.guess.chance,
            drafted_at_s=how.drafted_at_s,
            sent_at_s=now_s,
        )
        self._undecided[trace.node_id] = _Undecided(trace, [])
        siblings = above.below if above else self._rooted.setdefault(at + 1, [])
        siblings.append(trace.node_id)
        self._on_event(trace)

    def _position(self, parent: AtNode | AtPosition) -> int | None:
        """Where a committed parent stands; None where that is not known."""
        if isinstance(parent, AtPosition):
            return parent.position
        return self._right.get(self._ids_before + parent.node_id)

    def _decide(self, commit: Commit, offset: int, token: int, now_s: float) -> None:
        """Decide the nodes at one committed position whose parents stand in the text."""
        position = commit.start + offset
        is_accepted = offset < commit.num_accepted
        was_judged = is_accepted or (commit.is_correction and offset == len(commit.tokens) - 1)
        for node_id in self._rooted.pop(position, []):
            node = self._undecided[node_id]
            is_right = node.trace.token == token
            if is_right and is_accepted:
                self._close(node_id, NodeFate.COMMITTED, now_s)
            else:
                is_rejected = was_judged and not is_right
                self._close(node_id, NodeFate.REJECTED if is_rejected else NodeFate.LATE, now_s)
            if is_right:
                self._right[node_id] = position
                self._rooted.setdefault(position + 1, []).extend(node.below)
            else:
                self._cut_off(node.below, now_s)

    def _cut_off(self, node_ids: Sequence[int], now_s: float) -> None:
        """What hangs from a wrong node is never judged."""
        pending = list(node_ids)
        while pending:
            pending += self._close(pending.pop(), NodeFate.UNJUDGED, now_s).below

    def _close(self, node_id: int, fate: NodeFate, now_s: float) -> _Undecided:
        node = self._undecided.pop(node_id)
        self._decided.append(replace(node.trace, fate=fate, decided_at_s=now_s))
        self._on_event(self._decided[-1])
        return node

    def _longest_round_trips(self) -> list[float]:
        """For each node that was there in time the longest that its way and its commit's took."""
        pass_s = {commit.arrived_at_s: commit.pass_s for commit in self._passes}
        return [
            max(node.decided_at_s - pass_s[node.decided_at_s] - node.sent_at_s, 0.0)
            for node in self._decided
            if node.fate is NodeFate.COMMITTED and node.decided_at_s in pass_s
        ]


def _num_new_guessed(commit: Commit, num_known: int) -> int:
    """How many tokens that own guesses carried are left behind the first so many tokens."""
    return max(commit.num_guessed - max(num_known - commit.num_accepted, 0), 0)


def _with_texts(commit: PassTrace, texts: Mapping[int, str]) -> PassTrace:
    positions = range(commit.start, commit.start + len(commit.tokens))
    return replace(commit, texts=tuple(texts.get(position, "") for position in positions))
