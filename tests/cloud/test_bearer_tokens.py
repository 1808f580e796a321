"""Bearer tokens: unguessable, told by their names, and compared whole."""

import re

import pytest

from outrider_cloud.bearer_tokens import id_of, is_token, make_token


def test_a_token_has_256_random_bits_and_carries_its_name() -> None:
    token = make_token()
    assert id_of(token.text) == token.token_id
    secret = token.text.removeprefix(f"outrider_{token.token_id}_")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)  # 6 bits each
    assert len({make_token().text for _ in range(100)}) == 100


def test_only_the_token_itself_has_its_hash() -> None:
    token = make_token()
    assert is_token(token.text, token.sha256)
    last = "A" if token.text[-1] != "A" else "B"
    assert not is_token(token.text[:-1] + last, token.sha256)
    assert not is_token(make_token().text, token.sha256)
    assert not is_token("", token.sha256)


def test_what_is_printed_of_a_token_is_not_the_token() -> None:
    token = make_token()
    assert token.text not in repr(token)
    assert token.text[-43:] not in repr(token)


@pytest.mark.parametrize(
    "text", ["", "outrider_", "Bearer x", "outrider_12_34", "\x00", "outrider_" + "0" * 12 + "_"]
)
def test_what_is_no_token_has_no_name(text: str) -> None:
    assert id_of(text) is None
