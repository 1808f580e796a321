"""The trace of a generation in the Trace Event Format, which Perfetto and chrome://tracing open.

Times of link and verifier are estimates (see `GenerationTrace`). The trace itself goes along under
a key of its own, which viewers pass over. Knows nothing of how the trace came to be, or of files.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from outrider_common.generation_trace import (
    TRACE_KEY,
    GenerationTrace,
    Journeys,
    NodeFate,
    NodeTrace,
    PassTrace,
)

_MICROSECONDS: Final = 1e6
_LANES: Final = 100
"""Thread ids that each track may use: one for each lane, as slices of a thread must not overlap."""


class _Process(Enum):
    """What a viewer shows as a process: its id and its name."""

    EDGE = (1, "edge")
    LINK = (2, "link (estimated)")
    VERIFIER = (3, "verifier (estimated)")


class _Track(Enum):
    """What a viewer shows as a thread, from top to bottom: its number, process and name."""

    DRAFTER = (1, _Process.EDGE, "drafter")
    TEXT = (2, _Process.EDGE, "tokens")
    UPLINK = (3, _Process.LINK, "uplink")
    DOWNLINK = (4, _Process.LINK, "downlink")
    QUEUE = (5, _Process.VERIFIER, "queue")
    PASS = (6, _Process.VERIFIER, "pass")


@dataclass(slots=True)
class _Slice:
    """A bar. Times are whole microseconds; `lane` is where it stands among those that overlap."""

    track: _Track
    name: str
    begin_us: int
    end_us: int
    args: dict[str, Any]
    lane: int = 0

    @property
    def place(self) -> dict[str, int]:
        """Its process and thread."""
        number, process, _ = self.track.value
        return {"pid": process.value[0], "tid": number * _LANES + self.lane}

    def as_event(self) -> dict[str, Any]:
        """A complete event."""
        span = {"ts": self.begin_us, "dur": self.end_us - self.begin_us}
        return {"ph": "X", "name": self.name, **self.place, **span, "args": self.args}


@dataclass(slots=True)
class _Bars:
    """All slices; the lists run parallel to those of the trace."""

    drafts: list[_Slice] = field(default_factory=list)
    ups: list[_Slice] = field(default_factory=list)
    queues: list[_Slice] = field(default_factory=list)
    passes: list[_Slice] = field(default_factory=list)
    downs: list[_Slice] = field(default_factory=list)
    texts: list[_Slice] = field(default_factory=list)

    @property
    def all_tracks(self) -> list[list[_Slice]]:
        """Those of each track."""
        return [self.drafts, self.ups, self.queues, self.passes, self.downs, self.texts]


def chrome_trace(trace: GenerationTrace) -> dict[str, Any]:
    """A trace as the JSON object that viewers open."""
    journeys = Journeys.of(trace)
    bars = _bars(trace, journeys)
    for track in bars.all_tracks:
        _spread_over_lanes(track)
    slices = [bar for track in bars.all_tracks for bar in track]
    return {
        "traceEvents": [
            *_names(slices),
            *(bar.as_event() for bar in slices),
            *(event for node in trace.nodes for event in _arrow(journeys, bars, node)),
        ],
        "displayTimeUnit": "ms",
        "otherData": {"target": trace.target, "drafter": trace.drafter},
        TRACE_KEY: trace.as_json(),
    }


def chrome_trace_as_text(trace: GenerationTrace) -> str:
    """The same, as JSON."""
    return json.dumps(chrome_trace(trace)) + "\n"


def _bars(trace: GenerationTrace, journeys: Journeys) -> _Bars:
    nodes = {node.node_id: node for node in trace.nodes}
    hung = journeys.nodes_by_draft(trace)
    bars = _Bars()
    for draft, of_draft in zip(trace.drafts, hung, strict=True):
        args = {"leaves": draft.num_leaves, "guesses": draft.num_guesses} | _told(of_draft)
        name = _joined(node.text for node in of_draft) if of_draft else "nothing to send"
        bars.drafts.append(_slice(_Track.DRAFTER, name, draft.began_s, draft.ended_s, args))
    for message in trace.messages:
        sent = [nodes[i] for i in message.node_ids if i in nodes]
        until_s = message.sent_at_s + trace.one_way_s
        name = _joined(node.text for node in sent)
        bars.ups.append(_slice(_Track.UPLINK, name, message.sent_at_s, until_s, _told(sent)))
    for commit, until_s in zip(trace.passes, trace.next_arrivals_s, strict=True):
        _add_pass(bars, trace, commit, until_s)
    return bars


def _add_pass(bars: _Bars, trace: GenerationTrace, commit: PassTrace, until_s: float) -> None:
    text = _joined(commit.texts)
    args = {
        "text": "".join(commit.texts),
        "tokens": list(commit.tokens),
        "first position": commit.start,
        "accepted drafts": commit.num_accepted,
        "own guesses": commit.num_guessed,
        "is correction": commit.is_correction,
        "rows": commit.num_rows,
        "queue, ms": commit.queue_s * 1e3,
        "pass, ms": commit.pass_s * 1e3,
    }
    waited_s, began_s = trace.queue_began_s(commit), trace.pass_began_s(commit)
    ended_s, arrived_s = trace.pass_ended_s(commit), commit.arrived_at_s
    guessed = f", {commit.num_guessed} guessed" if commit.num_guessed else ""
    rows = f"{commit.num_rows} rows, {commit.num_accepted} accepted{guessed}"
    bars.queues.append(_slice(_Track.QUEUE, "queue", waited_s, began_s, args))
    bars.passes.append(_slice(_Track.PASS, rows, began_s, ended_s, args))
    bars.downs.append(_slice(_Track.DOWNLINK, text, ended_s, arrived_s, args))
    bars.texts.append(_slice(_Track.TEXT, text, arrived_s, until_s, args))


def _slice(track: _Track, name: str, begin_s: float, end_s: float, args: dict[str, Any]) -> _Slice:
    begin_us = round(begin_s * _MICROSECONDS)
    return _Slice(track, name, begin_us, max(round(end_s * _MICROSECONDS), begin_us + 1), args)


def _spread_over_lanes(slices: Sequence[_Slice]) -> None:
    """Give each slice the first lane that is free when it begins."""
    free_at_us: list[int] = []
    for bar in sorted(slices, key=lambda bar: bar.begin_us):
        free = [lane for lane, us in enumerate(free_at_us) if us <= bar.begin_us]
        bar.lane = free[0] if free else len(free_at_us)
        free_at_us[bar.lane : bar.lane + 1] = [bar.end_us]


def _names(slices: Sequence[_Slice]) -> Iterator[dict[str, Any]]:
    """Events that name processes and threads and put them in order."""
    for process in _Process:
        number, name = process.value
        yield _about("process_name", {"pid": number, "tid": 0}, {"name": name})
        yield _about("process_sort_index", {"pid": number, "tid": 0}, {"sort_index": number})
    for track, lane in sorted(
        {(bar.track, bar.lane) for bar in slices}, key=lambda place: (place[0].value[0], place[1])
    ):
        number, process, name = track.value
        place = {"pid": process.value[0], "tid": number * _LANES + lane}
        yield _about("thread_name", place, {"name": f"{name} {lane + 1}" if lane else name})
        yield _about("thread_sort_index", place, {"sort_index": number * _LANES + lane})


def _about(name: str, place: dict[str, int], args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "ts": 0, **place, "args": args}


def _arrow(journeys: Journeys, bars: _Bars, node: NodeTrace) -> Iterator[dict[str, Any]]:
    """Flow events from where a committed node was drafted to where its token became text."""
    if node.fate is not NodeFate.COMMITTED or node.node_id not in journeys.commit:
        return
    index, draft = journeys.commit[node.node_id], journeys.draft.get(node.node_id)
    begin = [] if draft is None else [bars.drafts[draft]]
    up = bars.ups[journeys.message[node.node_id]]
    stops = [*begin, up, bars.passes[index], bars.downs[index], bars.texts[index]]
    last = len(stops) - 1
    for i, bar in enumerate(stops):
        phase = "s" if i == 0 else "f" if i == last else "t"
        at = {"ts": bar.end_us - 1 if i == 0 else bar.begin_us, **bar.place}
        binding = {"bp": "e"} if phase == "f" else {}  # to the slice around it, not to the next
        yield (
            {"ph": phase, "name": "draft to text", "cat": "node", "id": node.node_id} | at | binding
        )


def _told(nodes: Sequence[NodeTrace]) -> dict[str, Any]:
    """What a viewer shows of nodes when a bar is clicked."""
    return {f"node {node.node_id}": _in_words(node) for node in nodes}


def _in_words(node: NodeTrace) -> str:
    return (
        f"{node.text!r} for position {node.position}: {node.fate.value}; guessed by "
        f"{node.proposer}, chance {node.chance:.2f}"
    )


def _joined(texts: Iterable[str]) -> str:
    """Texts of tokens in one line, never empty."""
    return "|".join(repr(text)[1:-1] for text in texts if text) or "no text"
