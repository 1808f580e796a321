"""What the target is asked to write."""

from outrider_distill.assignments import Assignments
from outrider_distill.chat_format import ChatFormat

CHAT = ChatFormat(before=(1, 2), after=(3, 4))
FILES = [[(10,), (11,), (12,)], [(20,)]]


def test_half_of_the_questions_are_its_own_and_files_take_turns() -> None:
    assignments = Assignments(CHAT, FILES, (1.0,), seed=0)
    given = [assignments[number] for number in range(12)]
    assert [one.asks_itself for one in given] == [False, True] * 6
    assert [one.given for one in given if one.asks_itself] == [(1, 2)] * 6
    questions = [one.given[2:-2] for one in given if not one.asks_itself]
    assert questions == [(10,), (20,), (11,), (20,), (12,), (20,)]
    assert given[0].given == (1, 2, 10, 3, 4)


def test_a_file_at_its_end_begins_again_with_another_seed() -> None:
    assignments = Assignments(CHAT, [[(10,)]], (1.0,), seed=0)
    first, second = assignments[0], assignments[2]
    assert first.given == second.given
    assert first.sampling.seed != second.sampling.seed


def test_without_files_all_questions_are_its_own() -> None:
    assignments = Assignments(CHAT, [], (1.0, 0.0), seed=0)
    assert all(assignments[number].asks_itself for number in range(9))
    assert [assignments[number].sampling.temperature for number in range(4)] == [1, 0, 1, 0]


def test_every_second_question_of_its_own_begins_as_given() -> None:
    openings = [(30, 31), (40,)]
    alone = Assignments(CHAT, [], (1.0,), seed=0, openings=openings)
    given = [alone[number] for number in range(6)]
    assert all(one.asks_itself for one in given)
    begins = [(1, 2), (1, 2, 30, 31), (1, 2), (1, 2, 40), (1, 2), (1, 2, 30, 31)]
    assert [one.given for one in given] == begins
    beside_files = Assignments(CHAT, FILES, (1.0,), seed=0, openings=openings)
    own = [beside_files[number] for number in range(1, 13, 2)]
    assert [one.given for one in own] == begins
    assert not any(beside_files[number].asks_itself for number in range(0, 12, 2))


def test_the_seed_of_the_run_decides_that_of_every_text() -> None:
    runs = [Assignments(CHAT, [], (1.0,), seed=seed) for seed in (0, 0, 1)]
    seeds = [tuple(run[number].sampling.seed for number in range(50)) for run in runs]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0] + seeds[2])) == 100
