"""Keeps web pages of strangers away from an API on this machine.

A browser lets any page send requests to loopback. Two headers that pages cannot forge tell them
apart: `Origin` names the page, and `Host` the name under which it reached us, which is the page's
own where its DNS entry was pointed here (DNS rebinding). Knows nothing of what is asked.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outrider_edge.json_fields import shown
from outrider_edge.openai_errors import BadRequestError, error_answer

ANY: Final = "*"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:\d+)?")
_PREFLIGHT_SECONDS: Final = "600"


class BrowserGuard:
    """ASGI middleware that refuses requests from strange pages, and answers preflights.

    Requests without an Origin come from programs, which may do as they like on this machine.

    Args:
        app: what is guarded.
        allowed_hosts: names beside `localhost` and loopback addresses; `*` is any.
        allowed_origins: pages beside those that the daemon itself serves.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Collection[str], allowed_origins: Collection[str]
    ) -> None:
        self._app = app
        self._allowed_hosts = {name.lower() for name in allowed_hosts}
        self._allowed_origins = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with status 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_our_name(host):
            await _refusal("host", host, "--allowed-hosts")(scope, receive, send)
        elif origin is None:
            await self._app(scope, receive, send)
        elif origin != f"http://{host}" and origin not in self._allowed_origins:
            await _refusal("origin", origin, "--allowed-origins")(scope, receive, send)
        elif _is_preflight(scope, headers):
            await _preflight(origin, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, _readable_by(origin, send))

    def _is_our_name(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        name = match[1].strip("[]").lower() if match else ""
        return (
            name == "localhost"
            or is_loopback_address(name)
            or name in self._allowed_hosts
            or ANY in self._allowed_hosts
        )


def is_loopback_address(text: str) -> bool:
    """Whether a text is a numeric address that leads nowhere but to this machine."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _refusal(header: str, value: str, flag: str) -> Response:
    error = BadRequestError(
        f"The header {header.title()} is {shown(value)}, which may not use this API; "
        f"if it shall, name it with {flag}.",
        code=f"{header}_not_allowed",
        http_status=403,
    )
    return JSONResponse(error_answer(error).body, 403)


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _preflight(origin: str, headers: Headers) -> Response:
    allowed = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": headers.get("access-control-request-headers", ""),
        "access-control-max-age": _PREFLIGHT_SECONDS,
        "vary": "Origin",
    }
    if headers.get("access-control-request-private-network") == "true":
        allowed["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=allowed)


def _readable_by(origin: str, send: Send) -> Send:
    """Let the page read the answer."""

    async def send_with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_origin
