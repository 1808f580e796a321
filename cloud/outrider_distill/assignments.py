"""What the target is asked to write, sample by sample: a pure function of the sample's number.

So writing can stop anywhere, and more can be written later. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from outrider_common.sampling import SamplingParams
from outrider_distill.chat_format import ChatFormat

OWN_PROMPT_SHARE: Final = 0.5
"""Of the samples, beside prompts that are given: the target writes the question, too."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One sample to write.

    Attributes:
        given: the tokens that it begins with.
        asks_itself: the user's turn is yet to be written.
        sampling: how the answer is sampled; a question is always sampled as the target means it.
        most_tokens: of the text, if that is less than what the writer allows; None: that.
    """

    given: tuple[int, ...]
    asks_itself: bool
    sampling: SamplingParams
    most_tokens: int | None = None


class Assignments:
    """All samples of a run.

    Args:
        chat: how the target's template frames a question.
        files: the tokens of the questions of each prompt file, none empty; there may be no file.
        temperatures: of the answers, in turn.
        seed: of the run.
        own_share: the share of samples for which the target writes the question; 1 without files.
    """

    def __init__(
        self,
        chat: ChatFormat,
        files: Sequence[Sequence[tuple[int, ...]]],
        temperatures: Sequence[float],
        seed: int,
        own_share: float = OWN_PROMPT_SHARE,
    ) -> None:
        self._chat = chat
        self._files = files
        self._temperatures = temperatures
        self._seed = seed
        self._own_share = own_share if files else 1.0

    def __getitem__(self, number: int) -> Assignment:
        """The sample of this number, of which there is no end."""
        num_own = int(number * self._own_share)
        asks_itself = int((number + 1) * self._own_share) > num_own
        sampling = SamplingParams(
            temperature=self._temperatures[number % len(self._temperatures)],
            seed=_seed_of(self._seed, number),
        )
        if asks_itself:
            return Assignment(self._chat.before, True, sampling)
        return Assignment(self._chat.framed(self._question(number - num_own)), False, sampling)

    def _question(self, index: int) -> tuple[int, ...]:
        """The files take turns; whoever is at its end begins again."""
        turn, which = divmod(index, len(self._files))
        file = self._files[which]
        return file[turn % len(file)]


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])
