"""What the commits of one session tell of the pace of link and verifier."""

import math

import pytest
from fake_guesses import guessed

from outrider_common.messages import Commit
from outrider_edge.estimators import Estimators
from outrider_edge.guess_tree import GuessTree
from outrider_edge.pass_watch import PassWatch


class Told(Estimators):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.intervals: list[float] = []
        self.passes: list[tuple[float, float, int]] = []
        self.bounds: list[tuple[float, float]] = []

    def waited(self, interval_s: float) -> None:
        self.intervals.append(interval_s)

    def passed(self, pass_s: float, queue_s: float, num_rows: int) -> None:
        self.passes.append((pass_s, queue_s, num_rows))

    def arrived(self, at_least_s: float, at_most_s: float) -> None:
        self.bounds.append((at_least_s, at_most_s))

    def came_late(self, at_least_s: float) -> None:
        self.bounds.append((at_least_s, math.inf))


class Watched:
    """A tree, and a watch that sees every commit to it."""

    def __init__(self) -> None:
        self.tree = GuessTree((1, 2))
        self.told = Told()
        self.watch = PassWatch(self.told, self.tree)

    def hang(self, token: int, now_s: float) -> None:
        frontier = self.tree.shared.frontier
        candidate = guessed(token, 0.5)
        self.tree.offer(frontier, [candidate])
        self.tree.hang(frontier, candidate, now_s - 0.05)
        self.tree.take_unsent(now_s)

    def commit(self, token: int, now_s: float, num_accepted: int = 0, num_rows: int = 1) -> None:
        start = self.tree.shared.num_committed
        commit = Commit(
            start, (token,), num_accepted, pass_us=100_000, queue_us=20_000, num_rows=num_rows
        )
        committed, _ = self.tree.commit(start, (token,))
        self.watch.saw(commit, committed, now_s)


def test_the_first_commit_tells_of_its_pass_and_of_no_interval() -> None:
    watched = Watched()
    assert watched.watch.committed_at_s is None
    watched.commit(7, 1.0, num_rows=3)
    assert watched.watch.committed_at_s == 1.0
    assert watched.told.passes == [(0.1, 0.02, 3)]
    assert watched.told.intervals == []


def test_the_time_between_two_commits_is_an_interval() -> None:
    watched = Watched()
    for now_s in (1.0, 1.5, 2.25):
        watched.commit(7, now_s)
    assert watched.told.intervals == [0.5, 0.75]


def test_a_node_that_was_checked_came_between_the_starts_of_two_passes() -> None:
    watched = Watched()
    watched.commit(7, 1.0)  # began at 0.9
    watched.hang(10, now_s=0.8)
    watched.commit(10, 1.5, num_accepted=1)  # began at 1.4
    assert watched.told.bounds == [(pytest.approx(0.1), pytest.approx(0.6))]


def test_a_node_that_was_right_and_not_checked_came_after_the_pass_began() -> None:
    watched = Watched()
    watched.commit(7, 1.0)
    watched.hang(10, now_s=0.8)
    watched.commit(10, 1.5, num_accepted=0)
    assert watched.told.bounds == [(pytest.approx(0.6), math.inf)]


def test_before_the_first_pass_nodes_say_nothing_for_they_waited_for_the_prompt() -> None:
    watched = Watched()
    watched.hang(10, now_s=0.1)
    watched.commit(10, 1.0, num_accepted=1)
    assert watched.told.bounds == []


def test_a_node_that_was_not_sent_says_nothing_of_the_way() -> None:
    watched = Watched()
    watched.commit(7, 1.0)
    candidate = guessed(10, 0.5)
    watched.tree.offer(watched.tree.shared.frontier, [candidate])
    watched.tree.hang(watched.tree.shared.frontier, candidate, 0.8)
    watched.commit(10, 1.5)
    assert watched.told.bounds == []


def test_a_token_that_no_node_carried_says_nothing_of_the_way() -> None:
    watched = Watched()
    watched.commit(7, 1.0)
    watched.hang(10, now_s=0.8)
    watched.commit(99, 1.5)
    assert watched.told.bounds == []


def test_a_commit_without_a_pass_tells_nothing() -> None:
    watched = Watched()
    watched.commit(7, 1.0)
    watched.commit(8, 9.0, num_rows=0)
    assert watched.watch.committed_at_s == 1.0
    watched.commit(9, 2.0)
    assert watched.told.intervals == [1.0]
    assert len(watched.told.passes) == 2
