"""Words for the tokens of a synthetic target, so that a daemon with a bundle can talk to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bundles import CONTENTS, write_bundle
from tokenizers import Tokenizer, models, pre_tokenizers

from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_models.bundle import tokenizer_fingerprint

VOCAB: Final = 12
"""Few, so that a drafter without knowledge is right now and then."""


def _tokenizer() -> Tokenizer:
    words = {word_of(token): token for token in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=word_of(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def word_of(token: int) -> str:
    """How a token reads."""
    return f"t{token}"


def text_of(tokens: Sequence[int]) -> str:
    """How tokens read."""
    return " ".join(map(word_of, tokens))


def tokens_of(text: str) -> list[int]:
    """What a text was; what is no word of ours becomes -1."""
    numbers = {word_of(token): token for token in range(VOCAB)}
    return [numbers.get(word, -1) for word in text.split()]


FINGERPRINT: Final = tokenizer_fingerprint(_tokenizer().get_vocab(with_added_tokens=True))

SPEC: Final = SyntheticSpec(
    vocab=VOCAB, c0_s=0.01, c1_s=0, positions=512, kv_bytes=64, tokenizer=FINGERPRINT
)


def reference(prompt: Sequence[int], max_tokens: int) -> tuple[int, ...]:
    """What the target alone writes."""
    text = list(prompt)
    for _ in range(max_tokens):
        text.append(next_token(SPEC, text))
    return tuple(text[len(prompt) :])


def write_word_bundle(directory: Path) -> None:
    """A bundle with this tokenizer, and without a model: for proposers that need none."""
    directory.mkdir()
    contents = CONTENTS | {"tokenizer.json": _tokenizer().to_str().encode()}
    write_bundle(
        directory,
        contents,
        vocab_size=VOCAB,
        eos_token_ids=(0,),
        tokenizer_fingerprint=FINGERPRINT,
    )
