"""Token-by-token decoding against full decoding, and stop strings against `str.find`."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from outrider_common.errors import InvalidInputError
from outrider_edge.streaming_text import IncrementalDetokenizer, Stop, StopMatcher

NUM_BYTES = 256


def llama_like_tokenizer() -> Tokenizer:
    """SentencePiece style: words with a leading ▁, and a token for each byte."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(NUM_BYTES)), "▁", "▁a", "b", "é", "\n"]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


@cache
def byte_level_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    return [
        chr(byte) if byte in printable else chr(0x100 + others.index(byte))
        for byte in range(NUM_BYTES)
    ]


def gpt_like_tokenizer() -> Tokenizer:
    """Byte-level style: every token is a few bytes, seldom a whole character."""
    words = [*byte_level_alphabet(), "Ãī", "Ã©", "Ġthe"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    tokenizer.add_tokens([AddedToken("naïve")])
    return tokenizer


TOKENIZERS = {"byte-fallback": llama_like_tokenizer(), "byte-level": gpt_like_tokenizer()}
any_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())

# Bytes that begin, continue and break UTF-8 characters are the hard part.
BYTES_OF_NOTE = [0x41, 0x20, 0xA9, 0xC3, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 0xED]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def byte_token(tokenizer: Tokenizer, byte: int) -> int:
    fallback = tokenizer.token_to_id(f"<0x{byte:02X}>")
    return token_id(tokenizer, byte_level_alphabet()[byte]) if fallback is None else fallback


def pieces_of(
    tokenizer: Tokenizer, tokens: list[int], *, skip_special_tokens: bool = True
) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    return [*(detokenizer.push(token) for token in tokens), detokenizer.flush()]


@any_tokenizer
@given(data=st.data(), skip=st.booleans())
def test_the_pieces_of_any_tokens_are_the_full_decoding(
    tokenizer: Tokenizer, data: st.DataObject, skip: bool
) -> None:
    any_token = st.integers(0, tokenizer.get_vocab_size() + 1)
    hard_token = st.sampled_from(BYTES_OF_NOTE).map(lambda byte: byte_token(tokenizer, byte))
    special_token = st.just(token_id(tokenizer, "<s>"))
    tokens = data.draw(st.lists(any_token | hard_token | special_token, max_size=24))
    pieces = pieces_of(tokenizer, tokens, skip_special_tokens=skip)
    assert "".join(pieces) == tokenizer.decode(tokens, skip_special_tokens=skip)


@any_tokenizer
@given(text=st.text(st.sampled_from("aé€😀 \n"), max_size=12))
def test_no_character_is_shown_in_parts(tokenizer: Tokenizer, text: str) -> None:
    tokens = [byte_token(tokenizer, byte) for byte in text.encode() if byte != ord("\n")]
    assert "�" not in "".join(pieces_of(tokenizer, tokens))


def test_text_appears_as_soon_as_its_character_is_complete() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    euro = [byte_token(tokenizer, byte) for byte in "€".encode()]
    the = token_id(tokenizer, "Ġthe")
    assert pieces_of(tokenizer, [the, *euro, the]) == [" the", "", "", "€", " the", ""]


def test_a_run_of_byte_tokens_appears_when_it_has_ended() -> None:
    tokenizer = TOKENIZERS["byte-fallback"]
    run = [byte_token(tokenizer, byte) for byte in "é".encode()]
    b = token_id(tokenizer, "b")
    assert pieces_of(tokenizer, [b, *run, b]) == ["b", "", "", "éb", ""]


def test_a_skipped_special_token_does_not_end_a_run_of_bytes() -> None:
    tokenizer = TOKENIZERS["byte-fallback"]
    first, second = (byte_token(tokenizer, byte) for byte in "é".encode())
    special, bad = token_id(tokenizer, "<s>"), byte_token(tokenizer, 0xFF)
    assert pieces_of(tokenizer, [first, second, special, bad]) == ["", "", "", "", "���"]


