"""How fast things are, as the edge sees them: link, verifier and drafter.

Every figure is a median of the latest samples, so that a freeze, a page fault or a long prompt
does not move it. Pure: times are passed in. Knows nothing of trees, messages or clocks.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from outrider_edge.pay_off import PayOff

WINDOW: Final = 31
"""Samples that are remembered: half of them may be outliers, and a change shows after 16."""

_NORMAL: Final = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""

_HOPE_QUANTILE: Final = 0.75
_HOPE_AT_FIRST: Final = (0.9,) * 8

_LEAF_SHARE_AT_FIRST: Final = (0.3,) * 4
"""An int4 copy of SmolLM2-135M on one core: four rows in 1.8 times the time of one."""

_MEMORY_FATES: Final = 128.0


class RunningQuantile:
    """Quantiles of the latest samples (a running median: Tukey, Exploratory Data Analysis, 1977).

    Up to half of the samples in the window, whatever they are, cannot carry the median out of the
    range of the others.

    Args:
        window: how many samples are remembered.
        first: samples to begin with; they are forgotten like others.
    """

    def __init__(self, window: int = WINDOW, first: Iterable[float] = ()) -> None:
        self._samples: deque[float] = deque(first, maxlen=window)
        self._sorted: list[float] | None = None
        self._spread: float | None = None

    def add(self, sample: float) -> None:
        """Remember one more sample."""
        self._samples.append(sample)
        self._sorted = self._spread = None

    def quantile(self, share: float) -> float | None:
        """The sample below which about this share of them lies; None without samples."""
        if not self._samples:
            return None
        if self._sorted is None:
            self._sorted = sorted(self._samples)
        return self._sorted[int(share * (len(self._sorted) - 1) + 0.5)]

    @property
    def median(self) -> float | None:
        """The middle sample; None without samples."""
        return self.quantile(0.5)

    @property
    def spread(self) -> float:
        """The standard deviation, from the median absolute deviation (Hampel 1974); 0 at first."""
        middle = self.median
        if middle is None:
            return 0.0
        if self._spread is None:
            deviations = sorted(abs(sample - middle) for sample in self._samples)
            self._spread = _NORMAL * deviations[len(deviations) // 2]
        return self._spread


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is known of the pace of things. None: not observed yet.

    Attributes:
        round_trip_s: from when a node is sent to when the edge would hear of it if the verifier
            answered at once.
        interval_s: between two commits of a session, so between the starts of its passes.
        interval_spread_s: the standard deviation of that.
        pass_s: how long a verification pass takes.
        plain_pass_s: how long it takes if it computes one token of the session: a step of the cloud
            alone.
        queue_s: how long a session that could run waits for its pass.
        draft_s: how long it takes to draft one level below one leaf.
        leaf_share: what each further leaf adds to that, if several are expanded in one run.
        acceptance: the share of the judged first guesses that were committed.
        hope: the chance of a good next guess: the upper quartile of the latest ones.
    """

    round_trip_s: float | None
    interval_s: float | None
    interval_spread_s: float
    pass_s: float | None
    plain_pass_s: float | None
    queue_s: float | None
    draft_s: float | None
    leaf_share: float
    acceptance: float | None
    hope: float

    @property
    def hedging_rate_per_s(self) -> float | None:
        """Positions a second that the verifier passes by itself: one with each pass."""
        return 1 / self.interval_s if self.interval_s else None


