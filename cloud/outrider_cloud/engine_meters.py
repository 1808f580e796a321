"""What the engine counts for those who watch it: times, rows, where tokens come from, who got what.

Filled by the engine's thread, a few additions for each session of a pass; read by any other. Knows
nothing of how figures are exported.
"""

from typing import Final

from outrider_cloud.histogram import Histogram
from outrider_cloud.verification import Verdict
from outrider_common.records import TokenOrigin

_SECONDS: Final = tuple(
    milliseconds / 1000
    for milliseconds in (1, 2.5, 5, 10, 20, 40, 80, 150, 300, 600, 1200, 2500, 5000, 10_000, 30_000)
)
_LONG_SECONDS: Final = (*_SECONDS[3:], 60.0, 180.0, 600.0)
_ROWS: Final = tuple(2**power for power in range(14))

MAX_TENANTS: Final = 100
"""So many tenants are counted by name; all others together under `OTHER_TENANTS`."""

OTHER_TENANTS: Final = "other"
NO_TENANT: Final = "anonymous"
"""The label of sessions that nobody has put a name to."""

FAILED: Final = "failed"
"""How a session ended that ended with an error."""

TURNED_AWAY: Final = "turned_away"
"""How a session ended that gave its place to another tenant's before it had run."""

MAX_POSITION: Final = 32
"""Accepted nodes from this place in their pass on are counted together."""


class TenantCounts:
    """What one tenant was given."""

    __slots__ = ("num_rows", "num_sessions", "num_tokens")

    def __init__(self) -> None:
        self.num_sessions = 0
        self.num_rows = 0
        self.num_tokens = 0


class SessionFigures:
    """What is kept of one session until it is over. Times are seconds of one clock.

    Args:
        tenant: for whom it runs.
        num_prompt_tokens: what was given at its opening.
        now: when it was opened.
    """

    __slots__ = (
        "counts",
        "first_token_s",
        "last_told_at",
        "num_checked",
        "num_prompt_tokens",
        "num_tokens",
        "opened_at",
        "tenant",
        "waiting_since",
    )

    def __init__(self, tenant: str, num_prompt_tokens: int, now: float) -> None:
        self.tenant = tenant
        self.num_prompt_tokens = num_prompt_tokens
        self.opened_at = now
        self.waiting_since = now
        self.last_told_at = now
        self.first_token_s: float | None = None
        self.counts: TenantCounts | None = None  # its tenant's, from when it is let in
        self.num_tokens = 0
        self.num_checked = 0


class EngineMeters:
    """All that is counted beside `EngineCounters`; every figure only grows."""

    def __init__(self) -> None:
        self.pass_s = Histogram(_SECONDS)
        self.pass_rows = Histogram(_ROWS)
        self.pass_queue_s = Histogram(_SECONDS)
        self.session_queue_s = Histogram(_LONG_SECONDS)
        self.first_token_s = Histogram(_LONG_SECONDS)
        self.token_gap_s = Histogram(_SECONDS)
        self.time_per_token_s = Histogram(_SECONDS)
        self.session_s = Histogram(_LONG_SECONDS)
        self.num_prompt_tokens = 0
        self.num_tokens_of = dict.fromkeys(TokenOrigin, 0)
        self.num_received_nodes = 0
        self.num_unchecked_nodes = 0
        self.num_turned_away = 0
        self.num_ended: dict[str, int] = {}
        self._accepted_at = [0] * (MAX_POSITION + 1)
        self._tenants: dict[str, TenantCounts] = {}

    def turned_away(self) -> None:
        """A session found no room, not even to wait."""
        self.num_turned_away += 1

    def let_in(self, session: SessionFigures, now: float) -> None:
        """A session runs from now on, for the first time or after it had to make room."""
        self.session_queue_s.observe(now - session.waiting_since)
        if session.counts is None:
            session.counts = self._tenant(session.tenant)
            session.counts.num_sessions += 1
            self.num_prompt_tokens += session.num_prompt_tokens

    def computed(self, num_rows: int, seconds: float) -> None:
        """A pass is over."""
        self.pass_s.observe(seconds)
        self.pass_rows.observe(num_rows)

    def served(self, session: SessionFigures, num_rows: int) -> None:
        """A session has had rows in a pass, for its prompt or for its answer."""
        assert session.counts is not None, "only those who were let in are served"
        session.counts.num_rows += num_rows

    def committed(
        self, session: SessionFigures, verdict: Verdict, num_checked: int, began: float, now: float
    ) -> None:
        """A pass that began at `began` has checked draft nodes of a session and commits tokens."""
        num_tokens = len(verdict.tokens)
        if session.first_token_s is None:
            session.first_token_s = now - session.opened_at
            self.first_token_s.observe(session.first_token_s)
        else:
            self.pass_queue_s.observe(began - session.last_told_at)
            self.token_gap_s.observe(now - session.last_told_at)
        if num_tokens > 1:
            self.token_gap_s.observe(0.0, num_tokens - 1)
        session.last_told_at = now
        session.num_tokens += num_tokens
        session.num_checked += num_checked
        assert session.counts is not None, "only those who were let in are served"
        session.counts.num_tokens += num_tokens
        self._count_origins(verdict, num_tokens)

    def ended(self, session: SessionFigures, how: str, num_nodes: int, now: float) -> None:
        """A session is over.

        Args:
            session: the session.
            how: a finish reason, `FAILED` or `TURNED_AWAY`.
            num_nodes: the draft nodes that its edge has sent.
            now: when.
        """
        self.num_ended[how] = self.num_ended.get(how, 0) + 1
        self.num_received_nodes += num_nodes
        self.num_unchecked_nodes += max(num_nodes - session.num_checked, 0)
        session_s = now - session.opened_at
        self.session_s.observe(session_s)
        if session.num_tokens > 1 and session.first_token_s is not None:
            decoding_s = session.last_told_at - session.opened_at - session.first_token_s
            self.time_per_token_s.observe(decoding_s / (session.num_tokens - 1))

    def accepted_per_position(self) -> list[int]:
        """How many nodes were accepted at each place in their pass, from 0; to the last with any.

        A pass that accepts n nodes accepts one at each of the places 0 to n - 1.
        """
        passes = list(self._accepted_at)
        sums = [sum(passes[place + 1 :]) for place in range(MAX_POSITION)]
        return [count for count in sums if count]

    def tenants(self) -> dict[str, TenantCounts]:
        """Each tenant by the name that it is shown under."""
        return dict(self._tenants)

    def _count_origins(self, verdict: Verdict, num_tokens: int) -> None:
        self._accepted_at[min(verdict.num_accepted, MAX_POSITION)] += 1
        origins = self.num_tokens_of
        origins[TokenOrigin.DRAFTED] += verdict.num_accepted
        origins[TokenOrigin.GUESSED] += verdict.num_guessed
        if num_tokens > verdict.num_accepted + verdict.num_guessed:
            chosen = TokenOrigin.CORRECTED if verdict.is_correction else TokenOrigin.HEDGED
            origins[chosen] += 1

    def _tenant(self, name: str) -> TenantCounts:
        """The counts of a tenant; those who come late share one entry."""
        shown = name or NO_TENANT
        counts = self._tenants.get(shown)
        if counts is None:
            shown = shown if len(self._tenants) < MAX_TENANTS else OTHER_TENANTS
            counts = self._tenants.setdefault(shown, TenantCounts())
        return counts
