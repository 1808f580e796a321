"""What a typed line means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.errors import InvalidInputError
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.chat.commands import (
    HELP,
    SETTABLE,
    Action,
    Help,
    Quit,
    Reset,
    Save,
    Say,
    SetSampling,
    SetSystem,
    ShowStats,
    parse,
    shown,
    with_values,
)


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("Hi there ", Say("Hi there")),
        ("two\nlines", Say("two\nlines")),
        ("//etc is a folder", Say("/etc is a folder")),
        ("/help", Help()),
        (" /reset ", Reset()),
        ("/system Be brief.", SetSystem("Be brief.")),
        ("/system", SetSystem(None)),
        ("/set", SetSampling(())),
        ("/set a=1  b=x=y", SetSampling((("a", "1"), ("b", "x=y")))),
        ("/stats", ShowStats()),
        ("/save a file.md", Save(Path("a file.md"))),
        ("/quit", Quit()),
    ],
)
def test_a_line_is_a_message_or_a_command(line: str, action: Action) -> None:
    assert parse(line) == action


@pytest.mark.parametrize("line", ["", "  \n"])
def test_an_empty_line_is_nothing(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/hepl", "did you mean /help?"),
        ("/nothing-like-it", "/help lists them all"),
        ("/reset now", "'now'"),
        ("/set temperature", "'temperature'"),
        ("/set =1", "'=1'"),
        ("/save", "/save chat.md"),
    ],
)
def test_what_cannot_be_meant_is_named_with_a_remedy(line: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        parse(line)


def test_the_help_names_every_command() -> None:
    for word in ("/help", "/reset", "/system", "/set", "/stats", "/save", "/quit"):
        assert word in HELP


def test_settings_are_changed_and_the_others_stay() -> None:
    before = SamplingSettings(seed=3)
    after = with_values(before, SetSampling((("temperature", "0.8"), ("max_tokens", "7"))))
    assert (after.temperature, after.max_tokens, after.seed) == (0.8, 7, 3)
    assert before.temperature == 0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("temperature", "hot", "temperature is 'hot', but it must be a number"),
        ("top_p", "2", "top_p is '2'"),
        ("warmth", "1", "nothing called 'warmth'.*temperature, top_p"),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        with_values(SamplingSettings(), SetSampling(((name, value),)))


@given(temperature=st.floats(0, 5), seed=st.integers(0, 2**64 - 1))
def test_what_is_shown_can_be_set(temperature: float, seed: int) -> None:
    settings = SamplingSettings(temperature=temperature, seed=seed)
    action = parse(f"/set {shown(settings)}")
    assert isinstance(action, SetSampling)
    assert [name for name, _ in action.values] == list(SETTABLE)
    assert with_values(SamplingSettings(), action) == settings
