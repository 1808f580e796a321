"""What is kept until a pass runs, and the order in which it goes out."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.engine import EngineEvent
from outrider_cloud.outbox import Outbox
from outrider_common.errors import UnavailableError


@given(work=st.lists(st.sampled_from(["event", "work that tells", "delivery"]), max_size=20))
def test_whatever_is_kept_goes_out_in_the_order_in_which_it_came(work: list[str]) -> None:
    told: list[EngineEvent] = []
    outbox = Outbox()
    sink = outbox.sink(told.append)
    events = [UnavailableError(str(number)) for number in range(len(work))]
    expected: list[EngineEvent] = []
    for event, what in zip(events, work, strict=True):
        if what == "delivery":
            outbox.deliver()
            assert told == expected
            continue
        before = list(told)
        if what == "event":
            sink(event)
        else:
            outbox.later(partial(sink, event))
        expected.append(event)
        assert told == before  # nothing goes out before its time
    outbox.deliver()
    assert told == expected


def fail() -> None:
    raise IndexError("a bug")


def test_after_work_that_failed_events_are_kept_again() -> None:
    told: list[EngineEvent] = []
    outbox = Outbox()
    sink = outbox.sink(told.append)
    outbox.later(fail)
    with pytest.raises(IndexError):
        outbox.deliver()
    sink(UnavailableError("later"))
    assert not told
    outbox.deliver()
    assert len(told) == 1
