"""Which tokens a drafter may guess, when its LM head is cut to the most frequent ones.

After FR-Spec (arXiv:2502.14856): most of what a model writes is a small part of its vocabulary, and
a token that a drafter cannot guess is one more correction by the target, never a wrong text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider_common.errors import InvalidInputError

_PRIOR_TOKENS = 1e6
"""To the counts of a text are added those of an imagined one of so many tokens.

Its tokens follow Zipf's law in the order of their ids. Without it a token that a short text has by
chance takes the place of one that is common everywhere.
"""

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DraftVocabulary:
    """How to choose a draft vocabulary.

    Attributes:
        size: how many tokens.
        text: a file of text to count tokens in, such as answers of the target: millions of tokens,
            or it says little; None: take the lowest ids. Those of BPE tokenizers are in the order
            of their merges, of which the first joined what was most frequent.
    """

    size: int
    text: Path | None = None


def choose_tokens(
    wanted: DraftVocabulary, tokenizer: Any, vocab_size: int, always: Iterable[int]
) -> Ids:
    """The tokens that are expected to be most frequent.

    Args:
        wanted: how to choose.
        tokenizer: of the model, from Transformers.
        vocab_size: how many tokens the model has.
        always: tokens that are kept whatever their frequency, as all added ones are.

    Returns:
        int64 [wanted.size], ascending.

    Raises:
        InvalidInputError: the size does not fit, or the text has no tokens or cannot be read.
    """
    if not 1 <= wanted.size <= vocab_size:
        raise InvalidInputError(
            f"A draft vocabulary of {wanted.size} tokens cannot be cut from one of {vocab_size}: "
            f"choose a number from 1 to {vocab_size}."
        )
    added = {*always, *tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    kept = sorted(token for token in added if token < vocab_size)
    if len(kept) > wanted.size:
        raise InvalidInputError(
            f"A draft vocabulary of {wanted.size} tokens has no room for the {len(kept)} special "
            f"tokens of the model: choose {len(kept)} or more."
        )
    expected = _counts(wanted.text, tokenizer, vocab_size) + _zipf_counts(vocab_size)
    expected[kept] = np.inf
    order = np.argsort(-expected, kind="stable")
    return np.sort(order[: wanted.size])


def _zipf_counts(vocab_size: int) -> Floats:
    """How often each token occurs in the imagined text: float64 [vocab_size]."""
    shares = 1 / np.arange(1, vocab_size + 1)
    counts: Floats = _PRIOR_TOKENS * shares / shares.sum()
    return counts


def _counts(text: Path | None, tokenizer: Any, vocab_size: int) -> Ids:
    """How often each token occurs: int64 [vocab_size]."""
    if text is None:
        return np.zeros(vocab_size, np.int64)
    lines = _read(text).splitlines(keepends=True)
    encodings = tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False)
    tokens = [token for encoding in encodings for token in encoding.ids if token < vocab_size]
    if not tokens:
        raise InvalidInputError(
            f"{text} has no text to count tokens in: give a file with text such as the drafter is "
            "to write."
        )
    return np.bincount(tokens, minlength=vocab_size)


def _read(text: Path) -> str:
    try:
        return text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{text} cannot be read as UTF-8 text ({error}): give a plain text file."
        ) from error
