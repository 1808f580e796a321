"""The drafter of one answer on its own: it chooses as the target would from the same logits.

Knows nothing of text, of verifiers or of who is told.
"""

from collections.abc import Sequence

from outrider_edge.drafter import Drafter
from outrider_edge.session import DraftPoint, DraftRun


class LoneDrafter:
    """Writes with a draft model alone.

    Args:
        drafter: its first guess is what it would choose under the request's sampling and noise.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    async def next_token(self, text: Sequence[int]) -> int | None:
        """What follows a text; None where the draft model cannot say."""
        end = DraftPoint(path=(), node_id=None, position=len(text) - 1)
        (draft,) = await self._drafter.expand(DraftRun(text, (end,), max_depth=1))
        return draft.tokens[0] if draft.tokens else None
