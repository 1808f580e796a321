"""What a pass costs, and so what a draft node must be worth.

A pass of R rows takes as long as one did that was measured before, or c0 + c1 R seconds as learnt
from those that ran. The price of a node is what its row costs in tokens. Pure. Knows nothing of
sessions, trees or clocks.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

_NOISE: Final = 0.1
"""Standard deviation of a pass's time, as a share of it."""

_DRIFT: Final = 0.005
"""By which share of a pass's time the costs may move from one pass to the next."""

_MAX_SURPRISE: Final = 3.0
"""Standard deviations beyond which a surprise counts no more."""

_MAX_ROW_DOUBT: Final = 0.3
"""The most that is forgotten of a row's cost: its standard deviation, as a share of time / rows."""

_FADING: Final = 0.003
"""Share of a row's cost that becomes fixed cost with every pass, times how uncertain it is."""

_SCALE_WEIGHT: Final = 0.05
"""How much of a pass's surprise goes into the scale of a measured curve."""

_MAX_SCALE_SURPRISE: Final = 0.3
"""The most that one pass counts for, as the logarithm of its time over the expected one."""

_MOST_MORE: Final = 4
_FEW_ROWS: Final = 2
"""Up to how many times the rows of a pass are looked at for where more rows are cheapest."""

_MEMORY_PASSES: Final = 16.0
"""Passes after which what a pass committed counts for 1/e in the price."""


