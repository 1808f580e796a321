"""Who is in use."""

import asyncio

from outrider_edge.holds import Holds


async def test_one_waits_for_the_last_user_of_a_thing_and_no_other() -> None:
    holds, thing, other = Holds(), object(), object()
    await holds.until_free(thing)
    with holds.held(other):
        with holds.held(thing):
            with holds.held(thing):
                waiting = asyncio.create_task(holds.until_free(thing))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
