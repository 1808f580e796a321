"""The timeline of one generation: the drafter above, the verifier below it, the text at the bottom.

Time goes to the right, and what is said from one to the other goes down, so that one sees what
happens at the same time. Knows nothing of how a trace came to be.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from outrider_charts.overlap import busyness
from outrider_charts.scale import Scale, round_ticks
from outrider_charts.style import Dress
from outrider_charts.svg import document, tag, text, text_width
from outrider_common.generation_trace import (
    GenerationTrace,
    Journeys,
    NodeFate,
    NodeTrace,
    PassTrace,
)

WIDTH: Final = 1000

MOST_WINDOWS: Final = 64
"""So many are looked at to find the one that shows most."""

_LEFT, _RIGHT = 92, 12
_LETTERS: Final = 11.0

_DRAFTS_Y, _DRAFTS_HEIGHT = 92, 46
_PASSES_Y, _PASSES_HEIGHT = 196, 40
_TEXT_Y, _TEXT_HEIGHT = 294, 30
_AXIS_Y: Final = 338
_HEIGHT: Final = 372

_LOOKS: Final = {
    NodeFate.COMMITTED: "committed",
    NodeFate.REJECTED: "rejected",
    NodeFate.LATE: "late",
    NodeFate.UNJUDGED: "unjudged",
}
_LETTERS_ON: Final = {NodeFate.UNJUDGED: "on-pale", NodeFate.LATE: "on-bright"}
"""Where the letters on a bar are not those on strong colours."""

_KEYS: Final = (
    ("committed", "became text"),
    ("rejected", "rejected"),
    ("late", "too late: the verifier was there first"),
    ("unjudged", "never judged: hung from a wrong one"),
    ("pass", "the target's own"),
    ("guessed", "the verifier's guess"),
)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a generation, in seconds since its request."""

    begin_s: float
    end_s: float

    def overlaps(self, begin_s: float, end_s: float) -> bool:
        """Whether something that lasts from one time to another is seen in it."""
        return begin_s < self.end_s and end_s > self.begin_s


