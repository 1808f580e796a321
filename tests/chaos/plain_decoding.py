"""Plain decoding of many texts side by side: what answers are held against.

One row of each text a pass, no drafts, and the reference rule for each token: the verifier's shadow
for more than one text at a time. Knows nothing of where the texts come from.
"""

from collections.abc import Sequence
from dataclasses import replace

from outrider_cloud.pages import PagePool
from outrider_cloud.shadow import FinishedText, PlainDecode, ShadowStats, compared
from outrider_cloud.target import Target

PREFILL_CHUNK_TOKENS = 64


class PlainDecoding:
    """Decodes texts again.

    Args:
        target: a model of its own: all of its pages are used.

    Attributes:
        stats: what was found so far.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        shape = target.cache_shape
        self._pool = PagePool(shape.num_pages, shape.page_tokens, shares=False)
        self.stats = ShadowStats()

    def compare(self, texts: Sequence[FinishedText]) -> None:
        """All of them, in the same passes."""
        decodes = [PlainDecode(text, self._pool) for text in texts]
        while going := [decode for decode in decodes if not decode.is_over]:
            self._pass(going)
        for decode in decodes:
            decode.release()
        self.stats = replace(self.stats, num_texts=self.stats.num_texts + len(texts))

    def _pass(self, decodes: Sequence[PlainDecode]) -> None:
        segments = [decode.next_segment(PREFILL_CHUNK_TOKENS) for decode in decodes]
        whole = [segment for segment in segments if segment is not None]
        assert len(whole) == len(decodes), "the target's KV cache has no room for so many texts"
        logits = iter(self._target.forward(whole).numpy())
        for decode, segment in zip(decodes, whole, strict=True):
            decode.length += len(segment.rows.tokens)
            if segment.rows.num_logits_rows:
                found = compared(decode.text, decode.length, next(logits))
                self.stats = self.stats.with_one_more(found)