class Estimators:
    """The filters behind `Estimates`. Generations that run one after another may share them."""

    def __init__(self) -> None:
        self._opening = RunningQuantile()
        self._round_trip = RunningQuantile()
        self._interval = RunningQuantile()
        self._pass = RunningQuantile()
        self._plain_pass = RunningQuantile()
        self._queue = RunningQuantile()
        self._draft = RunningQuantile()
        self._leaf_share = RunningQuantile(first=_LEAF_SHARE_AT_FIRST)
        self._hope = RunningQuantile(first=_HOPE_AT_FIRST)
        self._pay_offs: dict[str, PayOff] = {}
        self._num_fates = 0.0  # faded
        self._num_committed = 0.0  # of those

    def of_another_verifier(self) -> "Estimators":
        """Fresh ones, which share what is learnt of the drafter's pace and hopes."""
        other = Estimators()
        other._draft = self._draft
        other._leaf_share = self._leaf_share
        other._hope = self._hope
        return other

    def estimates(self) -> Estimates:
        """What is known now."""
        return Estimates(
            round_trip_s=self._round_trip_s,
            interval_s=self._interval.median,
            interval_spread_s=self._interval.spread,
            pass_s=self._pass.median,
            plain_pass_s=self._plain_pass.median,
            queue_s=self._queue.median,
            draft_s=self._draft.median,
            leaf_share=self._leaf_share.quantile(0.5) or 0.0,
            acceptance=self._num_committed / self._num_fates if self._num_fates else None,
            hope=self.hope,
        )

    @property
    def hope(self) -> float:
        """The chance of a good next guess; see `Estimates`."""
        hope = self._hope.quantile(_HOPE_QUANTILE)
        assert hope is not None  # it has samples from the start
        return hope

    def pay_off(self, regime: str) -> PayOff:
        """Whether drafting pays at this verifier, for guesses that are made and judged alike."""
        return self._pay_offs.setdefault(regime, PayOff())

    def opened(self, seconds: float) -> None:
        """A session was opened: a round trip at least, used until nodes tell better."""
        self._opening.add(seconds)

    def arrived(self, at_least_s: float, at_most_s: float) -> None:
        """A node was checked by one pass and had missed the pass before.

        It came at some time between the starts of these passes. As if at any equally likely, the
        middle is the sample; nodes that waited came late in it, so it is a little low for them.

        Args:
            at_least_s: from sending it to the start of the pass that it missed, as the edge sees
                it: the pass's commit, minus how long the pass took.
            at_most_s: likewise, to the start of the pass that checked it.
        """
        self._round_trip.add((at_least_s + at_most_s) / 2)

    def came_late(self, at_least_s: float) -> None:
        """A node was right, but its position was passed without it: one bound is known.

        It says something only if it is above what is estimated.
        """
        known = self._round_trip_s
        if known is None or at_least_s > known:
            self._round_trip.add(at_least_s)

    def passed(self, pass_s: float, queue_s: float, num_rows: int) -> None:
        """A verification pass was finished, which computed so many tokens of the session."""
        self._pass.add(pass_s)
        if num_rows == 1:
            self._plain_pass.add(pass_s)
        self._queue.add(queue_s)

    def waited(self, interval_s: float) -> None:
        """So much time went by between two commits of one session."""
        self._interval.add(interval_s)

    def drafted(self, seconds: float, num_leaves: int, num_levels: int) -> None:
        """A proposer was asked once; an answer without guesses took its time, too.

        Args:
            seconds: that it took.
            num_leaves: that it was asked for.
            num_levels: how deep the deepest answer was.
        """
        level_s = seconds / max(num_levels, 1)
        alone_s = self._draft.median
        if num_leaves == 1:
            self._draft.add(level_s)
        elif alone_s:
            self._leaf_share.add(max(0.0, level_s / alone_s - 1) / (num_leaves - 1))

    def expects(self, chance: float) -> None:
        """The first guess of a draft has this chance; 0 where there was none."""
        self._hope.add(chance)

    def decided(self, is_committed: bool) -> None:
        """A first guess whose parent was committed was judged."""
        kept = 1 - 1 / _MEMORY_FATES
        self._num_fates = self._num_fates * kept + 1
        self._num_committed = self._num_committed * kept + is_committed

    @property
    def _round_trip_s(self) -> float | None:
        measured = self._round_trip.median
        return self._opening.median if measured is None else max(measured, 0.0)
