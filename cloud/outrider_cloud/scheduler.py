"""The scheduler: which sessions the next pass serves, with how many rows each, and what drafts are
worth to it.

Pure and synchronous: loads and outcomes in, grants and an offer out. Its only memory is whose turn
it is and what passes cost. Knows nothing of tensors, trees, sockets or clocks.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np

from outrider_cloud.fair_share import TenantShare, Turns
from outrider_cloud.pass_cost import NodePrice, PassCost
from outrider_common.errors import ConfigError

PREFILL_SHARE_DIVISOR: Final = 4
"""While a session has prefill left, one row in so many is kept for prefill."""

MAX_PRICE_DOUBT: Final = 0.07
"""Standard deviation of the price from which on an experiment is worth its while."""

PASSES_PER_EXPERIMENT: Final = 64
"""At most one pass in so many is an experiment."""

NOTHING_IS_WORTH_IT: Final = math.inf
"""As the least value of a node that is checked: none is."""

PASSES_AHEAD: Final = 2
"""For how many passes an edge may have nodes outstanding: one that runs, one that is to come."""


@dataclass(slots=True)
class Load:
    """What one session could have computed. Not frozen: that takes three times as long to make.

    Attributes:
        key: the session.
        num_uncached: tokens of its text that are not in the KV cache, the frontier included; above
            1 means that prefill is left.
        node_values: for each live draft node that could be checked, in the order in which the
            session would plan them, the estimated chance that it is committed, in [0, 1].
        tenant: who pays for it; rows are shared out between tenants first.
        waiting_s: for how long the session could have run.
        expects_drafts: whether its edge drafts, so that more nodes may arrive soon.
        holds_off_s: for how long still it is not to be decoded, because it asked to wait for
            drafts whatever the policy.

    Raises:
        ValueError: `num_uncached` below 1, a value that is no chance, or a negative time.
    """

    key: Hashable
    num_uncached: int
    node_values: Sequence[float] = ()
    tenant: Hashable = ""
    waiting_s: float = 0.0
    expects_drafts: bool = False
    holds_off_s: float = 0.0

    def __post_init__(self) -> None:
        if self.num_uncached < 1:
            raise ValueError(
                f"num_uncached is {self.num_uncached}; it counts the frontier, so it is at least 1"
            )
        if not _are_chances(self.node_values):
            value = next(value for value in self.node_values if not 0 <= value <= 1)
            raise ValueError(f"a node value is {value}; it is a chance, so within 0 and 1")
        if not (self.waiting_s >= 0 and self.holds_off_s >= 0):
            raise ValueError(
                f"waiting_s is {self.waiting_s} and holds_off_s is {self.holds_off_s}; neither "
                "must be negative"
            )

    @property
    def num_prefill_tokens(self) -> int:
        """Uncached tokens before the frontier; a session is decoding when there are none."""
        return self.num_uncached - 1

    def num_worthy(self, price: float, most: int) -> int:
        """How many nodes may be checked, up to `most`: those before the first below the price.

        Plan the most valuable first, and none that is worth its row is left out.
        """
        candidates = self.node_values[:most]
        for index, value in enumerate(candidates):
            if value < price:
                return index
        return len(candidates)


class Grant(NamedTuple):
    """What one session gets in the next pass: a chunk of prefill, or its frontier and drafts.

    Attributes:
        key: the session.
        prefill_tokens: uncached tokens to compute, a row each. Where this is 0, the session gets
            its frontier row and up to `max_nodes` draft rows on top of it.
        max_nodes: draft nodes that it may check, the first of its `node_values`; 0 beside prefill.
    """

    key: Hashable
    prefill_tokens: int
    max_nodes: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the next pass computes.

    Attributes:
        grants: at most one a session, in the order of the loads.
        wait_s: only without grants: nothing is worth running now; look again after this time, or
            when something changes. None where there are grants, or no loads.
    """

    grants: list[Grant]
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What an edge should know of the load.

    Attributes:
        credit: draft nodes that a session may have outstanding.
        price: a node is worth a row if its chance of being committed is at least this; in [0, 1].
    """

    credit: int
    price: float


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """What a pass took and gave.

    Attributes:
        num_rows: rows that it computed, at least 1.
        num_tokens: tokens that it committed, of all sessions.
        seconds: how long it took, above 0.
    """

    num_rows: int
    num_tokens: int
    seconds: float


class Scheduler(Protocol):
    """Chooses what a pass computes. One call a pass; what is granted counts as served."""

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        """Grant rows of the next pass.

        Args:
            loads: one for each open session, in the order in which they were opened; no key twice.
        """
        ...

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Take what was measured, rows and seconds, for how long passes take."""
        ...

    def observe(self, outcome: PassOutcome) -> None:
        """Learn what a pass took, after it ran."""
        ...

    @property
    def offer(self) -> Offer:
        """Credit and price, as of the last call of `schedule` or `observe`."""
        ...


