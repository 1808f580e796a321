"""Which tokens of a target can stand for masks: those that no text of it ever holds."""

from typing import Any

from outrider_common.errors import UnsupportedError
from outrider_distill.chat_format import ChatFormat


def spare_tokens(tokenizer: Any, vocab_size: int, chat: ChatFormat, count: int) -> tuple[int, ...]:
    """Tokens that neither text nor chat template use.

    First rows of the embedding matrix that belong to no token, then special tokens that the
    template does not use and that do not end a text.

    Args:
        tokenizer: of the target.
        vocab_size: rows of the embedding matrix.
        chat: how the template frames a question.
        count: how many.

    Raises:
        UnsupportedError: there are not so many.
    """
    used = {*chat.before, *chat.after, tokenizer.eos_token_id, tokenizer.bos_token_id}
    known = set(tokenizer.get_vocab().values())
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    unknown = [token for token in range(vocab_size) if token not in known]
    spare = [*unknown, *sorted(special - used - {tokenizer.unk_token_id})]
    if len(spare) < count:
        raise UnsupportedError(
            f"The target has {len(spare)} tokens that no text uses, and {count} masks are asked "
            f"for; ask for blocks of at most {len(spare) + 1} tokens."
        )
    return tuple(spare[:count])
