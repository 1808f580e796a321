"""The daemon's web page: its files, and headers under which it can load nothing from elsewhere.

The files lie in `web/` and are served as they are; there is no build step. Knows nothing of what
they do.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DIRECTORY: Final = Path(__file__).parent / "web"
INDEX: Final = "index.html"

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing but the daemon's own files, no inline script or style, and no text read as HTML."""

_HEADERS: Final[Mapping[str, str]] = {
    "cache-control": "no-cache",  # a newer release is seen at once; what has not changed is a 304
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        body: what it holds.
        media_type: what that is.
    """

    body: bytes
    media_type: str

    @property
    def headers(self) -> dict[str, str]:
        """Those that it is served with."""
        digest = hashlib.sha256(self.body).hexdigest()[:32]
        return {**_HEADERS, "content-type": self.media_type, "etag": f'"{digest}"'}


def page_files() -> dict[str, PageFile]:
    """The files of the page, by name."""
    return {
        path.name: PageFile(path.read_bytes(), _MEDIA_TYPES[path.suffix])
        for path in sorted(DIRECTORY.iterdir())
        if path.suffix in _MEDIA_TYPES
    }


def page_routes() -> list[Route]:
    """The page at `/`, and what it loads under `/web/`."""
    files = page_files()

    async def serve(request: Request) -> Response:
        file = files.get(request.path_params.get("name", INDEX))
        if file is None:
            raise HTTPException(404)
        headers = file.headers
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers)

    return [Route("/", serve), Route("/web/{name}", serve)]
