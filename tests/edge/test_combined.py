"""Several proposers in a row."""

from collections.abc import Sequence

from outrider_common.sampling import SamplingParams
from outrider_edge.combined import CombinedFactory
from outrider_edge.proposer import Draft, DraftingTask

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=100)


class Scripted:
    """Its own factory and proposer: drafts one fixed token, or nothing, and counts its calls."""

    def __init__(self, name: str, draft: Draft) -> None:
        self.name = name
        self.draft = draft
        self.num_calls = 0

    def start(self, task: DraftingTask) -> "Scripted":
        return self

    def propose(self, context: Sequence[int], max_tokens: int) -> Draft:
        self.num_calls += 1
        return self.draft


def test_the_first_proposer_with_something_to_say_is_heard() -> None:
    silent = Scripted("silent", Draft())
    cheap = Scripted("cheap", Draft.chain([1], [0.5]))
    dear = Scripted("dear", Draft.chain([2], [0.9]))
    combined = CombinedFactory([silent, cheap, dear]).start(TASK)
    assert combined.propose([9], 4) == cheap.draft
    assert (silent.num_calls, cheap.num_calls, dear.num_calls) == (1, 1, 0)


def test_when_all_are_silent_so_is_the_combination() -> None:
    silent = [Scripted("a", Draft()), Scripted("b", Draft())]
    assert CombinedFactory(silent).start(TASK).propose([9], 4) == Draft()


def test_its_name_lists_the_proposers_in_order() -> None:
    assert CombinedFactory([Scripted("a", Draft()), Scripted("b", Draft())]).name == "a+b"