class TurnScheduler:
    """One session a pass, in strict turn; newcomers join at the end. The plain reference.

    With N sessions there, every one of them is granted within N passes. Draft nodes are checked
    whatever they are worth.

    Args:
        max_nodes: draft nodes in a pass at most; 0 for plain decoding.
        prefill_chunk_tokens: tokens of prefill in a pass at most.
        max_credit: draft nodes that a session may have outstanding; as `max_nodes` if None.

    Raises:
        ConfigError: an argument is too small.
    """

    def __init__(
        self, max_nodes: int, prefill_chunk_tokens: int, max_credit: int | None = None
    ) -> None:
        self._max_nodes = _at_least(0, "max_nodes", max_nodes)
        self._chunk = _at_least(1, "prefill_chunk_tokens", prefill_chunk_tokens)
        credit = max_nodes if max_credit is None else _at_least(0, "max_credit", max_credit)
        self._offer = Offer(credit, 0.0)
        self._turns = Turns()

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        """Grant one session a pass; see `Scheduler.schedule`."""
        present = {load.key: load for load in loads}
        self._turns.meet(present)
        waits = {key: load.holds_off_s for key, load in present.items() if load.holds_off_s}
        ready = present.keys() - waits.keys()
        grants = [self._grant(present[key]) for key in self._turns.take(1, ready)]
        return Schedule(grants, None if grants else min(waits.values(), default=None))

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Costs do not matter here."""

    def observe(self, outcome: PassOutcome) -> None:
        """Learn nothing: turns do not depend on what passes cost."""

    @property
    def offer(self) -> Offer:
        """The same under any load."""
        return self._offer

    def _grant(self, load: Load) -> Grant:
        if load.num_prefill_tokens:
            return Grant(load.key, min(load.num_prefill_tokens, self._chunk), 0)
        return Grant(load.key, 0, min(len(load.node_values), self._max_nodes))


class SchedulingPolicy(StrEnum):
    """What becomes of a session that has no draft node worth a row."""

    LATENCY = "latency"
    """It is decoded at once (hedged), while rows are free."""

    THROUGHPUT = "throughput"
    """It waits for drafts, up to a bound: a pass gives it more tokens then."""


@dataclass(frozen=True, slots=True)
class PackingLimits:
    """What a `PackingScheduler` keeps to.

    Attributes:
        rows_per_pass: rows in a pass at most.
        max_nodes_per_session: draft nodes of one session in a pass at most; 0 for plain decoding.
        prefill_chunk_tokens: tokens of prefill of one session in a pass at most.
        max_credit: draft nodes that a session may ever have outstanding.
        max_draft_wait_s: for how long a session may wait for drafts, under the throughput policy.
        max_pass_s: how long prefill may make a pass while others decode.

    Raises:
        ConfigError: one of them is too small.
    """

    rows_per_pass: int
    max_nodes_per_session: int
    prefill_chunk_tokens: int
    max_credit: int
    max_draft_wait_s: float
    max_pass_s: float = math.inf

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 1 if field.name in ("rows_per_pass", "prefill_chunk_tokens") else 0
            _at_least(least, field.name, getattr(self, field.name))


class PackingScheduler:
    """Packs many sessions into one pass of at most `rows_per_pass` rows (B below).

    1. While somebody has prefill left, a quarter of the rows is kept for prefill (or what it can
       use, if that is less); fractions of a row are carried over to the next pass.
    2. Every decoding session gets its frontier row, as far as the other rows go. Under the
       throughput policy one that has no worthy draft node but expects some is passed over until it
       has waited for `max_draft_wait_s`, and under any policy one that holds off (`holds_off_s`);
       not while there is no credit, for then none can come.
    3. Prefill gets the rows that are left, up to a chunk for each session. While somebody decodes
       it leaves a pass room for the frontiers and all worthy drafts within `max_pass_s`, but never
       gets less than its quarter: a long prompt slows others down, but does not stop them, nor
       they it.
    4. Draft rows get the rest. Drafts are refused first, and only nodes that raise the expected
       rate of tokens are checked at all: with a measured curve of what passes take, the most
       valuable ones up to the number with which the rate of this pass is largest; without one,
       those that are worth the price (`NodePrice`).

    Where all passes have the same rows nobody can tell what a row costs, and a price that is too
    low would keep them the same. So while the price is in doubt, one pass in 64 at most is an
    experiment without drafts; it costs less than 1 token in 64.

    Each of the three is shared out max-min fairly between tenants, and each tenant's part between
    its sessions (`TenantShare`): a tenant gets as much with one session as with a thousand, as far
    as that one can use it. No row stays empty that a session could use for something worth it,
    except for prefill that would make the pass too long. No session starves. Of a session that
    starts to wait as one of N of its tenant (those that wait for drafts included), while there are
    never more than T tenants in the same state:

    - a decoding one is granted within ceil(4 N T / 3 B) passes, whoever arrives later (from when it
      has waited for drafts, where it has to);
    - one that has prefill left is granted within ceil(4 N T / B) passes.

    For B rows are split into reserve and rest such that k passes leave floor(k B / 4) to prefill
    and k B - ceil(k B / 4) to decoding, at least; by `MaxMinShare` a tenant gets at least one T-th
    of either, rounded down; and within a tenant every row goes to another session, in turn.

    The credit is max_credit while rows are ample. With D decoding sessions, each can hope for
    (B - D) / D draft rows in a pass; an edge may have twice that outstanding (rounded up), so that
    the next pass finds nodes that were drafted while this one ran. More would only grow stale in
    the queue, and be sent in vain. It is 0 where the frontiers fill the pass, and where the price
    is 1.

    Args:
        limits: how much fits.
        policy: what becomes of a session without worthy drafts.
        cost: what passes cost; a fresh estimate if None. It is fed by `observe`.
    """

    def __init__(
        self,
        limits: PackingLimits,
        policy: SchedulingPolicy = SchedulingPolicy.LATENCY,
        cost: PassCost | None = None,
    ) -> None:
        self._limits = limits
        self._policy = policy
        self._cost = cost or PassCost()
        self._price = NodePrice(self._cost)
        self._num_decoding = 0
        self._passes_to_experiment = 0
        self._carried = 0  # rows owed to prefill, in units of 1 / PREFILL_SHARE_DIVISOR
        self._frontier_share = TenantShare()
        self._prefill_share = TenantShare()
        self._draft_share = TenantShare()

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        """Grant rows to as many sessions as fit; see `Scheduler.schedule`."""
        tenant_of = {load.key: load.tenant for load in loads}
        decoding = {load.key: load for load in loads if not load.num_prefill_tokens}
        prompts = {load.key: self._chunk(load) for load in loads if load.num_prefill_tokens}
        self._num_decoding = len(decoding)
        drafts = self._worthy_drafts(decoding, sum(prompts.values()))
        waits = self._waits(decoding, drafts)
        if any(drafts.values()) and self._begins_experiment():
            drafts = dict.fromkeys(drafts, 0)

        reserve = self._reserve(sum(prompts.values()))
        wants = {key: int(key not in waits) for key in decoding}
        budget = self._limits.rows_per_pass
        frontiers = self._frontier_share.share(wants, tenant_of, budget - reserve)

        budget -= sum(frontiers.values())  # where a frontier is left out, prefill takes all of it
        room = self._prefill_room(reserve, sum(frontiers.values()) + sum(drafts.values()))
        prefill = self._prefill_share.share(prompts, tenant_of, min(budget, room))
        nodes = self._draft_share.share(drafts, tenant_of, budget - sum(prefill.values()))

        served = (load.key for load in loads if frontiers.get(load.key) or prefill.get(load.key))
        grants = [Grant(key, prefill.get(key, 0), nodes.get(key, 0)) for key in served]
        return Schedule(grants, None if grants else min(waits.values(), default=None))

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Take what was measured for how long passes take; see `PassCost.calibrate`."""
        self._cost.calibrate(points)

    def observe(self, outcome: PassOutcome) -> None:
        """Learn what a pass took; see `Scheduler.observe`."""
        self._cost.observe(outcome.num_rows, outcome.seconds)
        self._price.observe(outcome.num_rows, outcome.num_tokens)

    @property
    def offer(self) -> Offer:
        """Credit and price under the present load."""
        price = self._least_price() if self._cost.is_calibrated else self._price.price
        return Offer(self._credit() if price < 1 else 0, price)

    def _least_price(self) -> float:
        """What a node must be worth to join a pass of frontiers, where rows are cheapest.

        Which of several nodes are checked is decided when all are there (`_least_worthy`).
        """
        num_rows = max(self._num_decoding, 1)
        row_s = self._cost.cheapest_row_s(num_rows)
        return min(1.0, row_s * num_rows / self._cost.seconds(num_rows))

    def _credit(self) -> int:
        if not self._num_decoding:
            return self._limits.max_credit
        num_left = max(0, self._limits.rows_per_pass - self._num_decoding)
        return min(self._limits.max_credit, _ceil_div(PASSES_AHEAD * num_left, self._num_decoding))

    def _worthy_drafts(
        self, decoding: Mapping[Hashable, Load], num_prompt_tokens: int
    ) -> dict[Hashable, int]:
        """How many draft nodes of each session are worth a row, beside prompts of such a length."""
        most = self._limits.max_nodes_per_session
        if self._cost.is_calibrated:
            num_kept = self._limits.rows_per_pass // PREFILL_SHARE_DIVISOR
            num_others = len(decoding) + min(num_prompt_tokens, num_kept)
            price = self._least_worthy(decoding.values(), num_others)
        else:
            price = self._price.price
        return {key: load.num_worthy(price, most) for key, load in decoding.items()}

    def _least_worthy(self, decoding: Collection[Load], num_others: int) -> float:
        """The value of the last node that still makes this pass yield more tokens a second.

        With the k most valuable nodes a pass of D frontiers and P rows of prompts is expected to
        commit D + v1 + ... + vk tokens in seconds(D + P + k): taken is the k for which that rate
        is the largest.

        Args:
            decoding: the sessions that decode, D of them.
            num_others: D + P.
        """
        most = self._limits.max_nodes_per_session
        values = np.sort([value for load in decoding for value in load.node_values[:most]])[::-1]
        tokens = len(decoding) + np.concatenate([[0.0], np.cumsum(values)])
        rows = np.arange(num_others, num_others + len(tokens))
        rates = tokens / self._cost.all_seconds(np.maximum(rows, 1))
        rates[1:-1][values[:-1] == values[1:]] = 0.0  # equal ones are taken together, or none is
        best = int(rates.argmax())
        return float(values[best - 1]) if best else NOTHING_IS_WORTH_IT

    def _begins_experiment(self) -> bool:
        """Whether this pass should do without drafts, to learn what their rows cost."""
        self._passes_to_experiment = max(0, self._passes_to_experiment - 1)
        if self._passes_to_experiment or self._price.doubt <= MAX_PRICE_DOUBT:
            return False
        self._passes_to_experiment = PASSES_PER_EXPERIMENT
        return True

    def _waits(
        self, decoding: Mapping[Hashable, Load], drafts: Mapping[Hashable, int]
    ) -> dict[Hashable, float]:
        """For each session that should wait for drafts, for how long still, in seconds."""
        if not self.offer.credit:
            return {}
        holding = {key: load.holds_off_s for key, load in decoding.items() if load.holds_off_s}
        if self._policy is SchedulingPolicy.LATENCY:
            return holding
        most = self._limits.max_draft_wait_s
        waiting = {
            key: most - load.waiting_s
            for key, load in decoding.items()
            if load.expects_drafts and not drafts[key] and load.waiting_s < most
        }
        return waiting | holding

    def _chunk(self, load: Load) -> int:
        return min(load.num_prefill_tokens, self._limits.prefill_chunk_tokens)

    def _reserve(self, wanted: int) -> int:
        """Rows that decoding must leave to prefill in this pass, which wants so many."""
        if not wanted:
            return 0
        owed = self._carried + self._limits.rows_per_pass
        share, self._carried = divmod(owed, PREFILL_SHARE_DIVISOR)
        return min(share, wanted)

    def _prefill_room(self, reserve: int, num_decoding_rows: int) -> int:
        """Rows of prefill that do not make the pass too long for those who decode."""
        if not self._num_decoding:
            return self._limits.rows_per_pass
        most = num_decoding_rows + self._limits.rows_per_pass
        num_rows = self._cost.rows_within(self._limits.max_pass_s, most)
        return max(reserve, num_rows - num_decoding_rows)


def _are_chances(values: Sequence[float]) -> bool:
    """Whether all lie within 0 and 1; also a sum of NaN is not small enough."""
    return not values or (min(values) >= 0 and max(values) <= 1 and sum(values) <= len(values))


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


_Number = TypeVar("_Number", int, float)


def _at_least(least: int, name: str, value: _Number) -> _Number:
    if not value >= least:  # also where it is NaN
        raise ConfigError(f"{name} is {value}; set it to {least} or more.")
    return value
