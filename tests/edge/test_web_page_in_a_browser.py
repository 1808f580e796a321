"""The daemon's page in a real browser, over a runtime in memory: what it shows and sends."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from api_client import CHAT, a_serving
from browsers import WatchedPage, a_browser, a_page
from fake_runtime import ANSWER, FakeRuntime
from http_daemon import listening
from playwright.async_api import Browser, Route
from weak_edge import TEXT, Absence, WeakLink, a_weak_edge, with_errors

from outrider_common.errors import UnavailableError
from outrider_edge import generation_endpoint
from outrider_edge.serving import Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = ANSWER[: (len(ANSWER) + 1) // 2]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


@asynccontextmanager
async def opened(
    browser: Browser, serving: Serving | FakeRuntime, **context: Any
) -> AsyncIterator[WatchedPage]:
    """The page of a daemon; whatever happens, it asks nobody else."""
    if isinstance(serving, FakeRuntime):
        serving = a_serving(serving, port=0)
    url = ""
    async with listening(serving) as port:
        url = f"http://127.0.0.1:{port}"
        async with a_page(browser, url, **context) as page:
            yield page
            assert page.strangers == []


async def a_paused_answer(page: WatchedPage, runtime: FakeRuntime) -> None:
    """Ask, and wait until half of the answer is written."""
    runtime.pause.clear()
    await page.ask("Hi")
    await page.page.wait_for_selector(f".text .token:nth-child({len(HALF)})")


# A chat.


async def test_the_text_is_that_of_the_api_and_every_token_shows_its_origin(
    browser: Browser,
) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.ask("Hi")
        await page.ended()
        assert await page.text() == ANSWER
        origins = await page.page.eval_on_selector_all(
            ".text .token", "spans => spans.map(span => span.dataset.origin)"
        )
        assert len(origins) == len(ANSWER)
        assert set(origins) == {"drafted", "hedged"}
        for origin in ("drafted", "hedged", "corrected", "guessed"):
            said = await page.page.text_content(f'[data-count="{origin}"]')
            assert said == str(origins.count(origin))
        assert page.complaints == []


async def test_origins_are_told_apart_by_their_lines_too(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        lines = await page.page.eval_on_selector_all(
            "#legend i", "all => all.map(one => getComputedStyle(one).borderBottomStyle)"
        )
        assert len(lines) == len(set(lines)) == 5


async def test_what_looks_like_html_is_shown_as_text(browser: Browser) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;'
    runtime = FakeRuntime(answer=hostile)
    async with opened(browser, runtime) as page:
        await page.ask(hostile)
        await page.ended()
        assert await page.text() == hostile
        assert await page.page.text_content(".asked") == hostile
        assert await page.page.query_selector_all("#turns img, #turns script") == []
        assert await page.page.title() == "Outrider"
        assert page.complaints == []


async def test_an_answer_that_waited_for_a_verifier_is_shown(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_endpoint, "KEEP_ALIVE_S", 0.01)
    runtime = FakeRuntime()
    serving = a_serving(runtime, port=0, offline="queue")
    assert serving.offline is not None
    async with opened(browser, serving) as page:
        serving.runtime = None
        await page.ask("Hi")
        while not serving.offline.num_waiting:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # several comments
        serving.runtime = runtime
        await page.ended()
        assert await page.text() == ANSWER


async def test_what_no_verifier_has_seen_is_shown_as_such_and_corrected_in_place(
    browser: Browser,
) -> None:
    with ThreadPoolExecutor(1) as executor:
        link = WeakLink([Absence(0, 10**9)])
        runtime = a_weak_edge(executor, link, with_errors([10]))
        serving = a_serving(runtime, port=0, offline="draft-only")
        async with opened(browser, serving) as page:
            await page.page.fill("#max-tokens", str(len(TEXT)))
            await page.ask("Hi")
            last = f'.tail [data-origin="unverified"]:nth-child({len(TEXT)})'
            await page.page.wait_for_selector(last)
            assert await page.text() == TEXT[:10] + "#" + TEXT[11:]
            said = await page.page.text_content('[data-count="unverified"]')
            assert said == str(len(TEXT))
            await page.page.hover(last)  # there is nothing to tell of it
            link.num_refusals = 0
            await page.ended()
            assert await page.text() == TEXT
            assert await page.page.query_selector_all(".tail") == []
            assert await page.page.text_content('[data-count="unverified"]') == "0"
            assert page.complaints == []


async def test_an_answer_that_nobody_verified_says_so_on_the_page(browser: Browser) -> None:
    with ThreadPoolExecutor(1) as executor:
        runtime = a_weak_edge(executor, WeakLink([Absence(0, 10**9)]))
        serving = a_serving(runtime, port=0, offline="draft-only", offline_verify_s=0)
        async with opened(browser, serving) as page:
            await page.page.fill("#max-tokens", str(len(TEXT)))
            await page.ask("Hi")
            await page.ended()
            assert await page.text() == TEXT
            meta = await page.page.text_content(".meta")
            assert meta is not None
            assert f"{len(TEXT)} more tokens not verified" in meta
            assert "no verifier was there in time" in meta


async def test_a_second_turn_knows_the_first(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await page.ask("One")
        await page.ended()
        await page.ask("Two")
        await page.ended(2)
        prompt = runtime.tokenizer.decode(runtime.requests[1].prompt)
        assert prompt == f"<user>One<assistant>{ANSWER}<user>Two"
        await page.page.click("#new-chat")
        assert await page.page.query_selector_all(".turn") == []
        await page.ask("Three")
        await page.ended()
        assert runtime.tokenizer.decode(runtime.requests[2].prompt) == "<user>Three"


async def test_what_the_fields_say_is_asked_for_and_what_they_do_not_say_is_the_daemons(
    browser: Browser,
) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await page.ask("Hi")
        await page.ended()
        for name, value in (("temperature", "0.7"), ("max-tokens", "3"), ("seed", "11")):
            await page.page.fill(f"#{name}", value)
        await page.ask("Hi")
        await page.ended(2)
        plain, own = runtime.requests
        assert (plain.sampling.temperature, plain.max_tokens) == (0.0, 256)
        assert (own.sampling.temperature, own.max_tokens, own.sampling.seed) == (0.7, 3, 11)
        assert await page.text(2) == ANSWER[:3]
        assert "seed 11" in await page.page.inner_text(".turn:nth-child(2) .meta")


async def test_a_policy_is_that_of_this_page_and_not_of_the_daemon(browser: Browser) -> None:
    runtime = FakeRuntime()
    serving = a_serving(runtime, port=0)
    async with opened(browser, serving) as page:
        await page.page.select_option("#policy", "stop-and-wait")
        await page.ask("Hi")
        await page.ended()
        assert runtime.asked_policies == ["stop-and-wait"]
        assert serving.identity.settings.policy == "auto"
        assert "policy stop-and-wait" in await page.page.inner_text(".meta")


async def test_only_policies_that_can_be_had_are_offered(browser: Browser) -> None:
    async with opened(browser, FakeRuntime(policies=("cloud", "cloud-lookup"))) as page:
        await page.page.wait_for_selector("#policy option", state="attached")
        offered = await page.page.eval_on_selector_all(
            "#policy option", "all => all.map(o => o.value)"
        )
        assert offered == ["cloud", "cloud-lookup"]


async def test_a_comparison_asks_the_cloud_alone_for_the_same_and_shows_both(
    browser: Browser,
) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await page.page.fill("#temperature", "1")
        await page.ask("Hi")
        await page.page.click(".compare")
        await page.page.wait_for_selector(".verdict[role=status]")
        first, second = runtime.requests
        assert first == second
        assert runtime.asked_policies == ["auto", "cloud"]
        assert "the same text" in await page.page.inner_text(".verdict")
        assert await page.page.locator(".comparison .lane").count() == 2
        assert "measured" in await page.page.inner_text("#figure-ratio")


async def test_a_comparison_of_different_texts_says_so(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await page.ask("Hi")
        await page.ended()
        runtime.answer = "Something else."
        await page.page.click(".compare")
        await page.page.wait_for_selector(".verdict[role=status]")
        assert "another text" in await page.page.inner_text(".verdict")


# What is known of a token.


async def test_a_token_that_is_pointed_at_tells_its_history(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.ask("Hi")
        await page.ended()
        await page.page.hover(f".text .token:nth-child({len(ANSWER)})")
        card = await page.page.inner_text("#card")
        for said in ("Committed", "position", "Pass", "probability", "#", "rejected", "fake 0.25"):
            assert said in card
        await page.page.mouse.move(2, 2)
        assert await page.page.is_hidden("#card")


async def test_a_token_can_be_tapped_on_a_phone_and_its_card_does_not_cover_it(
    browser: Browser,
) -> None:
    async with opened(browser, FakeRuntime(answer=" word" * 160), **PHONE) as page:
        await page.page.fill("#max-tokens", "800")
        await page.ask("Hi")
        await page.ended()
        # The last one has the tallest card: something was rejected in its place.
        for selector in (".text .token:nth-child(800)", ".text .token:nth-child(1)"):
            await page.page.tap(selector)
            assert "Committed" in await page.page.inner_text("#card")
            card = await page.page.locator("#card").bounding_box()
            token = await page.page.locator(selector).bounding_box()
            assert card is not None
            assert token is not None
            assert token["y"] + token["height"] <= card["y"] or (
                card["y"] + card["height"] <= token["y"]
            )


async def test_everything_can_be_reached_with_the_keyboard(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        keyboard = page.page.keyboard
        await page.page.focus("#message")
        await keyboard.type("Hi")
        await keyboard.press("Shift+Enter")
        await keyboard.type("there")
        await keyboard.press("Enter")
        await page.ended()
        assert runtime.tokenizer.decode(runtime.requests[0].prompt) == "<user>Hi\nthere"
        reached = await tabbed(page)
        controls = await page.page.eval_on_selector_all(
            "button, input, select, textarea, .text", f"all => all.filter({IS_THERE}).map({NAME})"
        )
        assert set(controls) <= reached


IS_THERE = "one => one.checkVisibility() && !one.disabled"
NAME = "one => one.id || one.className || one.textContent"


async def tabbed(page: WatchedPage) -> set[str]:
    """What the tab key leads to, once around."""
    reached: list[str] = []
    for _ in range(60):
        await page.page.keyboard.press("Tab")
        reached.append(await page.page.evaluate(f"({NAME})(document.activeElement)"))
    return set(reached)


async def test_arrow_keys_walk_the_tokens(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.ask("Hi")
        await page.ended()
        await page.page.focus(".text")
        focused = "document.activeElement.textContent"
        for expected in ANSWER[:3]:
            await page.page.keyboard.press("ArrowRight")
            assert await page.page.evaluate(focused) == expected
            assert await page.page.is_visible("#card")
        await page.page.keyboard.press("ArrowLeft")
        assert await page.page.evaluate(focused) == ANSWER[1]
        await page.page.keyboard.press("Escape")
        assert await page.page.is_hidden("#card")


async def test_every_control_has_a_name(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        nameless = await page.page.eval_on_selector_all(
            "button, input, select, textarea, canvas, [role=group]",
            """all => all.filter(one => !(one.getAttribute("aria-label")
                || one.labels?.[0]?.textContent.trim() || one.textContent.trim()))
                .map(one => one.outerHTML)""",
        )
        assert nameless == []


async def test_the_timeline_is_drawn_while_the_answer_is_written(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        assert await page.page.evaluate(COLOURS_DRAWN) == 0
        await a_paused_answer(page, runtime)
        await page.page.wait_for_function(COLOURS_DRAWN)  # with the next frame
        runtime.pause.set()
        await page.ended()
        label = await page.page.get_attribute("#timeline", "aria-label")
        assert label is not None
        assert "2 passes" in label


COLOURS_DRAWN = """() => {
    const canvas = document.querySelector("#timeline");
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += data[i] === 0 && data[i + 1] === 0x72 && data[i + 2] === 0xb2;
    return count;
}"""
"""How many points of the timeline have the colour of the verifier."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_follows_the_readers_colours(browser: Browser, scheme: Any) -> None:
    async with opened(browser, FakeRuntime(), color_scheme=scheme) as page:
        background = await page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]


