"""The scheduler: which sessions the next pass serves, and with how many rows each.

Pure and synchronous: loads in, grants out; its only memory is whose turn it is. Knows nothing of
tensors, trees, sockets or time; waiting is counted in passes.
"""

from collections.abc import Collection, Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from outrider_common.errors import ConfigError

PREFILL_SHARE_DIVISOR: Final = 4
"""While a session has prefill left, one row in so many is kept for prefill."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one session could have computed.

    Attributes:
        key: the session.
        num_uncached: tokens of its text that are not in the KV cache, the frontier included; above
            1 means that prefill is left.
        num_draft_nodes: live draft nodes that could be checked.

    Raises:
        ValueError: `num_uncached` below 1 or `num_draft_nodes` below 0.
    """

    key: Hashable
    num_uncached: int
    num_draft_nodes: int

    def __post_init__(self) -> None:
        if self.num_uncached < 1:
            raise ValueError(
                f"num_uncached is {self.num_uncached}; it counts the frontier, so it is at least 1"
            )
        if self.num_draft_nodes < 0:
            raise ValueError(f"num_draft_nodes is {self.num_draft_nodes}; it must not be negative")

    @property
    def num_prefill_tokens(self) -> int:
        """Uncached tokens before the frontier; a session is decoding when there are none."""
        return self.num_uncached - 1


@dataclass(frozen=True, slots=True)
class Grant:
    """What one session gets in the next pass: a chunk of prefill, or its frontier and drafts.

    Attributes:
        key: the session.
        prefill_tokens: uncached tokens to compute, a row each. Where this is 0, the session gets
            its frontier row and up to `max_nodes` draft rows on top of it.
        max_nodes: draft nodes that it may check; 0 beside prefill.
    """

    key: Hashable
    prefill_tokens: int
    max_nodes: int


class Scheduler(Protocol):
    """Chooses what a pass computes. One call a pass; what is granted counts as served."""

    def schedule(self, loads: Sequence[Load]) -> list[Grant]:
        """Grant rows of the next pass.

        Args:
            loads: one for each open session, in the order in which they were opened; no key twice.

        Returns:
            At most one grant a session, in the order of `loads`; none only if there are no loads.
        """
        ...


class TurnScheduler:
    """One session a pass, in strict turn; newcomers join at the end. The plain reference.

    With N sessions there, every one of them is granted within N passes.

    Args:
        max_nodes: draft nodes in a pass at most; 0 for plain decoding.
        prefill_chunk_tokens: tokens of prefill in a pass at most.

    Raises:
        ConfigError: an argument is too small.
    """

    def __init__(self, max_nodes: int, prefill_chunk_tokens: int) -> None:
        self._max_nodes = _at_least(0, "max_nodes", max_nodes)
        self._chunk = _at_least(1, "prefill_chunk_tokens", prefill_chunk_tokens)
        self._turns = _Turns()

    def schedule(self, loads: Sequence[Load]) -> list[Grant]:
        """Grant one session a pass; see `Scheduler.schedule`."""
        present = {load.key: load for load in loads}
        self._turns.meet(present)
        return [self._grant(present[key]) for key in self._turns.take(1, present)]

    def _grant(self, load: Load) -> Grant:
        if load.num_prefill_tokens:
            return Grant(load.key, min(load.num_prefill_tokens, self._chunk), 0)
        return Grant(load.key, 0, min(load.num_draft_nodes, self._max_nodes))


