"""Which token each column of a draft model's logits is of, where it drafts from few tokens only.

The columns ascend in their tokens' ids. None in place of the ids: column i is of token i.
"""

from collections.abc import Sequence

import numpy as np

from outrider_common.sampling import Ids


def below(token_ids: Ids | None, vocab_size: int) -> Ids | None:
    """The columns whose tokens the target has, too: those at the beginning."""
    return None if token_ids is None else token_ids[: np.searchsorted(token_ids, vocab_size)]


def tokens_of(columns: Ids, token_ids: Ids | None) -> Ids:
    """The tokens of some columns."""
    return columns if token_ids is None else token_ids[columns]


def columns_of(tokens: Sequence[int], token_ids: Ids | None) -> Sequence[int]:
    """The columns of some tokens. That of a token which has none lies behind the last."""
    if token_ids is None:
        return tokens
    wanted = np.asarray(tokens, np.int64)
    places = np.searchsorted(token_ids, wanted)
    is_there = token_ids[np.minimum(places, len(token_ids) - 1)] == wanted
    columns: list[int] = np.where(is_there, places, len(token_ids)).tolist()
    return columns