def test_what_never_became_a_character_comes_out_as_the_replacement_character() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    tokens = [byte_token(tokenizer, byte) for byte in (0x41, 0xF0, 0x9F)]
    assert pieces_of(tokenizer, tokens) == ["A", "", "", "�"]


def test_flushing_twice_gives_nothing_more() -> None:
    detokenizer = IncrementalDetokenizer(TOKENIZERS["byte-level"])
    detokenizer.push(byte_token(TOKENIZERS["byte-level"], 0xFF))
    assert (detokenizer.flush(), detokenizer.flush()) == ("�", "")


@given(tokens=st.lists(st.integers(0, 49_152), max_size=60), skip=st.booleans())
def test_random_tokens_of_a_real_model_decode_the_same_in_pieces(
    smollm2_tokenizer: Tokenizer, tokens: list[int], skip: bool
) -> None:
    pieces = pieces_of(smollm2_tokenizer, tokens, skip_special_tokens=skip)
    assert "".join(pieces) == smollm2_tokenizer.decode(tokens, skip_special_tokens=skip)


@given(text=st.text(max_size=40))
def test_any_text_of_a_real_model_decodes_the_same_in_pieces(
    smollm2_tokenizer: Tokenizer, text: str
) -> None:
    tokens = smollm2_tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(pieces_of(smollm2_tokenizer, tokens)) == smollm2_tokenizer.decode(tokens)


@pytest.fixture(scope="module")
def smollm2_tokenizer(smollm2_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2_dir / "tokenizer.json"))


def cut_by_find(text: str, stop_strings: list[str]) -> tuple[int, int, str] | None:
    """The stop string that is complete first, then the longest: (end, start, string)."""
    found = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stop_strings]
    return min((hit for hit in found if hit[1] >= 0), default=None)


STOP_STRINGS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)
PIECES = st.lists(st.text("abc", max_size=4), max_size=12)


@given(pieces=PIECES, stop_strings=STOP_STRINGS)
def test_the_cut_is_where_str_find_finds_it_however_the_text_is_divided(
    pieces: list[str], stop_strings: list[str]
) -> None:
    text = "".join(pieces)
    matcher = StopMatcher(stop_strings)
    shown = "".join([matcher.push(piece) for piece in pieces]) + matcher.flush()
    expected = cut_by_find(text, stop_strings)
    if expected is None:
        assert (shown, matcher.stop) == (text, None)
    else:
        end, start, stop_string = expected
        index = next(i for i in range(len(pieces)) if len("".join(pieces[: i + 1])) >= end)
        assert (shown, matcher.stop) == (text[:start], Stop(stop_string, index))


@given(pieces=PIECES, stop_strings=STOP_STRINGS)
def test_only_what_may_begin_a_stop_string_is_held_back(
    pieces: list[str], stop_strings: list[str]
) -> None:
    matcher = StopMatcher(stop_strings)
    text = shown = ""
    for piece in pieces:
        text += piece
        shown += matcher.push(piece)
        if matcher.stop is not None:
            break
        held = text.removeprefix(shown)
        assert not held or any(stop.startswith(held) for stop in stop_strings)
        assert not any(text.endswith(stop) for stop in stop_strings)


def test_a_stop_string_across_three_tokens_names_the_last_of_them() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.push(piece) for piece in ("so E", "N", "Dless", "more")] == ["so ", "", "", ""]
    assert matcher.stop == Stop("END", token_index=2)
    assert matcher.flush() == ""


def test_a_beginning_that_leads_nowhere_is_shown_after_all() -> None:
    matcher = StopMatcher(["aab"])
    assert [matcher.push(piece) for piece in ("a", "a", "a", "c")] == ["", "", "a", "aac"]


def test_without_stop_strings_everything_is_shown_at_once() -> None:
    assert StopMatcher([]).push("any text") == "any text"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        StopMatcher(["ok", ""])
