"""Generations side by side: order, errors after what was written, leaving early, and room."""

import asyncio
import gc
import weakref

import pytest
from fake_runtime import ANSWER, FakeRuntime

from outrider_common.errors import CapacityError, UnavailableError
from outrider_common.sampling import SamplingParams
from outrider_edge.choice_stream import ChoiceStream, Event, Finished, Slots, Written
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.openai_errors import BadRequestError

REQUEST = GenerationRequest((1, 2), 100, SamplingParams())


async def all_events(stream: ChoiceStream, num_choices: int) -> list[Event]:
    events: list[Event] = []
    while sum(isinstance(event, Finished) for event in events) < num_choices:
        events += await stream.events()
    return events


async def test_each_choice_is_written_in_order_and_then_finished() -> None:
    async with ChoiceStream(FakeRuntime(), [REQUEST] * 3) as stream:
        events = await all_events(stream, 3)
    for index in range(3):
        own = [event for event in events if event.index == index]
        text = "".join(event.record.text for event in own if isinstance(event, Written))
        assert text == ANSWER
        assert isinstance(own[-1], Finished)


async def test_an_error_comes_after_everything_that_was_written_before() -> None:
    runtime = FakeRuntime(error=UnavailableError("gone"), error_after=1)
    async with ChoiceStream(runtime, [REQUEST]) as stream:
        await asyncio.sleep(0.01)
        events = await stream.events()
        assert len(events) == (len(ANSWER) + 1) // 2
        for _ in range(2):
            with pytest.raises(UnavailableError, match="gone"):
                await stream.events()


async def test_leaving_ends_what_still_runs() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    async with ChoiceStream(runtime, [REQUEST] * 2) as stream:
        await stream.events()
        assert runtime.num_running == 2
    assert runtime.num_running == 0


async def test_an_aborted_stream_says_why_and_no_more() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    async with ChoiceStream(runtime, [REQUEST]) as stream:
        await stream.events()
        stream.abort(UnavailableError("the daemon stops"))
        runtime.pause.set()
        await asyncio.sleep(0.01)  # what comes afterwards is too late
        with pytest.raises(UnavailableError, match="the daemon stops"):
            await stream.events()


async def test_who_reads_late_finds_everything_at_once() -> None:
    async with ChoiceStream(FakeRuntime(), [REQUEST]) as stream:
        await asyncio.sleep(0.01)
        assert len(await stream.events()) == len(ANSWER) + 1


def test_room_is_taken_and_given_back() -> None:
    slots = Slots(4)
    slots.take(3)
    with pytest.raises(CapacityError, match="3 of 4"):
        slots.take(2)
    slots.take(1)
    slots.give_back(3)
    slots.take(2)
    assert slots.num_taken == 3


def test_what_never_fits_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="at most 4") as caught:
        Slots(4).take(5)
    assert caught.value.param == "n"


class Memory:
    """What a generation holds while it runs."""


class Holding(FakeRuntime):
    """Never comes to an end, and holds memory."""

    async def generate(self, *_arguments: object, **_others: object) -> GenerationResult:
        held = Memory()
        self.held = weakref.ref(held)
        self.begun.put_nowait(None)
        await asyncio.get_running_loop().create_future()
        raise AssertionError(held)


async def test_a_stream_that_is_left_holds_nothing_any_more() -> None:
    """Not even until the garbage collector comes."""
    runtime = Holding()
    gc.collect()
    gc.disable()
    try:
        async with ChoiceStream(runtime, [REQUEST]):
            await runtime.begun.get()
        await asyncio.sleep(0)
        assert runtime.held() is None
    finally:
        gc.enable()
