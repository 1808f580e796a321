"""The field `outrider` of a request: what it may say, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from test_json_fields import json_values

from outrider_edge.handling import Handling, parse_handling
from outrider_edge.json_fields import Fields
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.policies import POLICIES


def parsed(value: object, *, stream: bool = True) -> Handling:
    return parse_handling(Fields({"outrider": value}), stream=stream)


def test_who_says_nothing_is_served_as_the_daemon_does() -> None:
    assert parse_handling(Fields({}), stream=False) == parsed(None) == parsed({}) == Handling()


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_asked_for(name: str) -> None:
    assert parsed({"policy": name, "trace": True}) == Handling(name, is_traced=True)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("tree", "outrider"),
        ({"policy": "fastest"}, "outrider.policy"),
        ({"policy": 3}, "outrider.policy"),
        ({"trace": "yes"}, "outrider.trace"),
        ({"traced": True}, "outrider.traced"),
    ],
)
def test_what_is_wrong_is_named(value: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parsed(value)
    assert caught.value.param == param


def test_a_whole_answer_has_no_trace() -> None:
    with pytest.raises(BadRequestError, match="only with stream"):
        parsed({"trace": True}, stream=False)


def test_a_policy_that_drafts_needs_a_drafter() -> None:
    offered = ("cloud", "cloud-lookup")
    parsed({"policy": "cloud"}).check_policy(offered)
    Handling().check_policy(offered)
    with pytest.raises(BadRequestError, match=r"no drafter.*one of cloud, cloud-lookup"):
        parsed({"policy": "tree"}).check_policy(offered)


@given(json_values)
def test_anything_else_is_a_bad_request(value: Any) -> None:
    try:
        handling = parsed(value)
    except BadRequestError:
        return
    assert handling.policy is None or handling.policy in POLICIES
