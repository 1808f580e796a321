"""Strict reading of JSON: what is no JSON, wrong types, and fields that nobody asked for."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.json_fields import Fields, parse_json, shown
from outrider_edge.openai_errors import BadRequestError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary())
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"t": NaN}', b"[1e5", b"Infinity"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError, match="send"):
        parse_json(body)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(BadRequestError, match="nested too deeply"):
        parse_json(b"[" * 1_000_000)


def test_a_number_with_too_many_digits_is_refused() -> None:
    with pytest.raises(BadRequestError, match="not JSON"):
        parse_json(b"1" * 10_000)


@given(json_values)
def test_an_object_is_wanted(value: object) -> None:
    if isinstance(value, dict):
        Fields(value)
    else:
        with pytest.raises(BadRequestError, match="must be a JSON object"):
            Fields(value)


@given(json_values, st.sampled_from(["text", "switch", "number"]))
def test_a_field_of_another_type_is_refused_by_name(value: object, kind: str) -> None:
    fits: dict[str, Any] = {
        "text": str,
        "switch": bool,
        "number": (int, float),
    }
    is_number_like_bool = kind == "number" and isinstance(value, bool)
    fields = Fields({"x": value}, "outer")
    if value is None or (isinstance(value, fits[kind]) and not is_number_like_bool):
        assert getattr(fields, kind)("x") == (value if value is not None else _nothing(kind))
    else:
        with pytest.raises(BadRequestError, match=r"outer\.x is") as caught:
            getattr(fields, kind)("x")
        assert caught.value.param == "outer.x"


def _nothing(kind: str) -> object:
    return False if kind == "switch" else None


@given(st.integers())
def test_integers_outside_of_their_range_are_refused(value: int) -> None:
    fields = Fields({"n": value})
    if 1 <= value <= 128:
        assert fields.integer("n", 1, 128) == value
    else:
        with pytest.raises(BadRequestError, match="whole number from 1 to 128"):
            fields.integer("n", 1, 128)


@pytest.mark.parametrize("value", [True, 1.5, "1", math.inf, [1]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(BadRequestError, match="n is"):
        Fields({"n": value}).integer("n", 0, 10)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Fields({"n": 3.0}).integer("n", 0, 10) == 3


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(BadRequestError, match="t is"):
        Fields({"t": 10**400}).number("t")


def test_a_field_that_nobody_asked_for_is_refused_by_its_path() -> None:
    fields = Fields({"known": 1, "strange": None}, "messages[2]")
    fields.take("known")
    with pytest.raises(BadRequestError, match=r"no parameter messages\[2\]\.strange") as caught:
        fields.finish()
    assert caught.value.param == "messages[2].strange"
    assert caught.value.code == "unknown_parameter"


def test_long_values_are_cut_in_sentences() -> None:
    assert len(shown("x" * 10_000)) < 80
