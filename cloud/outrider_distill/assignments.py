"""What the target is asked to write, sample by sample: a pure function of the sample's number.

So writing can stop anywhere, and more can be written later. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outrider_common.sampling import SamplingParams
from outrider_distill.chat_format import ChatFormat


@dataclass(frozen=True, slots=True)
class Assignment:
    """One sample to write.

    Attributes:
        given: the tokens that it begins with.
        asks_itself: the user's turn is yet to be written, or to be gone on with.
        sampling: how the answer is sampled; a question is always sampled as the target means it.
        most_tokens: of the text, if that is less than what the writer allows; None: that.
    """

    given: tuple[int, ...]
    asks_itself: bool
    sampling: SamplingParams
    most_tokens: int | None = None


class Assignments:
    """All samples of a run: given questions and those of the target take turns.

    Args:
        chat: how the target's template frames a question.
        files: the tokens of the questions of each prompt file, none empty; there may be no file.
        temperatures: of the answers, in turn.
        seed: of the run.
        openings: tokens with which every second question of the target begins; there may be none.
    """

    def __init__(
        self,
        chat: ChatFormat,
        files: Sequence[Sequence[tuple[int, ...]]],
        temperatures: Sequence[float],
        seed: int,
        openings: Sequence[tuple[int, ...]] = (),
    ) -> None:
        self._chat = chat
        self._files = files
        self._openings = openings
        self._temperatures = temperatures
        self._seed = seed

    def __getitem__(self, number: int) -> Assignment:
        """The sample of this number, of which there is no end."""
        index, asks_itself = divmod(number, 2) if self._files else (number, 1)
        sampling = SamplingParams(
            temperature=self._temperatures[number % len(self._temperatures)],
            seed=_seed_of(self._seed, number),
        )
        if asks_itself:
            return Assignment((*self._chat.before, *self._opening(index)), True, sampling)
        return Assignment(self._chat.framed(self._question(index)), False, sampling)

    def _question(self, index: int) -> tuple[int, ...]:
        """The files take turns; whoever is at its end begins again."""
        turn, which = divmod(index, len(self._files))
        file = self._files[which]
        return file[turn % len(file)]

    def _opening(self, index: int) -> tuple[int, ...]:
        """How the target's own question of this number begins."""
        turn, is_opened = divmod(index, 2)
        if not (self._openings and is_opened):
            return ()
        return self._openings[turn % len(self._openings)]


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])
