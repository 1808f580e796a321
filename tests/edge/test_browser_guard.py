"""Who may ask: names, pages and preflights."""

from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from outrider_edge.browser_guard import BrowserGuard


async def ask(guard: BrowserGuard, method: str = "GET", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(guard)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, "/", headers=named)


def a_guard(hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> BrowserGuard:
    return BrowserGuard(PlainTextResponse("in"), hosts, origins)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:7412", "127.3.2.1", "[::1]:7412", "box.lan:80"]
)
async def test_our_names_are_let_in(host: str) -> None:
    assert (await ask(a_guard(hosts=("Box.lan",)), host=host)).text == "in"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil", "10.0.0.1", "", "localhost:x", "[::2]", "a@localhost"],
)
async def test_other_names_are_not(host: str) -> None:
    response = await ask(a_guard(), host=host)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"


@given(st.from_regex(r"[a-z0-9.-]{1,30}(:[0-9]{1,5})?", fullmatch=True))
async def test_any_other_name_is_refused(host: str) -> None:
    name = host.partition(":")[0]
    is_ours = name == "localhost" or name.startswith("127.")
    status = (await ask(a_guard(), host=host)).status_code
    assert status == 403 or is_ours


async def test_a_star_lets_any_name_in() -> None:
    assert (await ask(a_guard(hosts=("*",)), host="anything.example")).text == "in"


async def test_a_page_that_is_allowed_may_read_the_answer() -> None:
    guard = a_guard(origins=("http://localhost:3000",))
    response = await ask(guard, origin="http://localhost:3000")
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert response.headers["vary"] == "Origin"


async def test_a_preflight_of_an_allowed_page_is_answered() -> None:
    asked: dict[str, Any] = {
        "origin": "http://localhost:3000",
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization,content-type",
        "access_control_request_private_network": "true",
    }
    response = await ask(a_guard(origins=("http://localhost:3000",)), "OPTIONS", **asked)
    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == "authorization,content-type"
    assert response.headers["access-control-allow-private-network"] == "true"
    assert (await ask(a_guard(), "OPTIONS", **asked)).status_code == 403
