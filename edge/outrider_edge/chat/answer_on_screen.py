"""One answer of a chat as it is shown: verified text, and text that may be corrected.

Knows nothing of where pieces come from.
"""

from dataclasses import dataclass

from outrider_edge.chat.sources import Correction, Piece, Unverified
from outrider_edge.chat.terminal import Screen


@dataclass(slots=True)
class AnswerOnScreen:
    """What was written so far.

    Attributes:
        screen: where it is shown.
        text: as far as it was not taken back.
    """

    screen: Screen
    text: str = ""
    _is_unsure: bool = False  # what was shown last is not verified

    def show(self, piece: Piece) -> None:
        """More of it, or something else."""
        match piece:
            case str():
                self._add(piece, is_verified=True)
            case Unverified(text):
                if not self._is_unsure:
                    self.screen.unverified()
                self._add(text, is_verified=False)
            case Correction(since, text):
                kept = self.text[:since]
                self.text = kept + text
                self.screen.correction(kept.rpartition("\n")[2], text)
        self._is_unsure = isinstance(piece, Unverified)

    def _add(self, text: str, *, is_verified: bool) -> None:
        self.text += text
        self.screen.piece(text, is_verified=is_verified)