class PassCost:
    """Estimates c0 and c1 of seconds = c0 + c1 * rows, from passes as they run.

    A Kalman filter (Kalman 1960) over (c0, c1), both taken for random walks, with three additions:

    - A surprise counts up to three standard deviations, as in Huber's M-estimate (1964): a page
      fault or a freeze moves the estimate no more than any slow pass.
    - Neither cost is ever negative: one that would be is set to 0, and the other to what is
      likeliest then.
    - While all passes have the same number of rows, nothing tells c0 from c1. What is known of c1
      is then kept, but the less certain it is, the faster it fades towards c1 = 0 at the same time
      of a pass. So a row that was once found too dear becomes cheap enough to be tried again.

    The noise is taken for a tenth of a pass's time. A lasting change by a factor of two is half
    learnt in about fifty passes. Before the first pass both costs are 0.

    A line is a rough model: a processor's passes are flat as long as they wait for the memory, and
    steep beyond. After `calibrate` the curve that was measured takes its place, and what is learnt
    is only by how much all of it is slower or faster than it was.
    """

    def __init__(self) -> None:
        self._curve_rows: list[float] = []
        self._curve_s: list[float] = []
        self._scale = 1.0
        self._fixed_s = 0.0
        self._row_s = 0.0
        self._var_fixed = 0.0  # covariance of (c0, c1), in s^2, s^2 / row and s^2 / row^2
        self._cov = 0.0
        self._var_row = 0.0
        self._is_new = True

    @property
    def fixed_s(self) -> float:
        """c0: seconds that a pass takes whatever it computes; never negative."""
        return self._fixed_s

    @property
    def row_s(self) -> float:
        """c1: seconds that one more row takes; never negative."""
        return self._row_s

    @property
    def is_calibrated(self) -> bool:
        """Whether a measured curve is there."""
        return bool(self._curve_rows)

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Take what was measured for how long passes take.

        Args:
            points: rows and seconds of at least two sizes; of one size the median counts. Times
                that fall with the rows are noise, and are raised to the last one.
        """
        sizes = sorted({rows for rows, _ in points})
        medians = [float(np.median([s for rows, s in points if rows == size])) for size in sizes]
        self._curve_rows = [float(size) for size in sizes]
        self._curve_s = np.maximum.accumulate(medians).tolist()
        self._scale = 1.0

    def seconds(self, num_rows: float) -> float:
        """How long a pass of so many rows takes."""
        if self.is_calibrated:
            return float(self.all_seconds(np.array([num_rows]))[0])
        return self._fixed_s + self._row_s * num_rows

    def cheapest_row_s(self, num_rows: int) -> float:
        """The fewest seconds that a row takes if some are added to a pass of so many.

        A measured curve has steps; a few rows more may be dearer, each, than many.
        """
        more = np.arange(1, _MOST_MORE * max(num_rows, _FEW_ROWS) + 1)
        added = self.all_seconds(num_rows + more) - self.seconds(num_rows)
        return float((added / more).min())

    def all_seconds(self, num_rows: Counts) -> Floats:
        """`seconds` of each of these, [n]."""
        if not self.is_calibrated:
            return np.asarray(self._fixed_s + self._row_s * num_rows, dtype=np.float64)
        rows, seconds = self._curve_rows, self._curve_s
        slope = (seconds[-1] - seconds[-2]) / (rows[-1] - rows[-2])
        beyond: Floats = slope * np.maximum(num_rows - rows[-1], 0)
        on_curve: Floats = np.interp(num_rows, rows, seconds)
        return self._scale * (on_curve + beyond)

    def row_doubt(self, num_rows: float) -> float:
        """How uncertain c1 is: the standard deviation of c1 * rows, as a share of the pass's time.

        This is also by how much the price of a node may be wrong in such a pass. 0 while nothing
        was observed.
        """
        time = self.seconds(num_rows)
        if self.is_calibrated or not time:
            return 0.0
        return math.sqrt(max(self._var_row, 0.0)) * num_rows / time

    def rows_within(self, seconds: float, most: int) -> int:
        """The most rows, up to `most`, that a pass may have to take no longer than `seconds`."""
        if self.seconds(most) <= seconds:
            return most
        if self.is_calibrated:
            fits = self.all_seconds(np.arange(1, most + 1)) <= seconds
            return int(fits.sum())
        if self._fixed_s >= seconds or not self._row_s:
            return 0
        return min(most, int((seconds - self._fixed_s) / self._row_s))

    def observe(self, num_rows: int, seconds: float) -> None:
        """Learn from a pass that ran.

        Args:
            num_rows: rows that it computed, at least 1.
            seconds: how long it took, above 0.

        Raises:
            ValueError: a pass without rows, or without an end in time.
        """
        if num_rows < 1:
            raise ValueError(f"num_rows is {num_rows}; a pass has at least one row.")
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds is {seconds}; a pass takes some time, and ends.")
        if self.is_calibrated:
            self._rescale(seconds / self.seconds(num_rows))
            return
        if self._is_new:
            self._begin(num_rows, seconds)
            return
        self._drift(num_rows)
        self._correct(num_rows, seconds)
        self._refuse_negative_costs()

    def _rescale(self, ratio: float) -> None:
        most = _MAX_SCALE_SURPRISE
        surprise = max(-most, min(most, math.log(ratio)))
        self._scale *= math.exp(_SCALE_WEIGHT * surprise)

    def _begin(self, num_rows: int, seconds: float) -> None:
        """Take the first pass for flat, and know nothing for certain."""
        self._is_new = False
        self._fixed_s = seconds
        self._var_fixed = seconds**2
        self._var_row = (seconds / num_rows) ** 2

    def _drift(self, num_rows: int) -> None:
        """What may have changed since the pass before."""
        faded = _FADING * self.row_doubt(num_rows) * self._row_s
        self._row_s -= faded
        self._fixed_s += faded * num_rows
        time = self.seconds(num_rows)
        self._var_fixed += (_DRIFT * time) ** 2
        self._var_row += (_DRIFT * time / num_rows) ** 2
        self._limit_row_doubt((_MAX_ROW_DOUBT * time / num_rows) ** 2)

    def _limit_row_doubt(self, most: float) -> None:
        """Hold the variance of c1 down, and the correlation where it is.

        Without a limit it would grow for as long as all passes are alike, and then the noise of
        the first other pass would be taken for the cost of its rows.
        """
        if self._var_row > most:
            self._cov *= math.sqrt(most / self._var_row)
            self._var_row = most

    def _correct(self, num_rows: int, seconds: float) -> None:
        """The Kalman update with h = (1, rows), its innovation limited."""
        expected = self.seconds(num_rows)
        with_fixed = self._var_fixed + self._cov * num_rows  # P h
        with_row = self._cov + self._var_row * num_rows
        variance = with_fixed + with_row * num_rows + (_NOISE * expected) ** 2  # h' P h + noise
        most = _MAX_SURPRISE * math.sqrt(variance)
        surprise = max(-most, min(most, seconds - expected))
        self._fixed_s += with_fixed / variance * surprise
        self._row_s += with_row / variance * surprise
        self._var_fixed -= with_fixed**2 / variance
        self._cov -= with_fixed * with_row / variance
        self._var_row -= with_row**2 / variance

    def _refuse_negative_costs(self) -> None:
        """Where a cost is below 0: the mean of the other one, given that this one is 0."""
        if self._row_s < 0:
            self._fixed_s -= self._cov / self._var_row * self._row_s
            self._row_s = 0.0
        if self._fixed_s < 0:
            self._row_s -= self._cov / self._var_fixed * self._fixed_s
            self._fixed_s = 0.0
        self._row_s = max(self._row_s, 0.0)


class NodePrice:
    """What a draft node must be worth under the present load.

    A pass of R rows that commits T tokens takes c0 + c1 R, so tokens come at the rate

        T / (c0 + c1 R).

    One more row, which commits a token with chance p, makes it (T + p) / (c0 + c1 (R + 1)). That is
    more exactly if

        p > c1 * T / (c0 + c1 R):

    the time of one row times the present rate, or the tokens that the time of a row is worth.
    That is the price. As no row commits more than one token, T <= R and the price is at most 1. It
    is near 0 where passes are flat (a GPU that waits for memory) and nears T / R where rows are all
    that costs.

    The rate that the price is made of holds what drafts have given, and what drafts are checked
    depends on the price. This is Dinkelbach's method for the largest ratio (Management Science
    13(7), 1967): choose what maximises T - rate * time, take the rate that this gives, choose
    again. It converges to the optimum from any start, and rests only where the rate can no longer
    be raised: the price is the first-order condition of that optimum. It is only as good as the
    nodes' values, and it treats the rest of the pass (frontiers, prefill) as given.

    T and R are means over about the last 16 passes that committed anything. The seconds of single
    passes enter through the cost only, so that one freeze does not make drafts look cheap.

    Args:
        cost: what a pass costs; shared with whoever feeds it.
    """

    def __init__(self, cost: PassCost) -> None:
        self._cost = cost
        self._mean_rows = 0.0
        self._mean_tokens = 0.0

    @property
    def price(self) -> float:
        """The least value of a node that is worth a row, in [0, 1]; 0 while nothing is known."""
        time = self._cost.seconds(self._mean_rows)
        if not time:
            return 0.0
        return min(1.0, self._cost.row_s * self._mean_tokens / time)

    @property
    def doubt(self) -> float:
        """Standard deviation of the price, for not knowing what a row costs."""
        return self._cost.row_doubt(self._mean_rows)

    def observe(self, num_rows: int, num_tokens: float) -> None:
        """Learn from a pass; one that commits nothing (all prefill) says nothing of the rate."""
        if not num_tokens:
            return
        weight = 1 / _MEMORY_PASSES if self._mean_tokens else 1.0
        self._mean_rows += weight * (num_rows - self._mean_rows)
        self._mean_tokens += weight * (num_tokens - self._mean_tokens)