class PackingScheduler:
    """Packs many sessions into one pass of at most `rows_per_pass` rows (B below).

    1. While somebody has prefill left, a quarter of the rows is kept for prefill (or what it can
       use, if that is less); fractions of a row are carried over to the next pass.
    2. Every decoding session gets its frontier row; if they do not all fit, those that have waited
       longest.
    3. Draft rows are shared out max-min fairly: a session that wants more has at most one fewer
       than any other. Odd rows go round in turn.
    4. Prefill gets what is left, sessions in the order of opening.

    No row stays empty that a session could use. No session starves:

    - a decoding session that starts to wait as one of N decoding ones is granted within
      ceil(4 N / 3 B) passes, whoever arrives later;
    - a session that starts to wait for prefill while W tokens of prefill are left in sessions
      opened before it is granted within ceil(4 (W + 1) / B) passes.

    Args:
        rows_per_pass: rows in a pass at most.
        max_nodes_per_session: draft nodes of one session in a pass at most; 0 for plain decoding.
        prefill_chunk_tokens: tokens of prefill of one session in a pass at most.

    Raises:
        ConfigError: an argument is too small.
    """

    def __init__(
        self, rows_per_pass: int, max_nodes_per_session: int, prefill_chunk_tokens: int
    ) -> None:
        self._rows = _at_least(1, "rows_per_pass", rows_per_pass)
        self._max_nodes = _at_least(0, "max_nodes_per_session", max_nodes_per_session)
        self._chunk = _at_least(1, "prefill_chunk_tokens", prefill_chunk_tokens)
        self._carried = 0  # rows owed to prefill, in units of 1 / PREFILL_SHARE_DIVISOR
        self._frontier_turns = _Turns()
        self._odd_row_turns = _Turns()

    def schedule(self, loads: Sequence[Load]) -> list[Grant]:
        """Grant rows to as many sessions as fit; see `Scheduler.schedule`."""
        prefilling = [load for load in loads if load.num_prefill_tokens]
        wants = {
            load.key: min(load.num_draft_nodes, self._max_nodes)
            for load in loads
            if not load.num_prefill_tokens
        }
        nodes = self._decode(wants, self._rows - self._reserve(prefilling))
        prefill = self._prefill(prefilling, self._rows - len(nodes) - sum(nodes.values()))
        grants = {key: Grant(key, 0, max_nodes) for key, max_nodes in nodes.items()}
        grants.update((grant.key, grant) for grant in prefill)
        return [grants[load.key] for load in loads if load.key in grants]

    def _reserve(self, prefilling: Sequence[Load]) -> int:
        """Rows that decoding must leave to prefill in this pass."""
        if not prefilling:
            return 0
        share, self._carried = divmod(self._carried + self._rows, PREFILL_SHARE_DIVISOR)
        return min(share, sum(min(load.num_prefill_tokens, self._chunk) for load in prefilling))

    def _decode(self, wants: Mapping[Hashable, int], budget: int) -> dict[Hashable, int]:
        """For each decoding session that is served, how many draft nodes it gets."""
        self._frontier_turns.meet(wants)
        self._odd_row_turns.meet(wants)
        served = self._frontier_turns.take(budget, wants)
        return self._share({key: wants[key] for key in served}, budget - len(served))

    def _share(self, wants: Mapping[Hashable, int], budget: int) -> dict[Hashable, int]:
        """Max-min fair shares of `budget` rows."""
        level = _water_level(wants.values(), budget)
        shares = {key: min(want, level) for key, want in wants.items()}
        hungry = {key for key, want in wants.items() if want > level}
        for key in self._odd_row_turns.take(budget - sum(shares.values()), hungry):
            shares[key] += 1
        return shares

    def _prefill(self, prefilling: Sequence[Load], budget: int) -> Iterator[Grant]:
        for load in prefilling:
            tokens = min(load.num_prefill_tokens, self._chunk, budget)
            if not tokens:
                return
            budget -= tokens
            yield Grant(load.key, tokens, 0)


class _Turns:
    """Whose turn it is: whoever was served longest ago; newcomers come last."""

    def __init__(self) -> None:
        self._queue: dict[Hashable, None] = {}

    def meet(self, present: Collection[Hashable]) -> None:
        """Forget those who have left, and line up those who are new."""
        staying = (key for key in self._queue if key in present)
        self._queue = dict.fromkeys(staying) | dict.fromkeys(present)

    def take(self, count: int, eligible: Container[Hashable]) -> list[Hashable]:
        """Serve the first `count` who are eligible; those go to the end, all others stay."""
        taken = list(islice((key for key in self._queue if key in eligible), count))
        for key in taken:
            del self._queue[key]
            self._queue[key] = None
        return taken


def _water_level(wants: Collection[int], budget: int) -> int:
    """The highest whole level up to which every want can be filled within `budget` rows."""
    num_left = len(wants)
    for want in sorted(wants):
        if want * num_left > budget:
            return budget // num_left
        budget -= want
        num_left -= 1
    return max(wants, default=0)


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise ConfigError(f"{name} is {value}; set it to {least} or more.")
    return value
