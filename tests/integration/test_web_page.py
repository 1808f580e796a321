"""The daemon's page in a real browser, with a daemon, a verifier and models as users have them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from browsers import WatchedPage, a_browser, a_page
from daemons import RunningDaemon, running_daemon

pytestmark = pytest.mark.slow

QUESTION = "Count from one to twenty in words."
MAX_TOKENS = 32
ORIGINS = ("drafted", "guessed", "corrected", "hedged")


@pytest.fixture(scope="module")
def daemon(verifier_address: str, int8_bundle_dir: Path) -> Iterator[RunningDaemon]:
    """With a policy that always drafts: the default stops where the machine is too busy for it."""
    with running_daemon(verifier_address, int8_bundle_dir, "--policy", "chain") as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture(scope="module")
def usual(daemon: RunningDaemon) -> dict[str, Any]:
    """The answer under the daemon's own policy."""
    return answer_of_the_api(daemon)


def answer_of_the_api(daemon: RunningDaemon, **own: Any) -> dict[str, Any]:
    model = httpx2.get(f"{daemon.url}/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], **own}
    answer: dict[str, Any] = httpx2.post(
        f"{daemon.url}/v1/chat/completions", json=body | {"max_tokens": MAX_TOKENS}, timeout=120
    ).json()
    return answer


async def figure(page: WatchedPage, selector: str) -> str:
    return await page.page.inner_text(selector)


async def test_the_page_shows_what_the_api_answers_with_origins_history_and_a_comparison(
    daemon: RunningDaemon, usual: dict[str, Any]
) -> None:
    async with a_browser() as browser, a_page(browser, daemon.url) as page:
        await page.page.fill("#max-tokens", str(MAX_TOKENS))
        await page.ask(QUESTION)
        await page.page.wait_for_selector(".meta .compare", timeout=120_000)
        assert await page.text() == usual["choices"][0]["message"]["content"]
        counts = [int(await figure(page, f'[data-count="{origin}"]')) for origin in ORIGINS]
        assert sum(counts) == usual["usage"]["completion_tokens"]
        assert counts[0] > 0
        for name in ("speed", "per-pass", "first"):
            assert float((await figure(page, f"#figure-{name}")).split()[0]) > 0
        assert (await figure(page, "#figure-round-trip")).endswith(" ms")
        await page.page.hover('.text .token[data-origin="drafted"] >> nth=0')
        card = await figure(page, "#card")
        assert all(word in card for word in ("Drafted", "by lm", "Sent", "Committed", "Pass"))
        await page.page.click(".compare")
        await page.page.wait_for_selector(".verdict[role=status]", timeout=120_000)
        assert "the same text" in await figure(page, ".verdict")
        assert "measured" in await figure(page, "#figure-ratio")
        assert (page.complaints, page.strangers) == ([], [])


@pytest.mark.parametrize("policy", ["tree", "stop-and-wait", "cloud"])
def test_another_policy_for_one_request_writes_the_same_and_leaves_nothing_behind(
    daemon: RunningDaemon, usual: dict[str, Any], policy: str
) -> None:
    before = httpx2.get(f"{daemon.url}/status").json()
    own = answer_of_the_api(daemon, outrider={"policy": policy})
    after = httpx2.get(f"{daemon.url}/status").json()
    assert own["choices"][0]["message"] == usual["choices"][0]["message"]
    num_drafted = own["outrider"]["choices"][0]["num_draft_tokens"]
    assert (num_drafted == 0) == (policy == "cloud")
    assert after["estimates"] == before["estimates"]
    assert after["policy"] == "chain"


def test_a_daemon_without_a_drafter_refuses_policies_that_need_one(
    verifier_address: str, int8_bundle_dir: Path
) -> None:
    with running_daemon(verifier_address, int8_bundle_dir, "--policy", "cloud") as daemon:
        daemon.wait_until_ready()
        refused = answer_of_the_api(daemon, outrider={"policy": "tree"})
        assert refused["error"]["param"] == "outrider.policy"
        answered = answer_of_the_api(daemon, outrider={"policy": "cloud-lookup"})
        assert answered["outrider"]["choices"][0]["num_draft_tokens"] == 0