def telling_window(trace: GenerationTrace, length_s: float) -> Window:
    """The part that shows most: kinds of fates, then both sides at work, then committed nodes."""
    if trace.ended_at_s <= length_s or not trace.passes:
        return Window(0.0, max(trace.ended_at_s, 1e-3))
    first_s = max([trace.pass_began_s(trace.passes[0]), *(d.ended_s for d in trace.drafts[:1])])
    last_s = max(trace.passes[-1].arrived_at_s - length_s, first_s)
    begins = [trace.pass_began_s(c) for c in trace.passes[:: len(trace.passes) // MOST_WINDOWS + 1]]
    choices = [s for s in begins if first_s <= s <= last_s] or [first_s]
    best_s = max(choices, key=lambda begin_s: _worth_seeing(trace, begin_s, begin_s + length_s))
    return Window(best_s, best_s + length_s)


def _worth_seeing(trace: GenerationTrace, begin_s: float, end_s: float) -> tuple[int, float, int]:
    seen = [n.fate for n in trace.nodes if begin_s <= n.drafted_at_s and n.sent_at_s < end_s]
    both = round(busyness(trace, begin_s, end_s).both, 1)
    return len(set(seen)), both, seen.count(NodeFate.COMMITTED)


def timeline(trace: GenerationTrace, window: Window, dress: Dress | None = Dress.BOTH) -> str:
    """Draw a part of a generation.

    Returns:
        A complete SVG; see `document`.
    """
    picture = _Picture(trace, window)
    title = f"One generation: {trace.target}, drafted by {trace.drafter}"
    parts = [*_head(trace, window), *picture.lanes(), *picture.axis(), *picture.everything()]
    return document(title, parts, width=WIDTH, height=_HEIGHT, dress=dress)


def _head(trace: GenerationTrace, window: Window) -> Iterator[str]:
    busy = busyness(trace, window.begin_s, window.end_s)
    yield text(8, 20, f"{trace.target}, drafted by {trace.drafter}", anchor="start", size=15)
    yield text(
        8,
        40,
        f"Round trip {trace.round_trip_s * 1e3:.0f} ms. Drafting {busy.drafting:.0%} of the time, "
        f"verifying {busy.verifying:.0%}, both at once {busy.both:.0%}.",
        anchor="start",
        size=12,
        kind="faint",
    )
    x = 8.0
    for look, name in _KEYS:
        yield tag("rect", x=x, y=52, width=12, height=12, rx=2, class_=look)
        yield text(x + 17, 62, name, anchor="start", size=_LETTERS)
        x += 17 + text_width(name, _LETTERS) + 14


class _Picture:
    """The lanes, in coordinates.

    Args:
        trace: what is drawn.
        window: the part of it.
    """

    def __init__(self, trace: GenerationTrace, window: Window) -> None:
        self._trace = trace
        self._window = window
        self._journeys = Journeys.of(trace)
        self._nodes = {node.node_id: node for node in trace.nodes}
        self._scale = Scale(window.end_s - window.begin_s, _LEFT, WIDTH - _RIGHT)

    def lanes(self) -> Iterator[str]:
        """What stands at the left, and the ground that bars stand on."""
        for y, height, names in (
            (_DRAFTS_Y, _DRAFTS_HEIGHT, ("edge:", "drafting")),
            (_PASSES_Y, _PASSES_HEIGHT, ("verifier:", "passes")),
            (_TEXT_Y, _TEXT_HEIGHT, ("edge:", "text")),
        ):
            yield tag("rect", x=0, y=y - 4, width=WIDTH, height=height + 8, class_="lane")
            for i, name in enumerate(names):
                yield text(8, y + height / 2 - 3 + 14 * i, name, anchor="start")
        for y, name in ((_PASSES_Y - 26, "uplink"), (_TEXT_Y - 24, "downlink")):
            yield text(8, y, name, anchor="start", size=_LETTERS, kind="faint")

    def axis(self) -> Iterator[str]:
        """Milliseconds since the request."""
        step = round_ticks((self._window.end_s - self._window.begin_s) * 1e3)[1]
        tick = -(-self._window.begin_s * 1e3 // step) * step
        while tick <= self._window.end_s * 1e3:
            x = self._x(tick / 1e3)
            yield tag("line", x1=x, x2=x, y1=_DRAFTS_Y - 8, y2=_AXIS_Y, class_="line-grid")
            yield text(x, _AXIS_Y + 15, f"{tick:g}", size=_LETTERS, kind="faint")
            tick += step
        yield text(
            WIDTH - _RIGHT, _AXIS_Y + 29, "ms since the request", anchor="end", size=_LETTERS
        )

    def everything(self) -> Iterator[str]:
        """Links below, so that bars are never hidden."""
        parts = [*self._ups(), *self._downs(), *self._drafts(), *self._passes(), *self._texts()]
        width = WIDTH - _LEFT - _RIGHT
        view = f"{_LEFT} 0 {width} {_HEIGHT}"  # what is outside is cut off
        yield tag("svg", "".join(parts), x=_LEFT, y=0, width=width, height=_HEIGHT, viewBox=view)

    # --- inside ---------------------------------------------------------------------------------

    def _x(self, seconds: float) -> float:
        return self._scale(seconds - self._window.begin_s)

    def _drafts(self) -> Iterator[str]:
        """One bar for each run, with a strip for each node that was hung after it."""
        by_draft = self._journeys.nodes_by_draft(self._trace)
        for draft, nodes in zip(self._trace.drafts, by_draft, strict=True):
            if self._window.overlaps(draft.began_s, draft.ended_s):
                yield from self._draft(self._x(draft.began_s), self._x(draft.ended_s), nodes)

    def _draft(self, left: float, right: float, nodes: Sequence[NodeTrace]) -> Iterator[str]:
        width = max(right - left - 1.0, 1.0)
        if not nodes:
            yield _bar(left, _DRAFTS_Y, width, _DRAFTS_HEIGHT, "line-unjudged", "nothing to send")
        height = _DRAFTS_HEIGHT / max(len(nodes), 1)
        for i, node in enumerate(nodes):
            y, strip = _DRAFTS_Y + i * height, max(height - 1, 1)
            yield _bar(left, y, width, strip, _LOOKS[node.fate], _in_words(node))
            kind = _LETTERS_ON.get(node.fate, "on-colour")
            yield from _fitted(node.text, left, width, y + strip / 2 + 4, kind, strip)

    def _ups(self) -> Iterator[str]:
        for message in self._trace.messages:
            arrival_s = message.sent_at_s + self._trace.one_way_s
            if self._window.overlaps(message.sent_at_s, arrival_s):
                sent = [self._nodes[i] for i in message.node_ids if i in self._nodes]
                look = _LOOKS[_best(sent)]
                yield self._way(message.sent_at_s, arrival_s, _DRAFTS_Y + 46, _PASSES_Y - 2, look)

    def _downs(self) -> Iterator[str]:
        for commit in self._trace.passes:
            ended_s = self._trace.pass_ended_s(commit)
            if self._window.overlaps(ended_s, commit.arrived_at_s):
                top = _PASSES_Y + _PASSES_HEIGHT + 2
                yield self._way(ended_s, commit.arrived_at_s, top, _TEXT_Y - 2, "pass")

    def _way(self, sent_s: float, arrived_s: float, top: float, bottom: float, look: str) -> str:
        """A message under way, with a head where it arrives."""
        left, right = self._x(sent_s), self._x(arrived_s)
        line = tag(
            "line", x1=left, y1=top, x2=right, y2=bottom, class_=f"line-{look}", stroke_width=1.6
        )
        return line + tag("circle", cx=right, cy=bottom, r=2.4, class_=look)

    def _passes(self) -> Iterator[str]:
        for commit in self._trace.passes:
            waited_s = self._trace.queue_began_s(commit)
            began_s, ended_s = self._trace.pass_began_s(commit), self._trace.pass_ended_s(commit)
            if not self._window.overlaps(waited_s, ended_s):
                continue
            waited, left, right = self._x(waited_s), self._x(began_s), self._x(ended_s)
            yield from _wait(waited, left)
            width = max(right - left, 1.0)
            yield _bar(left, _PASSES_Y, width, _PASSES_HEIGHT, "pass", _pass_in_words(commit))
            lines = _pass_lines(commit)
            for i, line in enumerate(lines):
                y = _PASSES_Y + _PASSES_HEIGHT / 2 + 4 + 13 * (i - (len(lines) - 1) / 2)
                yield from _fitted(line, left, width, y, "on-colour", _PASSES_HEIGHT)

    def _texts(self) -> Iterator[str]:
        """The tokens of each commit, from its arrival to that of the next."""
        ends_s = self._trace.next_arrivals_s
        for commit, end_s in zip(self._trace.passes, ends_s, strict=True):
            if self._window.overlaps(commit.arrived_at_s, end_s):
                left, right = self._x(commit.arrived_at_s), self._x(end_s)
                yield from _tokens(commit, left, max(right - left, 1.0))


def _tokens(commit: PassTrace, left: float, width: float) -> Iterator[str]:
    """Boxes as wide as what they say, in the colour of what the token came from."""
    wanted = [text_width(shown, _LETTERS) + 6 for shown in map(_shown, commit.texts)]
    squeeze = min(1.0, (width - 2) / max(sum(wanted), 1e-9))
    for i, (said, whole) in enumerate(zip(commit.texts, wanted, strict=True)):
        box = whole * squeeze
        look = _origin(commit, i)
        yield _bar(left, _TEXT_Y, max(box - 1, 1.0), _TEXT_HEIGHT, look, repr(said))
        yield from _fitted(said, left, box, _TEXT_Y + 19, "on-colour", _TEXT_HEIGHT)
        left += box


def _origin(commit: PassTrace, index: int) -> str:
    """What a token of a pass came from: the edge's draft, the verifier's guess, the target."""
    if index < commit.num_accepted:
        return "committed"
    return "guessed" if index < commit.num_accepted + commit.num_guessed else "pass"


def _pass_lines(commit: PassTrace) -> list[str]:
    """What stands on the bar of a pass."""
    rows = "1 row" if commit.num_rows == 1 else f"{commit.num_rows} rows"
    guessed = [f"{commit.num_guessed} guessed"] if commit.num_guessed else []
    return [rows, f"{commit.num_accepted} accepted", *guessed]


def _bar(x: float, y: float, width: float, height: float, look: str, told: str) -> str:
    """A bar that says what it is when a pointer rests on it."""
    title = tag("title", escape(told))
    kind = look if look.startswith("line-") else f"{look} line-page"
    return tag("rect", title, x=x, y=y, width=width, height=height, rx=2.5, class_=kind)


def _wait(left: float, right: float) -> Iterator[str]:
    """A queue, if it is long enough to be seen."""
    if right - left >= 1:
        y = _PASSES_Y + _PASSES_HEIGHT / 2
        yield tag("line", x1=left, x2=right, y1=y, y2=y, class_="line-ink", stroke_dasharray="2 3")


def _fitted(
    said: str, left: float, width: float, y: float, kind: str, height: float
) -> Iterator[str]:
    """Words in the middle of a bar, as far as there is room for them."""
    shown = _shown(said)
    if shown and height >= _LETTERS and text_width(shown, _LETTERS) <= width + 2:
        yield text(left + width / 2, y, shown, size=_LETTERS, kind=kind)


def _shown(said: str) -> str:
    """A token's text as it is shown: white space at its ends says nothing."""
    return said.strip() or ("⏎" if "\n" in said else "")


def _best(nodes: Iterable[NodeTrace]) -> NodeFate:
    """The fate that a message is drawn with: the first that one of its nodes has."""
    fates = {node.fate for node in nodes}
    return next((fate for fate in NodeFate if fate in fates), NodeFate.UNJUDGED)


def _in_words(node: NodeTrace) -> str:
    return f"{node.text!r}, position {node.position}, by {node.proposer}: {node.fate.value}"


def _pass_in_words(commit: PassTrace) -> str:
    return (
        f"{', '.join(_pass_lines(commit))}, {len(commit.tokens)} tokens; "
        f"queue {commit.queue_s * 1e3:.1f} ms, pass {commit.pass_s * 1e3:.1f} ms"
    )