@pytest.mark.parametrize("context", [PHONE, {"viewport": {"width": 1280, "height": 800}}])
async def test_a_long_sentence_does_not_push_the_rest_aside(browser: Browser, context: Any) -> None:
    serving = a_serving(None, port=0)
    serving.waiting_for = "No verifier answers, for this reason or that. " * 20
    async with opened(browser, serving, **context) as page:
        ends = await page.page.eval_on_selector_all(
            "header, main, #new-chat, #figures, #composer",
            "all => all.map(one => one.getBoundingClientRect().right)",
        )
        assert max(ends) <= context["viewport"]["width"]


async def test_it_fits_a_phone(browser: Browser) -> None:
    async with opened(browser, FakeRuntime(answer="word " * 12 + "x" * 30), **PHONE) as page:
        await page.ask("y" * 200)
        await page.ended()
        widest = await page.page.evaluate("document.documentElement.scrollWidth")
        assert widest <= 390
        await page.page.click("#toggle-instruments")
        assert await page.page.is_hidden("#instruments")


# What goes wrong.


async def test_an_answer_can_be_stopped_and_what_was_written_stays(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await a_paused_answer(page, runtime)
        await page.page.click("#stop")
        await page.ended()
        assert await page.text() == HALF
        assert "stopped" in await page.page.inner_text(".meta")
        while runtime.num_running:  # noqa: ASYNC110 - the test's own time limit is the only one
            await asyncio.sleep(0.01)
        runtime.pause.set()
        await page.ask("Go on")
        await page.ended(2)
        assert await page.text(2) == ANSWER


async def test_escape_stops_it_too(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await a_paused_answer(page, runtime)
        await page.page.keyboard.press("Escape")
        await page.ended()
        assert await page.text() == HALF


async def test_after_an_error_in_the_middle_the_text_stays_and_it_can_be_tried_again(
    browser: Browser,
) -> None:
    runtime = FakeRuntime(error=UnavailableError("The verifier went away."), error_after=1)
    async with opened(browser, runtime) as page:
        await page.ask("Hi")
        await page.ended()
        assert await page.text() == HALF
        assert "The verifier went away." in await page.page.inner_text("[role=alert]")
        runtime.error = None
        await page.page.click("[role=alert] button")
        await page.page.wait_for_selector("[role=alert]", state="detached")
        await page.ended()
        assert await page.text() == ANSWER
        assert page.complaints == []


async def test_what_went_wrong_is_in_sight_at_the_end_of_a_long_answer(browser: Browser) -> None:
    error = UnavailableError("The verifier went away. " * 12)
    runtime = FakeRuntime(answer="word " * 160, error=error, error_after=1)
    async with opened(browser, runtime, **PHONE) as page:
        await page.ask("Hi")
        await page.ended()
        end = await page.page.eval_on_selector(
            "[role=alert]", "one => one.getBoundingClientRect().bottom"
        )
        assert end <= await page.page.eval_on_selector(
            "#composer", "one => one.getBoundingClientRect().top"
        )


async def test_a_daemon_without_a_verifier_says_so(browser: Browser) -> None:
    async with opened(browser, a_serving(None, port=0)) as page:
        assert "The daemon is starting" in await page.page.inner_text("#state")
        await page.ask("Hi")
        await page.ended()
        assert "The daemon is starting" in await page.page.inner_text("[role=alert]")


async def test_a_request_that_is_refused_shows_the_sentence_of_the_api(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.page.fill("#seed", "99999999999999999999999")
        await page.ask("Hi")
        await page.ended()
        assert "seed is" in await page.page.inner_text("[role=alert]")


async def test_a_number_that_cannot_be_is_not_sent(browser: Browser) -> None:
    runtime = FakeRuntime()
    async with opened(browser, runtime) as page:
        await page.page.fill("#max-tokens", "0")
        await page.ask("Hi")
        assert await page.page.input_value("#message") == "Hi"
        assert runtime.requests == []


async def test_a_stream_that_breaks_off_is_told_and_its_text_stays(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.page.route(f"**{CHAT}", broken_off)
        await page.ask("Hi")
        await page.ended()
        assert await page.text() == "It"
        assert "broke off" in await page.page.inner_text("[role=alert]")


async def broken_off(route: Route) -> None:
    token = {"kind": "token", "position": 3, "token": 1, "text": "It", "origin": "hedged"}
    token |= {"committed_at_s": 0.1, "pass_index": 0}
    piece = {"choices": [], "outrider": {"index": 0, "events": [token]}}
    await route.fulfill(
        body=f"data: {json.dumps(piece)}\n\n", headers={"content-type": "text/event-stream"}
    )


async def test_a_daemon_that_stops_is_told_and_the_text_stays(browser: Browser) -> None:
    runtime = FakeRuntime()
    serving = a_serving(runtime, port=0, stop_grace_s=0)
    async with listening(serving) as port, a_page(browser, f"http://127.0.0.1:{port}") as page:
        await a_paused_answer(page, runtime)
        serving.is_stopping = True
        serving.abort_all()
        await page.ended()
        assert await page.text() == HALF
        assert "The daemon stopped" in await page.page.inner_text("[role=alert]")
        await page.page.wait_for_selector("#state[data-state=stopping]")


async def test_a_daemon_that_is_gone_is_told(browser: Browser) -> None:
    async with opened(browser, FakeRuntime()) as page:
        await page.page.context.set_offline(True)
        await page.ask("Hi")
        await page.ended()
        assert "does not answer" in await page.page.inner_text("[role=alert]")
        await page.page.wait_for_selector("#state[data-state=away]")
        await page.page.context.set_offline(False)
        await page.page.wait_for_selector("#state[data-state=ready]")
