"""A headless Chromium, the machine's own, and a watch over what a page does in it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

PATIENCE_MS = 10_000

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """With a profile of its own, which is gone in the end."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("There is no chromium; install it with 'python tools/system_programs.py'.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        await browser.close()


@dataclass
class WatchedPage:
    """A page, and what went wrong in it.

    Attributes:
        page: it.
        url: of the daemon that serves it.
        complaints: errors and warnings of its console, and of its scripts.
        strangers: addresses that it asked beside the daemon's.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _see(self, request: Request) -> None:
        if not request.url.startswith(f"{self.url}/"):
            self.strangers.append(request.url)

    async def open(self) -> None:
        """Load the page, and wait until it has heard of the daemon."""
        await self.page.goto(f"{self.url}/")
        await self.page.wait_for_selector("#state:not([data-state=connecting])")

    async def ask(self, text: str) -> None:
        """Send a message as one who types does."""
        await self.page.fill("#message", text)
        await self.page.press("#message", "Enter")

    async def ended(self, turn: int = 1) -> None:
        """Wait for the end of the answer of one turn, however it comes."""
        await self.page.wait_for_selector(f".turn:nth-child({turn}) .text.over", state="attached")

    async def text(self, turn: int = 1) -> str:
        """The answer of one turn, letter for letter."""
        said = await self.page.text_content(f".turn:nth-child({turn}) .text")
        assert said is not None
        return said


@asynccontextmanager
async def a_page(browser: Browser, url: str, **context: Any) -> AsyncIterator[WatchedPage]:
    """A fresh page of a daemon.

    Args:
        browser: where.
        url: of the daemon.
        context: of the browser, such as `viewport` or `color_scheme`.
    """
    around = await browser.new_context(**context)
    around.set_default_timeout(PATIENCE_MS)
    try:
        page = WatchedPage(await around.new_page(), url)
        await page.open()
        yield page
    finally:
        await around.close()
