"""One answer as it is shown: verified text, and text that may be corrected.

Knows nothing of where pieces come from.
"""

from dataclasses import dataclass, field

from outrider_edge.chat.sources import Correction, Piece, Unverified
from outrider_edge.chat.terminal import Screen


@dataclass(slots=True)
class AnswerText:
    """What was written so far, as far as it was not taken back.

    Attributes:
        text: all of it.
    """

    text: str = ""

    def take(self, piece: Piece) -> None:
        """More of it, or something else from a place on."""
        match piece:
            case str():
                self.text += piece
            case Unverified(more):
                self.text += more
            case Correction(since, instead):
                self.text = self.text[:since] + instead


@dataclass(slots=True)
class AnswerOnScreen:
    """For people: unverified text is shown at once, and as such; what is right follows below it.

    Attributes:
        screen: where it is shown.
    """

    screen: Screen
    _answer: AnswerText = field(default_factory=AnswerText)
    _is_unsure: bool = False  # what was shown last is not verified

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._answer.text

    def show(self, piece: Piece) -> None:
        """More of it, or something else."""
        match piece:
            case str():
                self.screen.piece(piece)
            case Unverified(text):
                if not self._is_unsure:
                    self.screen.unverified()
                self.screen.piece(text, is_verified=False)
            case Correction(since, text):
                self.screen.correction(self.text[:since].rpartition("\n")[2], text)
        self._answer.take(piece)
        self._is_unsure = isinstance(piece, Unverified)


@dataclass(slots=True)
class SureAnswer:
    """For programs: text is shown as it comes, but nothing before it is verified.

    Attributes:
        screen: where it is shown.
    """

    screen: Screen
    _answer: AnswerText = field(default_factory=AnswerText)
    _num_shown: int = 0
    _is_held: bool = False  # there was unverified text

    def show(self, piece: Piece) -> None:
        """More of it, or something else."""
        self._answer.take(piece)
        self._is_held |= not isinstance(piece, str)
        if not self._is_held:
            self.finish()

    def finish(self) -> None:
        """All of it is verified: show what was held back."""
        self.screen.piece(self._answer.text[self._num_shown :])
        self._num_shown = len(self._answer.text)
