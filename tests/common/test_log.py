"""Logging of events: what a line holds, and that it is one line."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common import log
from outrider_common.settings.log import LogFormat, LogLevel

LOGGER = logging.getLogger("outrider_edge.session")


pytestmark = pytest.mark.usefixtures("restored_logging")


def configured(level: LogLevel, form: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, stream)
    return stream


def test_an_event_in_json_is_its_name_and_its_fields() -> None:
    stream = configured("info", "json")
    log.event(LOGGER, "session_opened", session="s1", num_prompt_tokens=12)
    document = json.loads(stream.getvalue())
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "info",
        "logger": "outrider_edge.session",
        "event": "session_opened",
        "session": "s1",
        "num_prompt_tokens": 12,
    }


def test_an_event_as_text_is_its_name_and_its_fields() -> None:
    stream = configured("info", "text")
    log.event(LOGGER, "session_opened", session="s1", model="a b", reason="")
    assert stream.getvalue().endswith(" info    session_opened session=s1 model='a b' reason=''\n")


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_a_traceback_goes_with_its_event(form: LogFormat) -> None:
    stream = configured("info", form)
    try:
        raise RuntimeError("the link broke")
    except RuntimeError as error:
        log.event(LOGGER, "session_failed", level=logging.ERROR, error=error)
    assert "Traceback" in stream.getvalue()
    assert "the link broke" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)],
)
def test_an_event_for_the_journal_has_its_level_and_no_time(level: int, number: int) -> None:
    stream = configured("debug", "journal")
    log.event(LOGGER, "session_opened", level=level, session="s 1")
    assert stream.getvalue() == f"<{number}>session_opened session='s 1'\n"


def test_every_line_of_a_traceback_has_its_level_in_the_journal() -> None:
    stream = configured("info", "journal")
    try:
        raise RuntimeError("the link broke")
    except RuntimeError as error:
        log.event(LOGGER, "session_failed", level=logging.ERROR, error=error)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_events_below_the_level_are_not_logged() -> None:
    stream = configured("warning", "json")
    log.event(LOGGER, "session_opened")
    log.event(LOGGER, "session_lost", level=logging.WARNING)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "session_lost"
    ]


def test_other_libraries_are_heard_only_when_they_warn() -> None:
    stream = configured("debug", "json")
    logging.getLogger("somebody_else").info("chatter")
    logging.getLogger("somebody_else").warning("disk %s is full", "sda")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "disk sda is full"
    ]


@pytest.mark.parametrize("form", ["text", "json", "journal"])
@given(value=st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.none()))
def test_for_any_value_an_event_is_one_line(form: LogFormat, value: object) -> None:
    stream = configured("info", form)
    log.event(LOGGER, "something", value=value)
    assert len(stream.getvalue().splitlines()) == 1


@given(st.dictionaries(st.text() | st.none(), st.floats() | st.binary() | st.tuples(st.floats())))
def test_for_any_value_an_event_in_json_is_strict_json(value: dict[str | None, object]) -> None:
    stream = configured("info", "json")
    log.event(LOGGER, "something", value=value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(stream.getvalue(), parse_constant=refuse)
