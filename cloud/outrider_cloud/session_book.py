"""Which sessions run and which wait for room; who is let in next, and who is turned away.

A new session waits until it is started; one that has to make room waits again, before all others
of its tenant. Between tenants, the one with the fewest running sessions is next. Where all places
are taken, a tenant that has many gives one that still waits to a tenant that has few. May be used
from any thread. Knows nothing of pages, passes or tokens.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from outrider_cloud.session import VerifierSession
from outrider_common.errors import CapacityError

_SHORTEST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 30.0
_SMOOTHING: Final = 0.2


class SessionBook:
    """Running and waiting sessions.

    Args:
        max_running: sessions that run at the same time.
        max_waiting: sessions that wait at most; further ones are turned away.
        clock: seconds, monotonic.
    """

    def __init__(
        self, max_running: int, max_waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}  # of the sessions that are there, in order of opening
        self._num_opened = 0
        self._running = _Line(self._numbers)
        self._waiting: dict[str, _Line] = {}  # of each tenant that has any
        self._num_running_of: Counter[str] = Counter()
        self._leaving: Counter[str] = Counter()  # of each tenant, those that give way
        self._left_at = clock()
        self._seconds_per_place = _SHORTEST_RETRY_S

    @property
    def running(self) -> list[VerifierSession]:
        """The sessions that run, in the order in which they were opened."""
        with self._lock:
            return list(self._running)

    @property
    def waiting(self) -> list[VerifierSession]:
        """The sessions that wait, those of one tenant in the order in which they were opened."""
        with self._lock:
            return [session for line in self._waiting.values() for session in line]

    @property
    def num_running(self) -> int:
        """How many sessions run."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """How many sessions wait."""
        return len(self) - self.num_running

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, session: VerifierSession) -> bool:
        return session.session_id in self._numbers

    def running_by_id(self, session_id: str) -> VerifierSession:
        """A session that runs."""
        return self._running[session_id]

    def is_running(self, session: VerifierSession) -> bool:
        """Whether a session runs."""
        return session in self._running

    def join(self, session: VerifierSession) -> None:
        """A new session waits; another one may have to give way (`VerifierSession.turned_away`).

        Raises:
            CapacityError: too many wait already; it says when to try again.
        """
        with self._lock:
            if len(self) - self._leaving.total() >= self._max_running + self._max_waiting:
                self._make_place(session.tenant)
            self._num_opened += 1
            self._numbers[session.session_id] = self._num_opened
            self._wait(session)

    def next_to_start(self) -> VerifierSession | None:
        """The waiting session whose turn it is, if one more may run."""
        with self._lock:
            if not self._waiting or self.num_running >= self._max_running:
                return None
            tenant = min(self._waiting, key=self._num_running_of.__getitem__)
            return next(iter(self._waiting[tenant]))

    def start(self, session: VerifierSession) -> None:
        """A waiting session runs."""
        with self._lock:
            self._wait_no_more(session)
            self._running.add(session)
            self._num_running_of[session.tenant] += 1

    def suspend(self, session: VerifierSession) -> None:
        """A running session waits."""
        with self._lock:
            self._run_no_more(session)
            self._wait(session)

    def leave(self, session: VerifierSession) -> None:
        """A session has ended; harmless if it has left already."""
        with self._lock:
            if session.session_id not in self._numbers:
                return
            if session in self._running:
                self._run_no_more(session)
            else:
                self._wait_no_more(session)
            del self._numbers[session.session_id]
            if session.turned_away is not None:
                self._leaving[session.tenant] -= 1
            now = self._clock()
            self._seconds_per_place += _SMOOTHING * (now - self._left_at - self._seconds_per_place)
            self._left_at = now

    def _make_place(self, tenant: str) -> None:
        """Let the youngest that waits of the tenant with the most places give way to a newcomer."""
        donor = max(self._waiting, key=self._num_places_of, default=tenant)
        line = self._waiting.get(donor, _Line(self._numbers))
        staying = (one for one in reversed(line) if one.turned_away is None and not one.has_run)
        victim = next(staying, None)
        if victim is None or self._num_places_of(donor) < self._num_places_of(tenant) + 2:
            raise self._full()
        victim.turn_away(self._full())
        self._leaving[donor] += 1

    def _num_places_of(self, tenant: str) -> int:
        num_waiting = len(self._waiting.get(tenant, ()))
        return self._num_running_of[tenant] + num_waiting - self._leaving[tenant]

    def _full(self) -> CapacityError:
        return CapacityError(
            f"All {self._max_running + self._max_waiting} places of this verifier are taken "
            f"({self.num_running} sessions run, {self.num_waiting} wait); try again later, or "
            "raise verifier.max_sessions or verifier.max_waiting_sessions.",
            retry_after_s=self._retry_after_s(),
        )

    def _wait(self, session: VerifierSession) -> None:
        self._waiting.setdefault(session.tenant, _Line(self._numbers)).add(session)

    def _wait_no_more(self, session: VerifierSession) -> None:
        line = self._waiting[session.tenant]
        line.remove(session)
        if not len(line):
            del self._waiting[session.tenant]

    def _run_no_more(self, session: VerifierSession) -> None:
        self._running.remove(session)
        self._num_running_of[session.tenant] -= 1
        if not self._num_running_of[session.tenant]:
            del self._num_running_of[session.tenant]

    def _retry_after_s(self) -> float:
        """By when a place should be free: once for each that waits, a session has to end."""
        expected = self._seconds_per_place * max(self.num_waiting, 1)
        return min(max(expected, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)


class _Line:
    """Sessions in the order of their numbers.

    Args:
        numbers: of all sessions, by id.
    """

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self._sessions: dict[str, VerifierSession] = {}

    def add(self, session: VerifierSession) -> None:
        last = next(reversed(self._sessions), None)
        self._sessions[session.session_id] = session
        if last is not None and self._numbers[last] > self._numbers[session.session_id]:
            ids = sorted(self._sessions, key=self._numbers.__getitem__)
            self._sessions = {one: self._sessions[one] for one in ids}

    def remove(self, session: VerifierSession) -> None:
        del self._sessions[session.session_id]

    def __getitem__(self, session_id: str) -> VerifierSession:
        return self._sessions[session_id]

    def __contains__(self, session: VerifierSession) -> bool:
        return session.session_id in self._sessions

    def __iter__(self) -> Iterator[VerifierSession]:
        return iter(self._sessions.values())

    def __reversed__(self) -> Iterator[VerifierSession]:
        return reversed(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)
